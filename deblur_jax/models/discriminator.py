"""Conditional PatchGAN: Isola et al. 2017, at one scale or several.

It judges a picture together with the blurred one that it was made from.
"""

import flax.linen as nn
import jax.numpy as jnp

from deblur_jax.types import Array

SLOPE = 0.2
"""Of the leaky ReLU below zero."""

WIDEST = 8
"""Channels grow to this multiple of the first layer's, as in the paper."""


class PatchDiscriminator(nn.Module):
  """One column of convolutions of stride 2, then a verdict on each patch.

  Attributes:
    channels: of the first layer, doubled by each further one up to eightfold.
    layers: halvings of the size; 3 see patches of 70 pixels (Isola et al.).
    groups: of the group norm; 0 for no norm.
    dtype: of the computation; parameters and results are float32.
  """

  channels: int
  layers: int
  groups: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, list[Array]]:
    """Returns verdicts f32[B,h,w,1] and the layers' features, for [B,H,W,6]."""
    features = []
    for i in range(self.layers + 1):
      width = self.channels * min(2**i, WIDEST)
      stride = 2 if i < self.layers else 1
      x = nn.Conv(width, (4, 4), (stride, stride), dtype=self.dtype)(x)
      if i and self.groups:
        x = nn.GroupNorm(self.groups, dtype=self.dtype)(x)
      x = nn.leaky_relu(x, SLOPE)
      features.append(x)
    x = nn.Conv(1, (4, 4), dtype=self.dtype)(x)
    return x.astype(jnp.float32), features


class Discriminator(nn.Module):
  """Judges pictures by patches, at each of several sizes of patch.

  Attributes:
    channels, groups, dtype: as of `PatchDiscriminator`.
    layers: halvings of each column; (3, 5) judges patches and, on crops of 256
      pixels, the whole picture (Kupyn et al. 2019, 'DeblurGAN-v2').
  """

  channels: int = 64
  layers: tuple[int, ...] = (3, 5)
  groups: int = 0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, blur: Array, image: Array
  ) -> tuple[list[Array], list[Array]]:
    """Returns verdicts and features of all columns; pictures in [0,1]."""
    x = 2 * jnp.concatenate([blur, image], -1) - 1
    verdicts, features = [], []
    for i, count in enumerate(self.layers):
      column = PatchDiscriminator(
        self.channels, count, self.groups, self.dtype, name=f'column_{i}'
      )
      verdict, seen = column(x)
      verdicts.append(verdict)
      features += seen
    return verdicts, features
