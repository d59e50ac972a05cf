"""From raw uint8 batches to what networks see: floats, blurred if need be."""

from collections.abc import Callable

import jax.numpy as jnp

from deblur_jax.ops import blur
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.types import Array, Batch, Key


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
  degrade = per_shard(lambda sharp, key: blur.degrade(sharp, key, ranges))

  def prepare(raw: Batch, key: Key) -> Batch:
    sides = {s: raw[s] / 255.0 for s in ('blur', 'sharp') if s in raw}
    drawn = {}
    if 'blur' not in sides:
      sides['blur'], drawn = degrade(sides['sharp'], key)
    elif 'real' in raw:
      made, _ = degrade(sides['sharp'], key)
      real = raw['real'][:, None, None, None]
      sides['blur'] = jnp.where(real, sides['blur'], made)
    if crop:
      sides = {side: _centre(image, crop) for side, image in sides.items()}
    return {**raw, **drawn, **sides}

  return prepare


def _centre(image: Array, side: int) -> Array:
  top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
  return image[:, top : top + side, left : left + side]
