"""Regression: one network maps blurred to sharp in one pass."""

from ml_collections import ConfigDict

from deblur_jax.families import choose
from deblur_jax.models import build
from deblur_jax.ops import losses, metrics
from deblur_jax.types import (
  Array,
  Batch,
  Family,
  Key,
  Metrics,
  Params,
)


def make(config: ConfigDict) -> Family:
  """Makes the family of `config.model`, trained by `config.loss`."""
  net = build.build(config.model, config.dtype, config.remat)
  whole = build.for_whole_pictures(net, config.data.crop)
  pixel_loss = choose('loss', config, losses.LOSSES)

  def init(key: Key, batch: Batch) -> Params:
    return {'net': net.init(key, batch['blur'])}

  def loss(
    params: Params, batch: Batch, key: Key, step: Array
  ) -> tuple[Array, Metrics]:
    del key, step  # deterministic
    restored = net.apply(params['net'], batch['blur'])
    value = pixel_loss(restored, batch['sharp']).mean()
    quality = metrics.psnr(restored.clip(0, 1), batch['sharp']).mean()
    return value, {'psnr': quality}

  def restore(params: Params, blur: Array, key: Key, origin: Array) -> Array:
    del key, origin  # deterministic
    return whole.apply(params['net'], blur).clip(0, 1)

  return Family(
    init=init,
    losses={'net': loss},
    schedule=('net',),
    restore=restore,
    ema=('net',) if config.ema.decay else (),
  )
