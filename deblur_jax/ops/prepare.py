"""From raw uint8 batches to what networks see: floats, blurred if need be."""

from collections.abc import Callable

import jax.numpy as jnp

from deblur_jax.ops import blur
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.types import Batch, Key


def make_prepare(
  ranges: BlurRanges,
  crop: int = 0,
  per_shard: Callable[[Callable], Callable] = lambda function: function,
) -> Callable[[Batch, Key], Batch]:
  """Returns prepare(raw, key[B]) -> batch; pure, for use inside jit.

  Real pairs are only converted. Otherwise the sharp side is blurred, and what
  `blur.degrade` drew joins the batch. In a mixed batch, `real` bool[B] tells
  which blurred side counts; what was drawn for others is left out.

  Args:
    ranges: of the synthetic blur.
    crop: the central square that is kept after blurring; 0 keeps all.
    per_shard: wraps the blurring where the batch is spread over devices.
  """
  degrade = per_shard(lambda sharp, key: blur.degrade(sharp, key, ranges, crop))

  def prepare(raw: Batch, key: Key) -> Batch:
    whole = {s: raw[s] / 255.0 for s in ('blur', 'sharp') if s in raw}
    sides = {side: blur.centre(image, crop) for side, image in whole.items()}
    drawn = {}
    if 'blur' not in sides:
      sides['blur'], drawn = degrade(whole['sharp'], key)
    elif 'real' in raw:
      made, _ = degrade(whole['sharp'], key)
      real = raw['real'][:, None, None, None]
      sides['blur'] = jnp.where(real, sides['blur'], made)
    return {**raw, **drawn, **sides}

  return prepare
