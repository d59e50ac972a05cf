"""Convolutions as plain functions, each in the form that its backend likes.

Kernels are laid out as in an ordinary flax convolution, HWIO, and each function
equals `jax.lax.conv_general_dilated` plus a bias, in value and gradient.
Parameters are float32 and are cast to the input's type where they are used.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.models import cpu
from deblur_jax.types import Array, Key

# Uniform in +-1/sqrt(fan_in), the usual start of a NAFNet.
kernel_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def subpixel_init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
  """Starts the four subpixels of a channel alike, so as nearest neighbours.

  Aitken et al. 2017 (ICNR): no checkerboard is born before `pixel_shuffle`.
  """
  kernel = kernel_init(key, (*shape[:-1], shape[-1] // 4), dtype)
  return jnp.repeat(kernel, 4, axis=-1)


class Weights(nn.Module):
  """The parameters of one convolution, its kernel of the shape given."""

  shape: tuple[int, int, int, int]
  use_bias: bool = True
  init: nn.initializers.Initializer = kernel_init
  bias_init: nn.initializers.Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(self) -> tuple[Array, ...]:
    """Returns kernel f32[kh,kw,I,O] and, where used, bias f32[O]."""
    kernel = self.param('kernel', self.init, self.shape)
    if not self.use_bias:
      return (kernel,)
    return kernel, self.param('bias', self.bias_init, self.shape[-1:])


class Affine(nn.Module):
  """The parameters of one normalisation."""

  features: int

  @nn.compact
  def __call__(self) -> tuple[Array, Array]:
    """Returns scale f32[C] and bias f32[C]."""
    scale = self.param('scale', nn.initializers.ones, (self.features,))
    return scale, self.param('bias', nn.initializers.zeros, (self.features,))


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
  """Adds bias f32[C] to x[...,C]."""
  return x + _per_channel(bias, x)


def _add_bias_fwd(x, bias):
  return add_bias(x, bias), None


def _add_bias_bwd(_, grad):
  return grad, cpu.channel_sum(grad)


add_bias.defvjp(_add_bias_fwd, _add_bias_bwd)


@jax.custom_vjp
def scale(x: Array, factors: Array) -> Array:
  """Multiplies x[...,C] by factors f32[C]."""
  return x * _per_channel(factors, x)


def _scale_fwd(x, factors):
  return scale(x, factors), (x, factors)


def _scale_bwd(saved, grad):
  x, factors = saved
  return scale(grad, factors), cpu.channel_sum(x * grad)


scale.defvjp(_scale_fwd, _scale_bwd)


@jax.custom_vjp
def modulate(x: Array, scale: Array, shift: Array) -> Array:
  """Scales and shifts x[B,H,W,C] by [B,C], or by [1,C] for all examples."""
  scale, shift = (a.astype(x.dtype)[:, None, None] for a in (scale, shift))
  return x * scale + shift


def _modulate_fwd(x, scale, shift):
  return modulate(x, scale, shift), (x, scale)


def _modulate_bwd(saved, grad):
  x, scale = saved

  def over_pixels(y):
    return cpu.channel_sum(y)[None] if len(scale) == 1 else cpu.pixel_sums(y)

  grads = grad * scale.astype(grad.dtype)[:, None, None]
  return grads, over_pixels(x * grad), over_pixels(grad)


modulate.defvjp(_modulate_fwd, _modulate_bwd)


def conv1x1(x: Array, kernel: Array, bias: Array | None = None) -> Array:
  """1x1 convolution as a matrix product: x[B,H,W,I] -> [B,H,W,O]."""
  y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0].astype(x.dtype)
  y = y.reshape(*x.shape[:-1], -1)
  return y if bias is None else add_bias(y, bias)


def conv3x3(x: Array, kernel: Array, bias: Array) -> Array:
  """3x3 convolution with zero padding: x[B,H,W,I] -> [B,H,W,O]."""
  conv = cpu.quickly_learnt if cpu.is_used() else cpu.ordinary_conv
  return add_bias(conv(x, kernel), bias)


def looped_conv3x3(x: Array, kernel: Array, bias: Array) -> Array:
  """`conv3x3` for blocks in a loop: its gradient is 7 times faster there."""
  conv = cpu.shifted_products if cpu.is_used() else cpu.ordinary_conv
  return add_bias(conv(x, kernel), bias)


def depthwise3x3(x: Array, kernel: Array, bias: Array) -> Array:
  """Depthwise 3x3, kernel f32[3,3,1,C], with zero padding: x[B,H,W,C]."""
  conv = cpu.shifted_sum if cpu.is_used() else cpu.ordinary_conv
  return add_bias(conv(x, kernel), bias)


def downsample2x2(x: Array, kernel: Array, bias: Array) -> Array:
  """2x2 convolution of stride 2 as a product: x[B,2H,2W,I] -> [B,H,W,O]."""
  c = x.shape[-1]
  return conv1x1(space_to_depth(x), kernel.reshape(1, 1, 4 * c, -1), bias)


def space_to_depth(x: Array) -> Array:
  """Puts squares of 2x2 pixels into channels: x[B,2H,2W,C] -> [B,H,W,4C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // 2, w // 2, 4 * c)


def pixel_shuffle(x: Array) -> Array:
  """Depth to space, channels ordered as torch's: x[B,H,W,4C] -> [B,2H,2W,C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
  return x.reshape(b, 2 * h, 2 * w, c // 4)


def resize2x(x: Array) -> Array:
  """Bilinear resize: x[B,H,W,C] -> [B,2H,2W,C], pixels being areas.

  What is flat stays flat, whatever was learnt (Odena et al. 2016).
  """
  for axis in (1, 2):
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 1)
    padded = jnp.pad(x, pads, 'edge')
    n = x.shape[axis]
    before = jax.lax.slice_in_dim(padded, 0, n, axis=axis)
    after = jax.lax.slice_in_dim(padded, 2, n + 2, axis=axis)
    pair = jnp.stack([3 * x + before, 3 * x + after], axis + 1) / 4
    x = pair.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
  return x


def pad_to_multiple(x: Array, multiple: int) -> Array:
  """Mirrors x[B,H,W,C] at its lower and right edges up to a multiple."""
  h, w = x.shape[1:3]
  pads = ((0, 0), (0, -h % multiple), (0, -w % multiple), (0, 0))
  return jnp.pad(x, pads, 'symmetric')


@jax.custom_vjp
def normalize(x: Array) -> Array:
  """Layer norm over the channels of x[...,C] without its scale and bias."""
  return _normalize_fwd(x)[0]


def _normalize_fwd(x):
  y = x.astype(jnp.float32)
  y -= cpu.channel_mean(y)
  rate = jax.lax.rsqrt(cpu.channel_mean(y * y) + 1e-6)
  y = (y * rate).astype(x.dtype)
  return y, (y, rate)


def _normalize_bwd(saved, grad):
  y, rate = saved
  y, g = y.astype(jnp.float32), grad.astype(jnp.float32)
  g -= cpu.channel_mean(g) + y * cpu.channel_mean(g * y)
  return ((g * rate).astype(grad.dtype),)


normalize.defvjp(_normalize_fwd, _normalize_bwd)


def local_mean(x: Array, window: int) -> Array:
  """Mean over a window x window square around each pixel of x[B,H,W,C].

  A window is moved to lie inside the picture, as in Chu et al. 2022 (TLC). One
  that covers the picture gives the global mean [B,1,1,C], and so does 0.
  """
  y = x.astype(jnp.float32)
  if not window or window >= max(x.shape[1:3]):
    return y.mean((1, 2), keepdims=True).astype(x.dtype)
  for axis in (1, 2):
    size = min(window, x.shape[axis])
    pad = [(0, 0)] * x.ndim
    pad[axis] = ((size - 1) // 2, size // 2)
    y = jnp.pad(_window_sum(y, size, axis) / size, pad, 'edge')
  return y.astype(x.dtype)


def in_sequence(
  block: nn.Module,
  x: Array,
  count: int,
  *args,
  unrolled: bool = False,
  remat: bool = False,
) -> Array:
  """Applies `count` blocks of one kind, compiled once for all of them.

  Args:
    block: maps x and args to the shape of x; its parameters get a first axis.
    x: what the first block is given.
    count: blocks, each with parameters of its own.
    *args: what all blocks are given as well.
    unrolled: whether all are compiled, one after the other; one alone always
      is, to stay in sight of the compiler.
    remat: whether the gradient computes each block anew instead of keeping
      what lies inside it (Chen et al. 2016).
  """

  def turn(block: nn.Module, x: Array, _) -> tuple[Array, None]:
    return block(x, *args), None

  inlined = unrolled or count == 1
  chain = nn.scan(
    # Outside a loop, a compiler might share the work with the forward pass.
    nn.remat(turn, prevent_cse=inlined) if remat else turn,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    length=count,
    unroll=count + 1 if inlined else 1,
  )
  return chain(block, x, None)[0]


def _per_channel(values: Array, x: Array) -> Array:
  """Gives values f32[C] the type of x[...,C], and as many axes."""
  return values.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _window_sum(x: Array, window: int, axis: int) -> Array:
  """Sums over all whole windows along an axis.

  Each is made of two of half its width: a few additions a pixel and, unlike a
  difference of running sums, as exact on a large picture as on a small one.
  """
  if window == 1:
    return x
  count = x.shape[axis] - window + 1

  def cut(y: Array, start: int) -> Array:
    return jax.lax.slice_in_dim(y, start, start + count, axis=axis)

  sums = _window_sum(x, window // 2, axis)
  pair = cut(sums, 0) + cut(sums, window // 2)
  return pair + cut(x, window - 1) if window % 2 else pair
