"""NAFNet as a whole, and the plain encoder-decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.models import cpu
from deblur_jax.models.encoder_decoder import EncoderDecoder
from deblur_jax.models.nafnet import NAFBlock, NAFNet
from deblur_jax.types import InputError

SMALL = {'width': 4, 'encoder': (1, 0), 'middle': 1, 'decoder': (0, 1)}


def picture(h, w, batch=1):
  return jax.random.uniform(jax.random.key(0), (batch, h, w, 3))


def randomised(net, x):
  """Parameters without the zeros that make a new network the identity."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(net.init, jax.random.key(0), x)
  return jax.tree.map(
    lambda p: rng.normal(0, 0.2, p.shape).astype(np.float32), shapes
  )


def run(net, params, x):
  return np.asarray(jax.jit(net.apply)(params, x))


def test_has_the_parameters_of_the_official_network():
  params = jax.eval_shape(NAFNet().init, jax.random.key(0), picture(16, 16))
  count = sum(p.size for p in jax.tree.leaves(params))
  assert count == 17_111_907
  shapes = jax.tree.map(lambda p: p.shape, params['params'])
  assert shapes['encoder_3']['conv2']['kernel'] == (28, 3, 3, 1, 512)
  assert shapes['encoder_3']['beta'] == (28, 256)
  assert shapes['up_0'] == {'kernel': (1, 1, 512, 1024)}


@pytest.mark.parametrize('upsampling', ['shuffle', 'resize'])
def test_no_grid_on_flat_colour_after_resizing(upsampling):
  net = NAFNet(**{**SMALL, 'upsampling': upsampling})
  flat = np.full((1, 48, 48, 3), (0.2, 0.5, 0.7), np.float32)
  inside = run(net, randomised(net, flat), flat)[0, 16:-16, 16:-16]
  change = np.abs(inside - flat[0, 0, 0]).max()
  grid = np.ptp(inside, (0, 1)).max()
  assert change > 0.01
  assert (grid < 1e-4 * change) == (upsampling == 'resize')


def test_unknown_upsampling_is_refused():
  with pytest.raises(InputError, match='upsampling=none'):
    NAFNet(upsampling='none')


def test_uneven_levels_are_refused():
  with pytest.raises(InputError, match='4 levels in encoder and 1 in decoder'):
    NAFNet(decoder=(1,))


def plain_block(p, x):
  """Chen et al. 2022, figure 3c: one operation after the other."""

  def conv(name, x):
    y = cpu.ordinary_conv(x, p[name]['kernel'])
    return y + p[name]['bias'].reshape(1, 1, 1, -1)

  def norm(name, x):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    scale, bias = (p[name][k].reshape(1, 1, 1, -1) for k in ('scale', 'bias'))
    return (x - mean) / jnp.sqrt(var + 1e-6) * scale + bias

  def gate(x):
    return x[..., : x.shape[-1] // 2] * x[..., x.shape[-1] // 2 :]

  def skip(name, x):
    return x * p[name].reshape(1, 1, 1, -1)

  y = gate(conv('conv2', conv('conv1', norm('norm1', x))))
  y = y * conv('sca', y.mean((1, 2), keepdims=True))
  x = x + skip('beta', conv('conv3', y))
  y = conv('conv5', gate(conv('conv4', norm('norm2', x))))
  return x + skip('gamma', y)


def test_block_equals_the_plain_sequence_of_operations():
  x = jax.random.normal(jax.random.key(0), (2, 5, 6, 4))
  params = randomised(NAFBlock(), x)
  want = plain_block(params['params'], x)
  np.testing.assert_allclose(run(NAFBlock(), params, x), want, atol=1e-5)


def test_new_blocks_are_the_identity():
  x = jax.random.normal(jax.random.key(0), (2, 5, 6, 4))
  y, _ = jax.jit(NAFBlock().init_with_output)(jax.random.key(1), x)
  np.testing.assert_array_equal(y, x)


def test_both_halves_of_new_blocks_learn_about_as_fast():
  x = jax.random.normal(jax.random.key(0), (2, 16, 16, 64))
  params = jax.jit(NAFBlock().init)(jax.random.key(1), x)

  def difference(params):
    target = jax.random.normal(jax.random.key(2), x.shape)
    return jnp.mean((NAFBlock().apply(params, x) - target) ** 2)

  grads = jax.jit(jax.grad(difference))(params)['params']
  spatial, pointwise = (jnp.abs(grads[k]).mean() for k in ('beta', 'gamma'))
  assert spatial > pointwise / 10


def test_blocks_of_a_level_start_differently():
  net = NAFNet(width=4, encoder=(2,), middle=0, decoder=(0,))
  params = jax.jit(net.init)(jax.random.key(0), picture(2, 2))['params']
  kernel = params['encoder_0']['conv1']['kernel']
  assert not np.allclose(kernel[0], kernel[1])


def test_blocks_of_a_level_run_in_order():
  net = NAFNet(width=4, encoder=(2,), middle=0, decoder=(0,))
  blur = picture(4, 4)
  params = randomised(net, blur)['params']
  blocks = jax.tree.map(lambda p: p[::-1], params['encoder_0'])
  first, second = (
    {'params': {**params, 'encoder_0': b}}
    for b in (params['encoder_0'], blocks)
  )
  assert np.abs(run(net, first, blur) - run(net, second, blur)).max() > 1e-4


def test_a_loop_keeps_no_products_for_the_gradient():
  count, c, h, w = 6, 4, 12, 20
  net = NAFNet(width=c, encoder=(count,), middle=0, decoder=(0,))
  shapes = jax.eval_shape(net.init, jax.random.key(0), picture(h, w))

  def pull_back(params):
    return jax.vjp(lambda params: net.apply(params, picture(h, w)), params)[1]

  kept = [
    leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(pull_back, shapes))
  ]
  blocks = [shape for shape in kept if shape[:1] == (count,)]
  of_pixels = [shape for shape in blocks if {h, h * w} & set(shape)]
  # What is normalised (twice c, and its two scales), and what the depthwise
  # convolution and both gates are given (three times 2c).
  assert sum(map(np.prod, of_pixels)) == count * h * w * (8 * c + 2)


def test_untrained_network_returns_its_input():
  net, blur = NAFNet(**SMALL), picture(7, 8)
  restored, _ = jax.jit(net.init_with_output)(jax.random.key(0), blur)
  np.testing.assert_array_equal(restored, blur)


@pytest.mark.parametrize('halved', [False, True])
@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (7, 5), (8, 8)])
def test_takes_any_size(shape, halved):
  net, blur = NAFNet(**SMALL, halved=halved), picture(*shape, batch=2)
  restored = run(net, randomised(net, blur), blur)
  assert restored.shape == blur.shape
  assert jnp.isfinite(restored).all()


def test_halved_works_on_squares_of_pixels():
  net = NAFNet(width=4, encoder=(0,), middle=0, decoder=(0,), halved=True)
  blur = picture(16, 16)
  params = randomised(net, blur)
  kernels = {n: params['params'][n]['kernel'] for n in ('intro', 'ending')}
  assert kernels['intro'].shape == (3, 3, 12, 4)
  assert kernels['ending'].shape == (3, 3, 4, 12)
  for kernel in kernels.values():
    centre = kernel[1, 1].copy()
    kernel[...] = 0
    kernel[1, 1] = centre
  # One level halves once more: squares of four pixels are alone now.
  other = blur.at[:, 6, 6].add(0.1)
  moved = np.abs(run(net, params, other) - run(net, params, blur)).max((0, 3))
  rows, columns = np.nonzero(moved > 1e-6)
  assert {*rows} == {*columns} == {4, 5, 6, 7}


def test_padding_mirrors_the_picture():
  net, blur = NAFNet(**SMALL), picture(6, 7)
  params = randomised(net, blur)
  mirrored = jnp.pad(blur, ((0, 0), (0, 2), (0, 1), (0, 0)), 'symmetric')
  want = run(net, params, mirrored)[:, :6, :7]
  np.testing.assert_array_equal(run(net, params, blur), want)


def test_pictures_of_a_batch_do_not_mix():
  net, blur = NAFNet(**SMALL), picture(8, 8, batch=2)
  params = randomised(net, blur)
  both, one = run(net, params, blur), run(net, params, blur[1:])
  np.testing.assert_allclose(both[1:], one, atol=1e-6)


def test_local_pool_equals_the_global_one_only_where_it_covers_the_picture():
  blur = picture(8, 16)
  params = randomised(NAFNet(**SMALL), blur)

  def restored(pool):
    return run(NAFNet(**SMALL, pool=pool), params, blur)

  np.testing.assert_allclose(restored(16), restored(0), atol=1e-6)
  assert jnp.abs(restored(8) - restored(0)).max() > 1e-4


def test_local_pool_limits_how_far_a_pixel_reaches():
  net = NAFNet(width=4, encoder=(1,), middle=0, decoder=(0,), pool=4)
  blur = picture(8, 64)
  params = randomised(net, blur)
  gap = jnp.abs(
    run(net, params, blur.at[:, :, :8].set(0)) - run(net, params, blur)
  )[:, :, 32:]
  assert not gap.any()


def test_computes_in_bfloat16_but_keeps_float32_outside():
  blur = picture(8, 8)
  net = NAFNet(**SMALL, dtype=jnp.bfloat16)
  params = randomised(net, blur)
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
  restored = run(net, params, blur)
  assert restored.dtype == jnp.float32
  exact = run(NAFNet(**SMALL), params, blur)
  assert 0 < jnp.abs(restored - exact).max() < 0.05 * jnp.abs(exact).max()


def test_encoder_decoder_is_the_origins_network():
  net, blur = EncoderDecoder(), picture(5, 6)
  params = jax.eval_shape(net.init, jax.random.key(0), blur)
  kernels = [k['kernel'].shape for k in params['params'].values()]
  channels = [3, 64, 128, 256, 128, 64, 3]
  pairs = zip(channels, channels[1:], strict=False)
  assert kernels == [(3, 3, i, o) for i, o in pairs]


def test_encoder_decoder_answers_in_the_unit_range():
  net, blur = EncoderDecoder(channels=(4, 4)), 100 * picture(5, 6)
  restored = run(net, jax.jit(net.init)(jax.random.key(0), blur), blur)
  assert restored.shape == blur.shape
  assert ((restored >= 0) & (restored <= 1)).all()
