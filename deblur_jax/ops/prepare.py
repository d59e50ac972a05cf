"""From raw uint8 batches to what networks see: floats, blurred if need be."""

from collections.abc import Callable

import jax.numpy as jnp

from deblur_jax import keys as keys_lib
from deblur_jax.ops import blur, plain
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.types import Array, Batch, InputError, Key

_PLAIN = 2**31 - 1
"""Folded into an example's key for plain pictures.

Its blur splits the same key, and parts of a split are folds of 0, 1, 2...
"""


def make_prepare(
  ranges: BlurRanges,
  crop: int = 0,
  per_shard: Callable[[Callable], Callable] = lambda function: function,
  plain_probability: float = 0.0,
) -> Callable[[Batch, Key], Batch]:
  """Returns prepare(raw, key[B]) -> batch; pure, for use inside jit.

  Real pairs are only converted. Otherwise the sharp side is blurred, and what
  `blur.degrade` drew joins the batch. In a mixed batch, `real` bool[B] tells
  which blurred side counts; what was drawn for others is left out.

  Args:
    ranges: of the synthetic blur.
    crop: the central square that is kept after blurring; 0 keeps all.
    per_shard: wraps the blurring where the batch is spread over devices.
    plain_probability: how often plain areas take the place of a sharp side
      before it is blurred; see `plain.simplify`.

  Raises:
    InputError: plain_probability is no probability.
  """
  if not 0 <= plain_probability <= 1:
    raise InputError(
      f'config.data.plain_probability={plain_probability}: not in [0,1]'
    )
  degrade = per_shard(lambda sharp, key: blur.degrade(sharp, key, ranges, crop))

  def prepare(raw: Batch, key: Key) -> Batch:
    whole = {s: raw[s] / 255.0 for s in ('blur', 'sharp') if s in raw}
    if plain_probability and ('blur' not in raw or 'real' in raw):
      keys = keys_lib.fold_all(key, _PLAIN)
      simple = plain.simplify(whole['sharp'], keys, plain_probability)
      whole['sharp'] = _choose(raw, whole['sharp'], simple)
    sides = {side: blur.centre(image, crop) for side, image in whole.items()}
    drawn = {}
    if 'blur' not in sides:
      sides['blur'], drawn = degrade(whole['sharp'], key)
    elif 'real' in raw:
      made, _ = degrade(whole['sharp'], key)
      sides['blur'] = _choose(raw, sides['blur'], made)
    return {**raw, **drawn, **sides}

  return prepare


def _choose(raw: Batch, found: Array, made: Array) -> Array:
  """Returns what was found for real pairs, and what was made for others."""
  if 'real' not in raw:
    return made
  return jnp.where(raw['real'][:, None, None, None], found, made)
