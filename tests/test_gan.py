"""Two networks against each other: who moves when, and by which loss."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import ranges, train
from deblur_jax.families import gan, make_family
from deblur_jax.models import build
from deblur_jax.ops import adversarial, perceptual
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.train_lib import optim, state, step
from deblur_jax.types import InputError
from tests.runs import saved_state, tiny_config
from tests.test_families import raw_pairs
from tests.test_perceptual import save_weights

NETWORKS = ('discriminator', 'generator')


def make_config(**changes):
  config = tiny_config()
  config.family = 'gan'
  config.optim.learning_rate = 1e-2
  config.discriminator_optim.learning_rate = 1e-2
  config.update_from_flattened_dict(changes)
  return config


def make(config):
  """Returns the family, a state whose networks have begun to learn, a batch."""
  family = make_family(config)
  now = jax.jit(state.make_init(config, family))()
  batch = make_prepare(ranges.blur_ranges(config))(raw_pairs(4, 16), None)
  return family, now, batch


def update(config, family, name, now, batch):
  tx = optim.make_txs(config, family)[name]
  take = step.make_update(name, family.losses[name], tx)
  return jax.jit(lambda now, batch: take(now, batch, None))(now, batch)


def same(a, b):
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize('name', NETWORKS)
def test_an_update_leaves_the_other_network_alone(name):
  config = make_config()
  family, now, batch = make(config)
  after, metrics = update(config, family, name, now, batch)
  other = NETWORKS[1 - NETWORKS.index(name)]
  assert not same(after.params[name], now.params[name])
  assert same(after.params[other], now.params[other])
  assert same(after.opt[other], now.opt[other])
  assert all(key.startswith(name) for key in metrics)


def test_both_optimisers_are_their_own():
  config = make_config(**{'discriminator_optim.learning_rate': 0.0})
  family, now, batch = make(config)
  assert set(now.opt) == set(NETWORKS)
  after, _ = update(config, family, 'discriminator', now, batch)
  assert same(after.params, now.params)
  after, _ = update(config, family, 'generator', now, batch)
  assert not same(after.params, now.params)


def test_checkpoint_holds_all_and_resumes_bit_exactly(tmp_path):
  train.train(make_config(), tmp_path, 'gan')
  whole = saved_state(tmp_path)
  assert set(whole.params) == set(whole.opt) == set(NETWORKS)
  shutil.rmtree(tmp_path / 'checkpoints' / '4')
  assert saved_state(tmp_path).step == 2
  train.train(make_config(), tmp_path, 'gan')
  assert saved_state(tmp_path).step == 4
  assert same(saved_state(tmp_path), whole)


def test_warm_up_is_of_pixels_alone():
  warming = make_config(**{'gan.warmup_steps': 1})
  family, now, batch = make(warming)
  after, _ = update(warming, family, 'discriminator', now, batch)
  assert same(after.params, now.params)
  assert same(after.opt, now.opt), 'or its first step would be a leap'
  alone = make_config(
    **{'gan.adversarial_weight': 0.0, 'gan.perceptual_weight': 0.0}
  )
  for config in (warming, alone):
    family = make_family(config)
    moved, metrics = update(config, family, 'generator', now, batch)
    half = metrics['generator/pixel'] / 2
    assert metrics['generator/loss'] == pytest.approx(float(half))
  family = make_family(warming)
  value, _ = family.losses['generator'](now.params, batch, None, jnp.int32(1))
  assert float(value) != pytest.approx(float(half), rel=1e-3)


def flops(config, schedule):
  """Floating-point operations of one step, as the compiler counts them."""
  family = make_family(config)
  family = gan.Family(family.init, family.losses, schedule, family.restore)
  take_step = step.make_train_step(
    family,
    optim.make_txs(config, family),
    make_prepare(ranges.blur_ranges(config)),
    0,
  )
  now = state.make_init(config, family)()
  compiled = jax.jit(take_step).lower(now, raw_pairs(4, 16)).compile()
  return compiled.cost_analysis()['flops']


@pytest.mark.slow
def test_discriminator_first_shares_the_generators_pass():
  config = make_config()
  net = build.build(config.model, config.dtype)
  blur = jnp.zeros((4, 16, 16, 3))
  params = jax.jit(net.init)(jax.random.key(0), blur)
  forward = jax.jit(net.apply).lower(params, blur).compile()
  apart = sum(flops(config, (name,)) for name in NETWORKS)
  saved = apart - flops(config, NETWORKS)
  assert saved == pytest.approx(forward.cost_analysis()['flops'], rel=0.05)


def test_games_against_their_formulas():
  rng = np.random.default_rng(0)
  real, made = rng.normal(0.5, 1, (2, 3, 4, 4, 1))
  ones = np.ones_like(real)
  margin = real - made.mean(), made - real.mean()
  expected = {
    'hinge': (
      np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + made).mean(),
      -made.mean(),
      (real > 0).mean() / 2 + (made < 0).mean() / 2,
    ),
    'lsgan': (
      ((real - ones) ** 2).mean() / 2 + ((made + ones) ** 2).mean() / 2,
      ((made - ones) ** 2).mean() / 2,
      (real > 0).mean() / 2 + (made < 0).mean() / 2,
    ),
    'ragan_ls': (
      ((margin[0] - 1) ** 2).mean() / 2 + ((margin[1] + 1) ** 2).mean() / 2,
      ((margin[1] - 1) ** 2).mean() / 2 + ((margin[0] + 1) ** 2).mean() / 2,
      (margin[0] > 0).mean() / 2 + (margin[1] < 0).mean() / 2,
    ),
  }
  for name, game in adversarial.GAMES.items():
    (_, a), (_, b) = game.seen([ones, real], [ones, made])
    functions = game.discriminator, game.generator, game.accuracy
    for function, value in zip(functions, expected[name], strict=True):
      np.testing.assert_allclose(function(a, b), value, rtol=1e-5)


@pytest.mark.parametrize('name', adversarial.GAMES)
def test_generator_gains_where_the_judge_loses(name):
  game = adversarial.GAMES[name]
  real, made = jnp.full((4,), 0.2), jnp.full((4,), -0.2)
  pull = jax.grad(game.generator, argnums=1)(real, made)
  push = jax.grad(game.discriminator, argnums=1)(real, made)
  assert (pull < 0).all() and (push > 0).all()
  assert game.accuracy(real, made) == 1
  assert game.accuracy(made, real) == 0


def test_r1_is_half_the_squared_gradient():
  weight = jax.random.normal(jax.random.key(0), (8, 8, 3))

  def judge(params, blur, image):
    del params, blur
    verdict = (weight[None] * image).sum((1, 2, 3)).reshape(-1, 1, 1, 1)
    return [verdict, 2 * verdict], []

  sharp = jnp.ones((5, 8, 8, 3))
  penalty = gan.r1_penalty(judge, {}, sharp, sharp)
  np.testing.assert_allclose(penalty, 9 * (weight**2).sum() / 2, rtol=1e-5)


def test_lazy_value_comes_every_so_often():
  values = [float(gan.every(4, jnp.int32(n), lambda: 1.5)) for n in range(9)]
  assert values == [6, 0, 0, 0, 6, 0, 0, 0, 6]


def test_vgg_takes_the_place_of_matching_where_there_are_weights(
  tmp_path, capsys, monkeypatch
):
  save_weights(tmp_path, 'vgg16')
  perceptual.load.cache_clear()  # another test may have found the extra
  for folder, part in ((str(tmp_path), 'vgg'), ('', 'matching')):
    monkeypatch.setattr(perceptual, 'available', lambda: False)
    config = make_config(**{'gan.perceptual': 'vgg16', 'gan.weights': folder})
    family, now, batch = make(config)
    after, metrics = update(config, family, 'generator', now, batch)
    assert f'generator/{part}' in metrics
    assert np.isfinite(float(metrics['generator/loss']))
    assert not same(after.params, now.params)
    assert capsys.readouterr().err.count('perceptual') == (part == 'matching')


@pytest.mark.parametrize('name', ['nafnet', 'rrdb', 'unet'])
def test_new_generator_returns_flat_colours_and_gradients(name):
  config = tiny_config()
  config.model.name = name
  net = build.build(config.model, 'float32')
  flat = [(33, 25, 23), (0, 0, 0), (255, 255, 255)]
  blur = np.stack([np.full((37, 45, 3), colour) for colour in flat])
  ramp = np.linspace(0, 255, 45)[None, :, None] * np.ones((37, 1, 3))
  blur = jnp.float32([*blur, ramp]) / 255
  params = jax.jit(net.init)(jax.random.key(0), blur)
  assert jnp.abs(net.apply(params, blur) - blur).max() <= 2 / 255


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('gan.loss', 'none'),
    ('gan.perceptual', 'none'),
    ('discriminator.groups', 3),
  ],
)
def test_nonsense_is_refused(key, value):
  config = make_config(**{key: value})
  with pytest.raises(InputError, match=f'config.{key}'):
    make_family(config)
