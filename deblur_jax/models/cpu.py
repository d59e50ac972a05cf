"""Convolutions and sums in the forms that XLA's CPU backend runs well.

Each convolution equals `ordinary_conv`, in value and gradient. The sums are
written for all backends.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from deblur_jax.types import Array

_TAPS = [(i, j) for i in range(3) for j in range(3)]
_MANY = 32  # channels


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


def is_used() -> bool:
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


def channel_mean(x: Array) -> Array:
  """Means of x[...,C] over its channels, [...,1]."""
  if not is_used():
    return x.mean(-1, keepdims=True)
  # A product: XLA hands such sums to a library that crawls if C is small.
  c = x.shape[-1]
  means = x.reshape(-1, c) @ jnp.full((c, 1), 1 / c, x.dtype)
  return means.reshape(*x.shape[:-1], 1)


def channel_sum(x: Array) -> Array:
  """Sums x[...,C] to f32[C]."""
  x = x.reshape(-1, x.shape[-1])
  if not is_used():
    return x.sum(0, dtype=jnp.float32)
  # A product, as XLA would fuse a sum into what makes x, and crawl.
  ones = jnp.ones(x.shape[:1], x.dtype)
  return jnp.dot(ones, x, preferred_element_type=jnp.float32)


def pixel_sums(x: Array) -> Array:
  """Sums x[B,H,W,C] to f32[B,C]: `channel_sum`, each example by itself.

  A loop over the examples would send them from device to device, and `vmap` of
  the other makes a slower product.
  """
  x = x.reshape(len(x), -1, x.shape[-1])
  if not is_used():
    return x.sum(1, dtype=jnp.float32)
  ones = jnp.ones(x.shape[:2], x.dtype)
  return jnp.einsum('bn,bnc->bc', ones, x, preferred_element_type=jnp.float32)


@jax.custom_vjp
def shifted_products(x: Array, kernel: Array) -> Array:
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
  return shifted_products(x, kernel), (x, kernel)


def _shifted_products_bwd(saved, grad):
  x, kernel = saved
  turned = kernel[::-1, ::-1].swapaxes(2, 3)
  return shifted_products(grad, turned), _kernel_grad(x, grad)


shifted_products.defvjp(_shifted_products_fwd, _shifted_products_bwd)


@jax.custom_vjp
def quickly_learnt(x: Array, kernel: Array) -> Array:
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


quickly_learnt.defvjp(_quickly_learnt_fwd, _quickly_learnt_bwd)


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
def shifted_sum(x: Array, kernel: Array) -> Array:
  """Depthwise 3x3 as nine multiply-adds, on a CPU 80 times faster."""
  h, w = x.shape[1:3]
  x = _zero_border(x)
  taps = kernel.astype(x.dtype)[:, :, None, None]
  return sum(x[:, i : i + h, j : j + w] * taps[i, j] for i, j in _TAPS)


def _shifted_sum_fwd(x, kernel):
  return shifted_sum(x, kernel), (x, kernel)


def _shifted_sum_bwd(saved, grad):
  x, kernel = saved
  return shifted_sum(grad, kernel[::-1, ::-1]), _tap_sums(x, grad)


shifted_sum.defvjp(_shifted_sum_fwd, _shifted_sum_bwd)


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
    return channel_sum(
      sum(
        x[:, k + i : k + i + band, j : j + w] * grad[:, k : k + band]
        for k in range(0, h, band)
      )
    )

  return jnp.stack([tap(i, j) for i, j in _TAPS]).reshape(3, 3, 1, c)


def _zero_border(x: Array) -> Array:
  """Adds one pixel of zeros on each side of x[B,H,W,C]."""
  return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
