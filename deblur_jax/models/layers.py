"""Convolutions as plain functions, each in the form that its backend likes.

Kernels are laid out as in an ordinary flax convolution, HWIO, and each function
equals `jax.lax.conv_general_dilated` plus a bias, in value and gradient.
Parameters are float32 and are cast to the input's type where they are used.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.types import Array, Key

# Uniform in +-1/sqrt(fan_in), the usual start of a NAFNet.
kernel_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')

_TAPS = [(i, j) for i in range(3) for j in range(3)]
_MANY = 32  # channels


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
  return grad, _channel_sum(grad)


add_bias.defvjp(_add_bias_fwd, _add_bias_bwd)


@jax.custom_vjp
def scale(x: Array, factors: Array) -> Array:
  """Multiplies x[...,C] by factors f32[C]."""
  return x * _per_channel(factors, x)


def _scale_fwd(x, factors):
  return scale(x, factors), (x, factors)


def _scale_bwd(saved, grad):
  x, factors = saved
  return scale(grad, factors), _channel_sum(x * grad)


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
    return _channel_sum(y)[None] if len(scale) == 1 else _pixel_sums(y)

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
  conv = _quickly_learnt if is_cpu() else ordinary_conv
  return add_bias(conv(x, kernel), bias)


def looped_conv3x3(x: Array, kernel: Array, bias: Array) -> Array:
  """`conv3x3` for blocks in a loop: its gradient is 7 times faster there."""
  conv = _shifted_products if is_cpu() else ordinary_conv
  return add_bias(conv(x, kernel), bias)


def depthwise3x3(x: Array, kernel: Array, bias: Array) -> Array:
  """Depthwise 3x3, kernel f32[3,3,1,C], with zero padding: x[B,H,W,C]."""
  conv = _shifted_sum if is_cpu() else ordinary_conv
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
  y -= _channel_mean(y)
  rate = jax.lax.rsqrt(_channel_mean(y * y) + 1e-6)
  y = (y * rate).astype(x.dtype)
  return y, (y, rate)


def _normalize_bwd(saved, grad):
  y, rate = saved
  y, g = y.astype(jnp.float32), grad.astype(jnp.float32)
  g -= _channel_mean(g) + y * _channel_mean(g * y)
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

  chain = nn.scan(
    nn.remat(turn, prevent_cse=False) if remat else turn,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    length=count,
    unroll=count + 1 if unrolled or count == 1 else 1,
  )
  return chain(block, x, None)[0]


def ordinary_conv(x: Array, kernel: Array) -> Array:
  """Convolution with zero padding, depthwise if the kernel has one input."""
  return jax.lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    window_strides=(1, 1),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1] // kernel.shape[2],
  )


def is_cpu() -> bool:
  """Whether the code now traced takes the forms that a CPU likes."""
  return jax.default_backend() == 'cpu' and not _plain.get()


@contextlib.contextmanager
def plain() -> Iterator[None]:
  """Traces ordinary convolutions on a CPU too, to count what they cost."""
  token = _plain.set(True)
  try:
    yield
  finally:
    _plain.reset(token)


_plain = contextvars.ContextVar('plain', default=False)


def _channel_mean(x: Array) -> Array:
  """Means of x[...,C] over its channels, [...,1]."""
  if not is_cpu():
    return x.mean(-1, keepdims=True)
  # A product: XLA hands such sums to a library that crawls if C is small.
  c = x.shape[-1]
  means = x.reshape(-1, c) @ jnp.full((c, 1), 1 / c, x.dtype)
  return means.reshape(*x.shape[:-1], 1)


def _per_channel(values: Array, x: Array) -> Array:
  """Gives values f32[C] the type of x[...,C], and as many axes."""
  return values.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _channel_sum(x: Array) -> Array:
  """Sums x[...,C] to f32[C]."""
  x = x.reshape(-1, x.shape[-1])
  if not is_cpu():
    return x.sum(0, dtype=jnp.float32)
  # A product, as XLA would fuse a sum into what makes x, and crawl.
  ones = jnp.ones(x.shape[:1], x.dtype)
  return jnp.dot(ones, x, preferred_element_type=jnp.float32)


def _pixel_sums(x: Array) -> Array:
  """Sums x[B,H,W,C] to f32[B,C]: `_channel_sum`, each example by itself.

  A loop over the examples would send them from device to device, and `vmap` of
  the other makes a slower product.
  """
  x = x.reshape(len(x), -1, x.shape[-1])
  if not is_cpu():
    return x.sum(1, dtype=jnp.float32)
  ones = jnp.ones(x.shape[:2], x.dtype)
  return jnp.einsum('bn,bnc->bc', ones, x, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _shifted_products(x: Array, kernel: Array) -> Array:
  """3x3 convolution as nine products: its gradient is fast in a loop.

  On a CPU, XLA runs the gradient of an ordinary convolution there on one core
  and unoptimised. The convolution alone is faster in the ordinary form.
  """
  h, w = x.shape[1:3]
  x = _zero_border(x)
  kernel = kernel.astype(x.dtype)
  return sum(
    jnp.einsum('bhwi,io->bhwo', x[:, i : i + h, j : j + w], kernel[i, j])
    for i, j in _TAPS
  )


def _shifted_products_fwd(x, kernel):
  return _shifted_products(x, kernel), (x, kernel)


def _shifted_products_bwd(saved, grad):
  x, kernel = saved
  turned = kernel[::-1, ::-1].swapaxes(2, 3)
  return _shifted_products(grad, turned), _kernel_grad(x, grad)


_shifted_products.defvjp(_shifted_products_fwd, _shifted_products_bwd)


@jax.custom_vjp
def _quickly_learnt(x: Array, kernel: Array) -> Array:
  """`ordinary_conv` with a gradient of the kernel that a CPU makes quickly.

  XLA convolves x with the whole gradient. With 128 channels into 256 nine
  products are 11 times faster. With 32 into 3 it takes 7 times as long as to
  convolve the gradient with x, which comes to the same sums.
  """
  return ordinary_conv(x, kernel)


def _quickly_learnt_fwd(x, kernel):
  return ordinary_conv(x, kernel), (x, kernel)


def _quickly_learnt_bwd(saved, grad):
  x, kernel = saved
  x_grad = jax.vjp(lambda x: ordinary_conv(x, kernel), x)[1](grad)[0]
  if min(kernel.shape[2:]) >= _MANY:
    return x_grad, _kernel_grad(x, grad)
  if kernel.shape[2] <= kernel.shape[3]:
    return x_grad, _convolved_grad(x, grad)
  turned = _convolved_grad(grad, x)
  return x_grad, turned[::-1, ::-1].swapaxes(2, 3)


_quickly_learnt.defvjp(_quickly_learnt_fwd, _quickly_learnt_bwd)


def _convolved_grad(x: Array, grad: Array) -> Array:
  """The gradient f32[3,3,I,O] of a 3x3 kernel, as one convolution."""
  kernel = jnp.zeros((3, 3, x.shape[-1], grad.shape[-1]))
  return jax.vjp(lambda kernel: ordinary_conv(x, kernel), kernel)[1](grad)[0]


def _kernel_grad(x: Array, grad: Array) -> Array:
  """The gradient f32[3,3,I,O] of a 3x3 kernel, as nine products."""
  h, w = x.shape[1:3]
  x = _zero_border(x)
  grad = grad.reshape(-1, grad.shape[-1])

  def tap(i: int, j: int) -> Array:
    seen = x[:, i : i + h, j : j + w].reshape(-1, x.shape[-1])
    return jnp.dot(seen.T, grad, preferred_element_type=jnp.float32)

  taps = jnp.stack([tap(i, j) for i, j in _TAPS])
  return taps.reshape(3, 3, *taps.shape[1:])


@jax.custom_vjp
@jax.jit  # traced once a shape, however many blocks there are
def _shifted_sum(x: Array, kernel: Array) -> Array:
  """Depthwise 3x3 as nine multiply-adds, on a CPU 80 times faster."""
  h, w = x.shape[1:3]
  x = _zero_border(x)
  taps = kernel.astype(x.dtype)[:, :, None, None]
  return sum(x[:, i : i + h, j : j + w] * taps[i, j] for i, j in _TAPS)


def _shifted_sum_fwd(x, kernel):
  return _shifted_sum(x, kernel), (x, kernel)


def _shifted_sum_bwd(saved, grad):
  x, kernel = saved
  return _shifted_sum(grad, kernel[::-1, ::-1]), _tap_sums(x, grad)


_shifted_sum.defvjp(_shifted_sum_fwd, _shifted_sum_bwd)


@jax.jit
def _tap_sums(x: Array, grad: Array) -> Array:
  """The kernel's gradient f32[3,3,1,C]: sums of x, shifted, times grad.

  Eight bands of the picture are added up in one loop, so that only an eighth
  of each product comes to lie in memory.
  """
  h, w, c = x.shape[1:]
  band = h // math.gcd(h, 8)
  x, grad = _zero_border(x).astype(jnp.float32), grad.astype(jnp.float32)

  def tap(i: int, j: int) -> Array:
    return _channel_sum(
      sum(
        x[:, k + i : k + i + band, j : j + w] * grad[:, k : k + band]
        for k in range(0, h, band)
      )
    )

  return jnp.stack([tap(i, j) for i, j in _TAPS]).reshape(3, 3, 1, c)


def _zero_border(x: Array) -> Array:
  """Adds one pixel of zeros on each side of x[B,H,W,C]."""
  return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


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
