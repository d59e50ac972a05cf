"""How a denoiser is told the time of its state."""

import flax.linen as nn
import jax.numpy as jnp

from deblur_jax.models import layers
from deblur_jax.types import Array

WAVES = 32
"""Frequencies that a time is told in."""


def embed(time: Array | None, size: int, dtype: jnp.dtype) -> Array | None:
  """Returns what every block is told: [B,size] for time f32[B] in [0,1].

  Waves (Ho et al. 2020) and two layers; called within a module, whose they are.
  A network that is given no time, None, tells its blocks None.
  """
  if time is None:
    return None
  rates = jnp.pi * jnp.logspace(0, 3, WAVES)
  phase = time[:, None] * rates[None]
  y = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1)
  y = nn.silu(nn.Dense(size, name='time_0')(y))
  return nn.silu(nn.Dense(size, name='time_1')(y)).astype(dtype)


def modulate(
  x: Array, affine: tuple[Array, Array], embedding: Array | None
) -> Array:
  """Scales and shifts a normalised x[B,H,W,C], by what the time asks for too.

  Args:
    x: of any size.
    affine: scale f32[C] and shift f32[C] of the norm.
    embedding: f32[B,E] of `embed`, to which one layer is applied; None for a
      network that is told no time.
  """
  c = x.shape[-1]
  scale, shift = (a[None] for a in affine)
  if embedding is not None:
    zeros = nn.initializers.zeros
    told = nn.Dense(2 * c, kernel_init=zeros, name='time')(embedding)
    scale, shift = scale + told[:, :c], shift + told[:, c:]
  return layers.modulate(x, scale, shift)
