"""NAFNet: Chen et al. 2022, 'Simple Baselines for Image Restoration'.

Parameters are named after the official torch network. Its weights become ours
by OIHW -> HWIO, [1,C,1,1] -> [C] and a new first axis for the blocks I of a
level L:

  intro, ending                    intro, ending           kernel, bias
  downs.L                          down_L                  kernel, bias
  ups.L.0                          up_L                    kernel
  encoders.L.I, decoders.L.I       encoder_L, decoder_L
  middle_blks.I                    middle
    .norm1, .norm2                   .norm1, .norm2        scale, bias
    .conv1 ... .conv5, .sca.1        .conv1 ... .conv5, .sca  kernel, bias
    .beta, .gamma                    .beta, .gamma
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.models import layers, timestep
from deblur_jax.types import Array, InputError

UPSAMPLINGS = ('shuffle', 'resize')


class NAFBlock(nn.Module):
  """One block; `window` as in `layers.local_mean`."""

  window: int = 0

  @nn.compact
  def __call__(self, x: Array, embedding: Array | None = None) -> Array:
    """Maps x[B,H,W,C], embedding [B,E] or None, to the same shape."""
    c = x.shape[-1]

    def norm(name):
      return layers.Affine(c, name=name)()

    def conv(name, *shape, **how):
      return layers.Weights(shape, name=name, **how)()

    def skip(name):
      return self.param(name, nn.initializers.zeros, (c,))

    y = layers.normalize(x)
    affine, wider = norm('norm1'), conv('conv1', 1, 1, c, 2 * c)
    if embedding is None:
      y = _widened(y, affine, wider)
    else:
      y = layers.conv1x1(timestep.modulate(y, affine, embedding), *wider)
    y = layers.depthwise3x3(y, *conv('conv2', 3, 3, 1, 2 * c))
    # From zero, as means times small weights, attention would be next to
    # nothing, and so would the gradient of all before it: many blocks of a deep
    # network would never learn to look at their neighbours.
    attention = conv('sca', 1, 1, c, c, bias_init=nn.initializers.ones)
    last = _scaled(skip('beta'), *conv('conv3', 1, 1, c, c))
    x += _attended(self.window, y, attention, last)

    y = layers.normalize(x)
    y = _widened(y, norm('norm2'), conv('conv4', 1, 1, c, 2 * c))
    last = _scaled(skip('gamma'), *conv('conv5', 1, 1, c, c))
    return x + _gated(y, last)


class NAFNet(nn.Module):
  """Restores x f32[B,H,W,I] of any size, or denoises it if a time is given.

  Attributes:
    width: channels of the first level; each further one has twice as many.
    encoder: blocks of each level on the way down.
    middle: blocks of the lowest level.
    decoder: blocks of each level on the way up.
    upsampling: 'shuffle' of subpixels, as published, or bilinear 'resize',
      which cannot leave a grid where the picture is flat.
    halved: whether all levels work at half the size, on squares of 2x2 pixels:
      a quarter of the work (Shi et al. 2016 put such a step at the end alone).
    pool: side, in pixels of the picture, of the window that takes the place of
      the global pool (Chu et al. 2022: 1.5 training crops); 0 for none.
    remat: whether the gradient computes blocks anew, to save memory.
    dtype: of the computation; parameters, norms and the result are float32.
  """

  width: int = 32
  encoder: tuple[int, ...] = (1, 1, 1, 28)
  middle: int = 1
  decoder: tuple[int, ...] = (1, 1, 1, 1)
  upsampling: str = 'shuffle'
  halved: bool = False
  pool: int = 0
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  def __post_init__(self):
    if self.upsampling not in UPSAMPLINGS:
      raise InputError(
        f'config.model.nafnet.upsampling={self.upsampling}: choose one of '
        f'{", ".join(UPSAMPLINGS)}'
      )
    if len(self.encoder) != len(self.decoder):
      raise InputError(
        f'config.model.nafnet: {len(self.encoder)} levels in encoder and '
        f'{len(self.decoder)} in decoder; both need as many'
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Array, time: Array | None = None) -> Array:
    """Returns f32[B,H,W,3] for x f32[B,H,W,I] and time f32[B] in [0,1].

    The first three channels of x are a picture in [0,1]. What lies beside it
    has a convolution of its own, which starts at zero: a network that has
    learnt to restore can learn to denoise (Zhang et al. 2023, 'ControlNet').
    Without a time, the result is added to the picture, which an untrained
    network so returns as it is. Blocks are told the time as in Luo et al. 2023
    ('Refusion'). Nothing is clipped.
    """
    levels = len(self.encoder)
    h, w = x.shape[1:3]
    embedding = timestep.embed(time, self.width, self.dtype)

    def conv(name, *shape, **how):
      return layers.Weights(shape, name=name, **how)()

    def up(name, x):
      c = x.shape[-1]
      if self.upsampling == 'resize':
        kernel = conv(name, 1, 1, c, c // 2, use_bias=False)
        return layers.resize2x(layers.conv1x1(x, *kernel))
      init = layers.subpixel_init
      kernel = conv(name, 1, 1, c, 2 * c, use_bias=False, init=init)
      return layers.pixel_shuffle(layers.conv1x1(x, *kernel))

    multiple = 2 ** (levels + self.halved)
    zeros = nn.initializers.zeros

    def enter(name, x, **how):
      x = layers.pad_to_multiple(x.astype(self.dtype), multiple)
      if self.halved:
        x = layers.space_to_depth(x)
      return layers.conv3x3(
        x, *conv(name, 3, 3, x.shape[-1], self.width, **how)
      )

    y = enter('intro', x[..., :3])
    if x.shape[-1] > 3:
      y += enter('beside', x[..., 3:], init=zeros)
    skips = []
    for level, count in enumerate(self.encoder):
      y = self._blocks(y, embedding, f'encoder_{level}', count, level)
      skips.append(y)
      c = y.shape[-1]
      y = layers.downsample2x2(y, *conv(f'down_{level}', 2, 2, c, 2 * c))
    y = self._blocks(y, embedding, 'middle', self.middle, levels)
    for i, count in enumerate(self.decoder):
      y = up(f'up_{i}', y) + skips.pop()
      y = self._blocks(y, embedding, f'decoder_{i}', count, levels - 1 - i)
    colours = 12 if self.halved else 3
    y = layers.conv3x3(
      y, *conv('ending', 3, 3, self.width, colours, init=zeros)
    )
    if self.halved:
      y = layers.pixel_shuffle(y)
    y = y[:, :h, :w].astype(jnp.float32)
    return y if embedding is not None else x[..., :3] + y

  def _blocks(
    self, y: Array, embedding: Array | None, name: str, count: int, level: int
  ) -> Array:
    """The blocks of one level."""
    if not count:
      return y
    window = -(-self.pool // 2 ** (level + self.halved))
    block = NAFBlock(window, name=name)
    return layers.in_sequence(block, y, count, embedding, remat=self.remat)


# The gradient keeps nothing of what is made in such a part of a block, and
# makes it anew from what the part was given: cheap products, and half of what a
# loop over blocks would write to memory and read again.
_lean = functools.partial(jax.checkpoint, prevent_cse=False)


@_lean
def _widened(
  x: Array, affine: tuple[Array, Array], weights: tuple[Array, Array]
) -> Array:
  """A 1x1 convolution of x after a scale and a shift.

  Both are folded into its weights: they cost nothing per pixel, neither here
  nor in the gradient.
  """
  scale, shift = affine
  kernel, bias = weights
  folded = layers.scale(kernel.swapaxes(2, 3), scale).swapaxes(2, 3)
  return layers.conv1x1(x, folded, bias + shift @ kernel[0, 0])


@_lean
def _gated(x: Array, weights: tuple[Array, Array]) -> Array:
  """A 1x1 convolution after the gate."""
  return layers.conv1x1(_gate(x), *weights)


@functools.partial(_lean, static_argnums=0)
def _attended(
  window: int,
  x: Array,
  attention: tuple[Array, Array],
  weights: tuple[Array, Array],
) -> Array:
  """As `_gated`, with each channel weighed by the means of all (SCA)."""
  y = _gate(x)
  y *= layers.conv1x1(layers.local_mean(y, window), *attention)
  return layers.conv1x1(y, *weights)


def _scaled(scale: Array, kernel: Array, bias: Array) -> tuple[Array, Array]:
  """Folds a scale of a convolution's output into its weights.

  Outside of what is lean: where parameters are in shares, the weights made anew
  would be so too, and pixels be gathered for them.
  """
  return layers.scale(kernel, scale), bias * scale


@jax.custom_vjp
def _gate(x: Array) -> Array:
  """SimpleGate: the product of the two halves of the channels."""
  a, b = jnp.split(x, 2, axis=-1)
  return a * b


def _gate_fwd(x):
  return _gate(x), x


def _gate_bwd(x, grad):
  a, b = jnp.split(x, 2, axis=-1)
  grads = jnp.concatenate([grad * b, grad * a], -1)
  # XLA would make it anew for each of its readers.
  return (jax.lax.optimization_barrier(grads),)


_gate.defvjp(_gate_fwd, _gate_bwd)


Model = NAFNet
"""What config.model.name = 'nafnet' builds."""
