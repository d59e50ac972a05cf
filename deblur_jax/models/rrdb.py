"""RRDB network: Wang et al. 2018, 'ESRGAN', on a picture brought down in size.

Dense blocks of 3x3 convolutions without any norm, each added to its input at a
fifth: what ESRGAN's generator is made of. Deblurring keeps the size, so the
blocks work below it, where they are cheap and see far.
"""

import flax.linen as nn
import jax.numpy as jnp

from deblur_jax.models import layers
from deblur_jax.types import Array

RESIDUAL_SCALE = 0.2
SLOPE = 0.2
"""Of the leaky ReLU below zero."""


class DenseBlock(nn.Module):
  """Five convolutions, each seeing all that came before it."""

  growth: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps x[B,H,W,C] to the same shape."""
    c, seen = x.shape[-1], [x]
    for i in range(5):
      y = jnp.concatenate(seen, -1)
      shape = (3, 3, y.shape[-1], self.growth if i < 4 else c)
      y = layers.looped_conv3x3(y, *layers.Weights(shape, name=f'conv{i}')())
      seen.append(nn.leaky_relu(y, SLOPE))
    return x + RESIDUAL_SCALE * y


class ResidualDenseBlock(nn.Module):
  """Three dense blocks in one residual.

  Unlike in the authors' code, only what they add is scaled down: there, each
  such block also enlarges its input, by a fifth.
  """

  growth: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps x[B,H,W,C] to the same shape."""
    y = x
    for i in range(3):
      y = DenseBlock(self.growth, name=f'dense{i}')(y)
    return x + RESIDUAL_SCALE * (y - x)


class RRDB(nn.Module):
  """Restores blur f32[B,H,W,3] in [0,1] of any size.

  Attributes:
    channels: of the trunk.
    growth: channels that each convolution of a dense block adds.
    blocks: residual-in-residual dense blocks.
    levels: halvings of the size before the blocks.
    remat: whether the gradient computes blocks anew, to save memory.
    dtype: of the computation; parameters and the result are float32.
  """

  channels: int = 64
  growth: int = 32
  blocks: int = 16
  levels: int = 2
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, blur: Array) -> Array:
    """Returns the restored picture f32[B,H,W,3], not clipped."""
    c, (h, w) = self.channels, blur.shape[1:3]

    def conv(name, *shape, **how):
      return layers.Weights(shape, name=name, **how)()

    x = layers.pad_to_multiple(blur.astype(self.dtype), 2**self.levels)
    x = layers.conv3x3(x, *conv('intro', 3, 3, 3, c))
    skips = []
    for level in range(self.levels):
      skips.append(x)
      x = layers.downsample2x2(x, *conv(f'down_{level}', 2, 2, c, c))
    trunk = ResidualDenseBlock(self.growth, name='trunk')
    y = layers.in_sequence(trunk, x, self.blocks, remat=self.remat)
    x += layers.conv3x3(y, *conv('trunk_end', 3, 3, c, c))
    for level in reversed(range(self.levels)):
      x = layers.resize2x(x) + skips[level]
      x = layers.conv3x3(x, *conv(f'merge_{level}', 3, 3, c, c))
      x = nn.leaky_relu(x, SLOPE)
    # An untrained network returns its input: training starts from there.
    ending = conv('ending', 3, 3, c, 3, init=nn.initializers.zeros)
    x = layers.conv3x3(x, *ending)
    return blur + x[:, :h, :w].astype(blur.dtype)


Model = RRDB
"""What config.model.name = 'rrdb' builds."""
