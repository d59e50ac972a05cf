"""What a sample costs, and what denoisers take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import trained
from deblur_jax.families import diffusion as family_of
from deblur_jax.models import nafnet, unet
from deblur_jax.types import InputError
from tests.runs import tiny_config


def make_config(**changes):
  config = tiny_config()
  config.family = 'diffusion'
  config.model.name = 'unet'
  config.update_from_flattened_dict(changes)
  return config


def pictures(count, side=20):
  return jax.random.uniform(jax.random.key(0), (count, side, side + 3, 3))


@pytest.mark.parametrize(('nfe', 'samples'), [(1, 1), (5, 1), (3, 2)])
def test_a_sample_costs_its_evaluations_and_one_first_pass(
  nfe, samples, monkeypatch
):
  calls = {'denoiser': 0, 'predictor': 0}

  def counted(name, function):
    def count():
      calls[name] += 1

    def called(*args):
      jax.debug.callback(count)
      return function(*args)

    return called

  monkeypatch.setattr(
    family_of, 'denoise', counted('denoiser', family_of.denoise)
  )
  make_refine = family_of.make_refine

  def make_counted(config, whole):
    process = make_refine(config, whole)
    first = counted('predictor', process.first)
    return family_of.dataclasses.replace(process, first=first)

  monkeypatch.setattr(family_of, 'PROCESSES', {'refine': make_counted})
  config = make_config(**{'sampler.nfe': nfe, 'sampler.samples': samples})
  family = family_of.make(config)
  blur = pictures(1)
  params = jax.jit(family.init)(jax.random.key(0), {'blur': blur})
  calls.update(denoiser=0, predictor=0)
  restore = jax.jit(trained.make_restore(config, family))
  jax.block_until_ready(restore(params, blur, jnp.arange(1)))
  jax.effects_barrier()
  assert calls == {'denoiser': nfe * samples, 'predictor': 1}


def test_without_an_evaluation_the_first_pass_is_the_result():
  family = family_of.make(make_config(**{'sampler.nfe': 0}))
  blur, keys = pictures(2), jax.random.split(jax.random.key(1), 2)
  params = jax.jit(family.init)(jax.random.key(0), {'blur': blur})
  params = jax.tree.map(lambda leaf: leaf + 0.01, params)
  process = family_of.make_refine(make_config(), whole=True)
  first = process.first(params['net'], blur).clip(0, 1)
  assert jnp.abs(first - blur).max() > 0.01
  restored = family.restore(params, blur, keys, jnp.zeros((2, 2), jnp.int32))
  np.testing.assert_array_equal(restored, first)
  with pytest.raises(InputError, match='process.name=indi has no first pass'):
    family_of.make(make_config(**{'sampler.nfe': 0, 'process.name': 'indi'}))


def test_a_shape_is_compiled_once():
  config = make_config()
  family = family_of.make(config)
  params = jax.jit(family.init)(jax.random.key(0), {'blur': pictures(1)})
  traced = []

  def restore(params, blur, ids):
    traced.append(blur.shape)
    return trained.make_restore(config, family)(params, blur, ids)

  compiled = jax.jit(restore)
  for number in range(3):
    for blur in (pictures(1), pictures(1, 17)):
      compiled(params, blur, jnp.arange(1) + number)
  assert len(traced) == 2


@pytest.mark.parametrize('halved', [False, True])
@pytest.mark.parametrize(
  'net',
  [
    unet.UNet(channels=8, multipliers=(1, 2), blocks=2),
    nafnet.NAFNet(width=8, encoder=(2,), middle=0, decoder=(1,)),
  ],
)
def test_a_denoiser_takes_pictures_of_odd_size(net, halved):
  x, time = (
    jax.random.normal(jax.random.key(1), (2, 19, 21, 6)),
    jnp.ones(2) / 3,
  )
  net = net.clone(halved=halved)
  params = jax.jit(net.init)(jax.random.key(0), x, time)
  params = jax.tree.map(
    lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(2), leaf.shape),
    params,
  )
  made = jax.jit(net.apply)(params, x, time)
  assert made.shape == (2, 19, 21, 3)
  assert jnp.abs(made).max() > 0.01


@pytest.mark.parametrize('name', ['unet', 'nafnet'])
def test_a_denoiser_is_told_the_time(name):
  config = make_config(**{'model.name': name})
  net = family_of.build_denoiser(config, whole=False)
  x = jax.random.normal(jax.random.key(1), (2, 16, 16, 6))
  params = jax.jit(net.init)(jax.random.key(0), x, jnp.ones(2))
  params = jax.tree.map(
    lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape),
    params,
  )
  early, late = (net.apply(params, x, jnp.full(2, t)) for t in (0.1, 0.9))
  assert jnp.abs(early - late).max() > 1e-3


def test_a_tile_of_noise_alone_is_that_of_the_whole():
  # An untrained network says v = 0, and a state's own share of noise is left.
  config = make_config(**{'process.name': 'ddpm', 'process.prediction': 'v'})
  family = family_of.make(config)
  blur = jnp.full((1, 96, 100, 3), 0.5)
  params = jax.jit(family.init)(jax.random.key(0), {'blur': blur})
  keys = jax.random.split(jax.random.key(3), 1)
  restore = jax.jit(family.restore)
  whole = restore(params, blur, keys, jnp.zeros((1, 2), jnp.int32))
  tile = restore(params, blur[:, 24:, 36:], keys, jnp.array([[24, 36]]))
  assert jnp.std(whole) > 0.001
  np.testing.assert_allclose(tile, whole[:, 24:, 36:], atol=1e-6)


@pytest.mark.parametrize('process', ['refine', 'indi'])
def test_the_mean_of_the_start_draws_nothing_by_itself(process):
  def spread(start):
    config = make_config(
      **{'process.name': process, 'sampler.nfe': 1, 'sampler.start': start}
    )
    family = family_of.make(config)
    blur = pictures(1, 16)
    params = jax.jit(family.init)(jax.random.key(0), {'blur': blur})
    params = jax.tree.map(lambda leaf: leaf + 0.01, params)
    keys = jax.random.split(jax.random.key(3), 2)
    restore = jax.jit(family.restore)
    origin = jnp.zeros((1, 2), jnp.int32)
    one, other = (restore(params, blur, key[None], origin) for key in keys)
    return jnp.abs(one - other).max()

  assert spread('mean') == 0
  assert spread('noise') > 1e-4


@pytest.mark.parametrize('joint', [True, False])
def test_a_predictor_that_does_not_learn_has_no_gradient(joint):
  changes = {'process.joint': joint, 'optim.weight_decay': 0.0}
  family = family_of.make(make_config(**changes))
  batch = dict(
    zip(('blur', 'sharp'), pictures(4).reshape(2, 2, 20, 23, 3), strict=True)
  )
  params = jax.jit(family.init)(jax.random.key(0), batch)
  keys = jax.random.split(jax.random.key(1), 2)

  def loss(params):
    return family.losses['net'](params, batch, keys, jnp.zeros((), int))[0]

  gradients = jax.jit(jax.grad(loss))(params)['net']
  moved = {
    name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
    for name, tree in gradients.items()
  }
  assert moved['denoiser'] > 0
  assert (moved['predictor'] > 0) == joint
