"""Pixel losses between pictures f32[B,H,W,3] in [0,1]; each returns f32[B]."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from deblur_jax.types import Array

PIXELS = (1, 2, 3)


def charbonnier(restored: Array, sharp: Array) -> Array:
  """Mean of sqrt(d^2 + 1e-6): L1, smooth at zero (Charbonnier et al. 1994)."""
  return jnp.mean(jnp.sqrt((restored - sharp) ** 2 + 1e-6), PIXELS)


def l1(restored: Array, sharp: Array) -> Array:
  """Mean absolute difference."""
  return jnp.mean(jnp.abs(restored - sharp), PIXELS)


def mse(restored: Array, sharp: Array) -> Array:
  """Mean squared difference."""
  return jnp.mean((restored - sharp) ** 2, PIXELS)


def psnr(restored: Array, sharp: Array) -> Array:
  """Negative PSNR in dB, as NAFNet is trained with (Chen et al. 2022)."""
  return 10 * jnp.log10(mse(restored, sharp) + 1e-8)


LOSSES: Mapping[str, Callable[[Array, Array], Array]] = {
  'charbonnier': charbonnier,
  'l1': l1,
  'mse': mse,
  'psnr': psnr,
}
