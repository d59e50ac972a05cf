"""The train step against plain optax; skipping, averaging, keys."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deblur_jax import keys as keys_lib
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.train_lib import optim, state, step
from deblur_jax.types import Family, InputError
from tests.runs import linear_family, raw_batch, tiny_config

RANGES = BlurRanges(sigma=(0.5, 1.0))


def make(family, decay=0.0):
  config = tiny_config()
  txs = optim.make_txs(config, family)
  init = state.make_init(config, family)
  prepare = make_prepare(RANGES)
  return init(), jax.jit(step.make_train_step(family, txs, prepare, 0, decay))


def test_step_is_plain_optax():
  family = linear_family()
  before, take_step = make(family)
  after, _ = take_step(before, raw_batch())
  batch = make_prepare(RANGES)(raw_batch(), None)
  params = before.params
  for name in family.schedule:
    tx = optim.make_tx(tiny_config().optim, tiny_config().steps)

    def own_loss(own, name=name, params=params):
      return family.losses[name]({**params, name: own}, batch, None, 0)[0]

    grads = jax.grad(own_loss)(params[name])
    updates, _ = tx.update(grads, tx.init(params[name]), params[name], step=0)
    params = {**params, name: optax.apply_updates(params[name], updates)}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    after.params,
    params,
  )
  assert after.step == 1


def test_a_clip_of_zero_is_none():
  config = tiny_config().optim
  grads = params = {'w': jnp.array([3.0, -4.0])}
  tx = optim.make_tx(config, 10)
  _, clipped = tx.update(grads, tx.init(params), params, step=0)
  config.clip = 0.0
  tx = optim.make_tx(config, 10)
  _, whole = tx.update(grads, tx.init(params), params, step=0)
  first = {
    name: optax.tree.get(state, 'mu')['w'] / (1 - config.b1)
    for name, state in (('clipped', clipped), ('whole', whole))
  }
  np.testing.assert_allclose(first['clipped'], [0.6, -0.8], rtol=1e-5)
  np.testing.assert_allclose(first['whole'], grads['w'], rtol=1e-5)


SHAPES = {
  'window': (3, 3, 4, 8),
  'blocks in a loop': (2, 1, 1, 8, 4),
  'dense': (4, 8),
  'dense in a loop': (2, 4, 8),
}
"""Kernels whose inputs and outputs are those of a matrix."""


@pytest.mark.parametrize('name', SHAPES)
def test_muon_moves_a_matrix_alike_in_all_directions(name):
  config = tiny_config().optim
  config.name, config.clip = 'muon', 0.0
  rng = np.random.default_rng(0)
  shape = SHAPES[name]
  slopes = rng.normal(size=shape) * np.geomspace(1e-3, 1, shape[-1])
  grads = {'kernel': jnp.asarray(slopes, jnp.float32)}
  tx = optim.make_tx(config, 10)
  updates, _ = tx.update(grads, tx.init(grads), grads, step=0)
  loops = shape[0] if 'loop' in name else 1
  for matrix in np.reshape(updates['kernel'], (loops, -1, shape[-1])):
    gains = np.linalg.svd(matrix, compute_uv=False)
    gains /= config.learning_rate * 0.2 * np.sqrt(max(matrix.shape))
    assert gains.min() > 0.6
    assert gains.max() < 1.2


@pytest.mark.parametrize(
  ('name', 'shape'),
  [('kernel', (3, 3, 1, 8)), ('bias', (8,)), ('scale', (2, 8))],
  ids=['depthwise', 'bias', 'scales in a loop'],
)
def test_muon_leaves_what_is_no_matrix_to_adam(name, shape):
  config = tiny_config().optim
  config.name, config.clip = 'muon', 0.0
  slopes = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  grads = {name: jnp.asarray(slopes)}
  tx = optim.make_tx(config, 10)
  updates, _ = tx.update(grads, tx.init(grads), grads, step=0)
  adam = optax.nadam(config.learning_rate, b1=config.b1, b2=config.b2)
  expected, _ = adam.update(grads, adam.init(grads), grads)
  np.testing.assert_allclose(updates[name], expected[name], rtol=1e-5)


def test_unknown_optimiser_is_refused():
  config = tiny_config().optim
  config.name = 'adma'
  with pytest.raises(InputError, match='adma: use one of adamw, muon'):
    optim.make_tx(config, 10)


def test_each_loss_moves_its_own_network_only():
  family = linear_family()
  config = tiny_config()
  txs = optim.make_txs(config, family)
  before = state.make_init(config, family)()
  batch = make_prepare(RANGES)(raw_batch(), None)
  for name, other in (('first', 'second'), ('second', 'first')):
    update = step.make_update(name, family.losses[name], txs[name])
    after, _ = update(before, batch, None)
    assert after.params[name]['w'] != before.params[name]['w']
    assert after.params[other] is before.params[other]
    assert after.opt[other] is before.opt[other]


def test_ema_warms_up_and_then_decays():
  before, take_step = make(linear_family(ema=('first',)), decay=0.3)
  expected = before.ema['first']['w']
  now = before
  for n in range(4):
    now, _ = take_step(now, raw_batch(seed=n))
    decay = min(0.3, (1 + n) / (10 + n))
    expected = decay * expected + (1 - decay) * now.params['first']['w']
    np.testing.assert_allclose(now.ema['first']['w'], expected, rtol=1e-6)
  assert set(state.weights(now)) == {'first', 'second'}
  np.testing.assert_array_equal(
    state.weights(now)['first']['w'], now.ema['first']['w']
  )


def test_non_finite_step_changes_nothing_and_is_counted():
  family = linear_family(ema=('first',))

  def poisoned(params, batch, key, at):
    value, metrics = linear_family().losses['second'](params, batch, key, at)
    return jnp.where(at == 1, jnp.nan, 1.0) * value, metrics

  family = Family(
    family.init,
    {**family.losses, 'second': poisoned},
    family.schedule,
    family.restore,
    family.ema,
  )
  now, take_step = make(family, decay=0.9)
  now, _ = take_step(now, raw_batch())
  skipped, metrics = take_step(now, raw_batch(seed=1))
  for part in ('params', 'opt', 'ema'):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(now, part), getattr(skipped, part)
    )
  assert skipped.step == 2
  assert skipped.skipped.tolist() == [1, 1]
  assert metrics['skipped_in_a_row'] == 1
  recovered, _ = take_step(skipped, raw_batch(seed=2))
  assert recovered.skipped.tolist() == [0, 1]
  assert recovered.params['first']['w'] != now.params['first']['w']


def test_keys_hang_on_step_and_slot():
  first = jax.random.key_data(keys_lib.of_slots(0, jnp.int32(5), 8))
  again = jax.random.key_data(keys_lib.of_slots(0, jnp.int32(5), 4))
  np.testing.assert_array_equal(first[:4], again)
  other = jax.random.key_data(keys_lib.of_slots(0, jnp.int32(6), 8))
  assert len(np.unique(np.concatenate([first, other]), axis=0)) == 16


def test_an_infinite_score_is_no_reason_to_skip():
  plain = linear_family()

  def perfect(params, batch, key, at):
    value, _ = plain.losses['second'](params, batch, key, at)
    return value, {'psnr': jnp.float32(jnp.inf)}

  family = dataclasses.replace(
    plain, losses={**plain.losses, 'second': perfect}
  )
  now, take_step = make(family)
  after, metrics = take_step(now, raw_batch())
  assert metrics['second/psnr'] == jnp.inf
  assert after.skipped.tolist() == [0, 0]
  assert after.params['second']['w'] != now.params['second']['w']


def test_rates_last_as_long_where_a_network_is_updated_more_often():
  config = tiny_config()
  family = dataclasses.replace(
    linear_family(), schedule=('first', 'first', 'first', 'second')
  )
  txs = optim.make_txs(config, family)
  grads = params = {'w': jnp.array(1.0)}
  moves = {'first': [], 'second': []}
  for name, tx in txs.items():
    opt = tx.init(params)
    for done in range(config.steps):
      for _ in range(family.schedule.count(name)):
        updates, opt = tx.update(grads, opt, params, step=done)
        moves[name].append(float(updates['w']))
  by_step = np.reshape(moves['first'], (config.steps, 3))
  np.testing.assert_allclose(by_step[:, 0], by_step[:, 2], rtol=1e-3)
  np.testing.assert_allclose(by_step[:, 0], moves['second'], rtol=1e-3)


def test_rates_are_of_the_training_where_a_network_begins_late():
  config = tiny_config()
  tx = optim.make_tx(config.optim, config.steps)
  grads = params = {'w': jnp.array(1.0)}
  first, last = (
    tx.update(grads, tx.init(params), params, step=done)[0]['w']
    for done in (0, config.steps)
  )
  rates = config.optim.final_learning_rate / config.optim.learning_rate
  np.testing.assert_allclose(last / first, rates, rtol=1e-3)


def test_schedule_ends():
  optim_config = tiny_config().optim
  schedule = optim.make_schedule(optim_config, 100)
  assert schedule(0) == pytest.approx(optim_config.learning_rate)
  assert schedule(100) == pytest.approx(optim_config.final_learning_rate)
  assert schedule(50) == pytest.approx(optim_config.learning_rate / 2, rel=1e-3)


def test_parts_keep_each_example_with_its_key():
  keys = keys_lib.of_slots(0, 0, 8)
  batch = {'id': jax.random.key_data(keys)}

  def differences(batch, keys):
    same = batch['id'] == jax.random.key_data(keys)
    return 1 - same.mean()

  assert step.mean_over_parts(differences, 4)(batch, keys) == 0
  assert step.mean_over_parts(differences, 4)(batch, keys[::-1]) > 0


def test_no_part_of_a_batch_is_alive_beside_another():
  def sines(batch, keys):
    del keys
    return jnp.sin(batch['x']).sum()

  batch, keys = {'x': jnp.arange(6.0)}, jax.random.split(jax.random.key(0), 6)
  mean = step.mean_over_parts(sines, 2)
  equations = jax.make_jaxpr(mean)(batch, keys).eqns
  loops = [e.params['length'] for e in equations if e.primitive.name == 'scan']
  assert loops == [2]
  assert 'sin' not in {e.primitive.name for e in equations}
  np.testing.assert_allclose(
    mean(batch, keys), sines(batch, keys) / 2, rtol=1e-6
  )
