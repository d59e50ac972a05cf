"""UNet for diffusion: Ho et al. 2020 as thinned out by Whang et al. 2022.

Fully convolutional unless attention is asked for: nothing hangs on the size of
the picture or on the place in it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.models import cpu, layers, timestep
from deblur_jax.types import Array, InputError


class ResidualBlock(nn.Module):
  """Two convolutions; the first sees a scale and shift made from the time.

  It normalises each pixel over its channels. A group norm would average over
  the whole picture, and a tile would then differ from its place in the whole.
  """

  @nn.compact
  def __call__(self, x: Array, embedding: Array | None) -> Array:
    """Maps x[B,H,W,C], embedding [B,E] or None, to the same shape."""
    c = x.shape[-1]

    def norm(y, name, embedding=None):
      affine = layers.Affine(c, name=name)()
      return timestep.modulate(layers.normalize(y), affine, embedding)

    y = norm(x, 'norm1', embedding)
    first = layers.Weights((3, 3, c, c), name='conv1')
    y = layers.conv3x3(nn.silu(y), *first())
    y = norm(y, 'norm2')
    last = layers.Weights(
      (3, 3, c, c), init=nn.initializers.zeros, name='conv2'
    )
    return x + layers.conv3x3(nn.silu(y), *last())


class Attention(nn.Module):
  """Self-attention of one head over all pixels; starts as the identity."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps x[B,H,W,C] to the same shape; quadratic in H x W."""
    b, h, w, c = x.shape

    def conv(name, features, **how):
      return layers.Weights((1, 1, c, features), name=name, **how)()

    y = layers.conv1x1(layers.normalize(x), *conv('qkv', 3 * c))
    query, key, value = jnp.split(y.reshape(b, h * w, 1, 3 * c), 3, axis=-1)
    y = jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
    return x + layers.conv1x1(y, *conv('out', c, init=nn.initializers.zeros))


class UNet(nn.Module):
  """Denoises x f32[B,H,W,I] of any size, or restores it if no time is given.

  Attributes:
    channels: of the first level.
    multipliers: channels of each level, as multiples of the first one's.
    blocks: residual blocks of each level, on the way down and up alike.
    attention: levels, from 0, that end with self-attention: best at training
      crops, slow and less sure on whole photographs.
    halved: whether all levels work at half the size, on squares of 2x2 pixels.
    remat: whether the gradient computes blocks anew, to save memory.
    dtype: of the computation; parameters, norms and the result are float32.
  """

  channels: int = 32
  multipliers: tuple[int, ...] = (1, 2, 3, 4)
  blocks: int = 3
  attention: tuple[int, ...] = ()
  halved: bool = False
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, time: Array | None = None) -> Array:
    """Returns f32[B,H,W,3] for x f32[B,H,W,I] and time f32[B] in [0,1].

    The first three channels of x are a picture in [0,1]. Without a time, the
    result is added to it: an untrained network returns its input.
    """
    widths = [self.channels * m for m in self.multipliers]
    if not set(self.attention) <= set(range(len(widths))):
      raise InputError(
        f'unet.attention={self.attention}: levels are 0 to {len(widths) - 1}'
      )
    h, w = x.shape[1:3]
    embedding = timestep.embed(time, 4 * self.channels, self.dtype)

    def conv(name, *shape, **how):
      return layers.Weights(shape, name=name, **how)()

    multiple = 2 ** (len(widths) - 1 + self.halved)
    y = jnp.concatenate([2 * x[..., :3] - 1, x[..., 3:]], -1)
    y = layers.pad_to_multiple(y.astype(self.dtype), multiple)
    if self.halved:
      y = layers.space_to_depth(y)
    y = layers.conv3x3(y, *conv('intro', 3, 3, y.shape[-1], widths[0]))
    skips = []
    for level, c in enumerate(widths):
      if level:
        kernel = conv(f'down_{level}', 2, 2, y.shape[-1], c)
        y = layers.downsample2x2(y, *kernel)
      y = self._level(y, embedding, f'encoder_{level}', level)
      skips.append(y)
    for level, c in reversed(list(enumerate(widths))):
      if level < len(widths) - 1:
        shape = (1, 1, y.shape[-1], 4 * c)
        init = layers.subpixel_init
        y = layers.conv1x1(y, *conv(f'up_{level}', *shape, init=init))
        y = layers.pixel_shuffle(y) + skips[level]
      y = self._level(y, embedding, f'decoder_{level}', level)
    zeros = nn.initializers.zeros
    y = nn.silu(layers.normalize(y))
    colours = 12 if self.halved else 3
    y = layers.conv3x3(y, *conv('ending', 3, 3, widths[0], colours, init=zeros))
    if self.halved:
      y = layers.pixel_shuffle(y)
    y = y[:, :h, :w].astype(jnp.float32)
    return y if embedding is not None else x[..., :3] + y

  def _level(
    self, y: Array, embedding: Array | None, name: str, level: int
  ) -> Array:
    """The blocks of one level."""
    block = ResidualBlock(name=name)
    # On a CPU, convolutions crawl inside a loop.
    y = layers.in_sequence(
      block,
      y,
      self.blocks,
      embedding,
      unrolled=cpu.is_used(),
      remat=self.remat,
    )
    if level in self.attention:
      y = Attention(name=f'{name}_attention')(y)
    return y


Model = UNet
"""What config.model.name = 'unet' builds."""
