"""Every layer equals the ordinary one, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.models import layers

# name -> (function, kernel shape, stride)
CONVS = {
  '1x1': (layers.conv1x1, (1, 1, 4, 6), 1),
  '3x3': (layers.conv3x3, (3, 3, 4, 6), 1),
  '3x3 in a loop': (layers.looped_conv3x3, (3, 3, 4, 6), 1),
  '3x3 of few channels': (layers.conv3x3, (3, 3, 4, 2), 1),
  '3x3 of many channels': (layers.conv3x3, (3, 3, 32, 32), 1),
  'depthwise': (layers.depthwise3x3, (3, 3, 1, 4), 1),
  '2x2 stride 2': (layers.downsample2x2, (2, 2, 4, 8), 2),
}


def ordinary(x, kernel, bias, stride):
  y = jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1] // kernel.shape[2],
    precision='highest',
  )
  return y + bias.reshape(1, 1, 1, -1)


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def channels(kernel_shape):
  """Those of a convolution's input; a depthwise kernel has one of each."""
  _, _, ins, outs = kernel_shape
  return outs if ins == 1 else ins


def weighted_sum(fn, weights):
  """A scalar of fn(...) whose gradient differs from one output to the next."""
  return lambda *args: (fn(*args) * weights).sum()


@pytest.mark.parametrize('name', CONVS)
@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
@pytest.mark.parametrize('shape', [(2, 6, 8), (1, 8, 2)])
def test_convolution_equals_the_ordinary_one(monkeypatch, name, shape, backend):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  fn, kernel_shape, stride = CONVS[name]
  x = normal(0, *shape, channels(kernel_shape))
  args = x, normal(1, *kernel_shape), normal(2, kernel_shape[3])
  expected = ordinary(*args, stride)
  made = jax.jit(lambda *a: fn(*a))(*args)  # not the trace of the other backend
  np.testing.assert_allclose(made, expected, atol=1e-5)
  weights = normal(3, *expected.shape)
  grads = jax.jit(jax.grad(weighted_sum(fn, weights), (0, 1, 2)))(*args)
  reference = weighted_sum(lambda *a: ordinary(*a, stride), weights)
  wanted = jax.jit(jax.grad(reference, (0, 1, 2)))(*args)
  for got, want in zip(grads, wanted, strict=True):
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize('name', CONVS)
def test_computes_in_the_type_of_its_input(name):
  fn, kernel_shape, _ = CONVS[name]
  x = normal(0, 1, 4, 4, channels(kernel_shape)).astype(jnp.bfloat16)
  kernel, bias = normal(1, *kernel_shape), normal(2, kernel_shape[3])
  assert jax.eval_shape(fn, x, kernel, bias).dtype == jnp.bfloat16
  grad = jax.grad(lambda *w: fn(x, *w).sum(), (0, 1))
  grads = jax.eval_shape(grad, kernel, bias)
  assert all(g.dtype == jnp.float32 for g in grads)


def test_bias_gradient_of_bfloat16_adds_in_float32():
  x = jnp.ones((1, 64, 64, 2), jnp.bfloat16)
  grad = jax.grad(lambda b: layers.add_bias(x, b).astype(jnp.float32).sum())
  np.testing.assert_array_equal(grad(jnp.zeros(2)), [4096, 4096])


def plain_normalize(x):
  return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
    x.var(-1, keepdims=True) + 1e-6
  )


def test_normalize_equals_its_formula():
  x, weights = 3 + 2 * normal(0, 2, 3, 3, 8), normal(1, 2, 3, 3, 8)
  np.testing.assert_allclose(layers.normalize(x), plain_normalize(x), atol=1e-5)
  got = jax.jit(jax.grad(weighted_sum(layers.normalize, weights)))(x)
  want = jax.jit(jax.grad(weighted_sum(plain_normalize, weights)))(x)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_normalize_of_bfloat16_has_float32_statistics():
  x = (256 + normal(0, 4, 64)).astype(jnp.bfloat16)
  want = layers.normalize(x.astype(jnp.float32))
  got = layers.normalize(x).astype(jnp.float32)
  assert jnp.abs(got - want).max() < 0.02


def test_pixel_shuffle_orders_channels_as_torch():
  x = np.random.default_rng(0).normal(size=(1, 2, 3, 8)).astype(np.float32)
  y = layers.pixel_shuffle(jnp.asarray(x))
  assert y.shape == (1, 4, 6, 2)
  for i, j, c in np.ndindex(2, 2, 2):
    np.testing.assert_array_equal(
      y[0, i::2, j::2, c], x[0, :, :, 4 * c + 2 * i + j]
    )


def test_resize2x_is_the_librarys_bilinear_resize():
  x = normal(0, 2, 3, 5, 4)
  expected = jax.image.resize(x, (2, 6, 10, 4), 'bilinear')
  np.testing.assert_allclose(layers.resize2x(x), expected, atol=1e-6)


def test_subpixel_init_is_nearest_neighbour_upsampling():
  kernel = layers.subpixel_init(jax.random.key(0), (1, 1, 4, 8))
  y = layers.pixel_shuffle(layers.conv1x1(normal(0, 1, 2, 3, 4), kernel))
  np.testing.assert_array_equal(y, y[:, ::2, ::2].repeat(2, 1).repeat(2, 2))
  assert not np.allclose(y[..., 0], y[..., 1])


def slow_local_mean(x, window):
  """Chu et al. 2022: means of the whole windows, edges replicated."""
  h, w = x.shape[1:3]
  kh, kw = min(window, h), min(window, w)
  out = np.empty_like(x)
  for i, j in np.ndindex(h, w):
    top = np.clip(i - (kh - 1) // 2, 0, h - kh)
    left = np.clip(j - (kw - 1) // 2, 0, w - kw)
    out[:, i, j] = x[:, top : top + kh, left : left + kw].mean((1, 2))
  return out


@pytest.mark.parametrize(
  ('h', 'w', 'window'),
  [
    (1, 1, 1),
    (1, 9, 4),
    (7, 5, 1),
    (7, 5, 3),
    (6, 11, 7),
    (8, 8, 8),
    (9, 4, 6),
  ],
)
def test_local_mean_equals_its_definition(h, w, window):
  x = np.random.default_rng(0).normal(size=(1, h, w, 2)).astype(np.float32)
  got = jax.jit(layers.local_mean, static_argnums=1)(x, window)
  want = slow_local_mean(x, window)
  np.testing.assert_allclose(jnp.broadcast_to(got, x.shape), want, atol=1e-5)


def test_local_mean_is_exact_far_along_a_wide_picture():
  x = jnp.tile(jnp.asarray([0.0, 1.0]), 10_000).reshape(1, 1, 20_000, 1)
  x = x.at[:, :, :10_000].multiply(1e4)
  far = jax.jit(layers.local_mean, static_argnums=1)(x, 384)[0, 0, 11_000:, 0]
  np.testing.assert_allclose(far, 0.5, rtol=1e-6)
