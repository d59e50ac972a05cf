"""One step on many devices: the same numbers, and what they send each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import dry_run, train
from deblur_jax.families import make_family
from deblur_jax.train_lib import collectives, parallel, state, step
from deblur_jax.types import InputError
from tests.runs import linear_family, raw_batch, tiny_config

WAYS = {
  '1 device': {'devices': 1},
  '4 devices': {},
  'fsdp': {'mesh.fsdp': 4},
  'data and fsdp': {'mesh.fsdp': 2},
  'pmap': {'parallel': 'pmap'},
  'accumulate 4': {'devices': 1, 'accumulate': 4},
  'accumulate 2 on 4 devices': {'accumulate': 2},
  'remat': {'remat': True},
}
"""How one and the same step may be computed."""
OF_THE_LINEAR = [way for way in WAYS if way != 'remat']
FAMILIES = ['cnn', 'diffusion', pytest.param('gan', marks=pytest.mark.slow)]


def config_for(changes):
  """A tiny config; real pairs are not blurred, so blur is made in the step."""
  config = tiny_config().unlock()
  config.steps = 100  # the learning rate hardly falls in the first ones
  config.data.batch_size = 8
  config.data.crop = 8
  config.data.blur.noise = (0.01, 0.02)  # of each example's own key
  config.ema.decay = 0.9
  config.gan.loss = 'hinge'  # ragan_ls compares within a batch
  config.update_from_flattened_dict(changes)
  if config.family == 'diffusion':
    config.model.name = 'unet'
  return config


def run(config, family, mesh, steps=5):
  """Takes some steps on the mesh; returns the state and all metrics."""
  init = state.make_init(config, family)
  like = parallel.abstract(init, mesh)
  take_step = train.make_step(config, family, like, mesh)
  now, history = parallel.compile_init(init, like)(), []
  for seed in range(steps):
    raw = raw_batch(config.data.batch_size, config.data.crop + 8, seed)
    del raw['blur']
    now, metrics = take_step(now, parallel.put_batch(raw, mesh))
    history.append(metrics)
  return jax.device_get((now, history))


def run_way(way, made=None, **changes):
  changes = {**WAYS[way], **changes}
  devices = changes.pop('devices', 4)
  config = config_for(changes)
  mesh = mesh_of(devices, config)
  return run(config, made or make_family(config), mesh)


def mesh_of(devices, config):
  whole = parallel.make_mesh(config.mesh)
  if devices == whole.size:
    return whole
  shape = (devices, 1)
  chosen = whole.devices.reshape(-1)[:devices].reshape(shape)
  return jax.sharding.Mesh(chosen, whole.axis_names)


def assert_same(results, expected, rtol, atol=0.0):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
    results,
    expected,
  )


@pytest.fixture(scope='module')
def alone():
  return run_way('1 device', linear_family(('first',)))


@pytest.mark.parametrize('way', OF_THE_LINEAR[1:])
def test_every_way_gives_the_same_numbers(way, alone):
  results = run_way(way, linear_family(('first',)))
  assert_same(results, alone, rtol=2e-5)


def test_muon_sees_whole_matrices_where_devices_hold_shares():
  changes = {'optim.name': 'muon'}
  _, expected = run_way('1 device', **changes)
  _, metrics = run_way('fsdp', **changes)
  assert_same(metrics, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('family', ['cnn', 'diffusion', 'gan'])
def test_every_way_trains_each_family_alike(family):
  expected, metrics = run_way('1 device', family=family)
  for way in list(WAYS)[1:]:
    result, history = run_way(way, family=family)
    assert_same(history, metrics, rtol=1e-4, atol=1e-6)
    assert_same(result.params, expected.params, rtol=1e-4, atol=1e-6)
    assert_same(result.ema, expected.ema, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_ragan_is_the_same_on_one_device_and_on_four():
  changes = {'family': 'gan', 'gan.loss': 'ragan_ls'}
  expected = run_way('1 device', **changes)
  for way in ('4 devices', 'pmap'):
    result = run_way(way, **changes)
    assert_same(result[1], expected[1], rtol=1e-4, atol=1e-6)


IN_LOOPS = {
  'model.nafnet.encoder': (6,),
  'predictor.nafnet.encoder': (6,),
  'model.unet.blocks': 6,
}
"""Networks with levels long enough for a loop over their blocks."""


def compiled_step(family, fsdp):
  asked = {'family': family, 'mesh.fsdp': fsdp, 'gan.loss': 'ragan_ls'}
  config = config_for({**asked, **IN_LOOPS})
  config.data.batch_size = 20  # 5 on a device: no parameter has such an axis
  config.data.crop = 24
  mesh = parallel.make_mesh(config.mesh)
  made = make_family(config)
  like = parallel.abstract(state.make_init(config, made), mesh)
  take_step = train.make_step(config, made, like, mesh)
  raw = dry_run.raw_batch(config)
  found = collectives.collectives(
    take_step.lower(like, raw).compile().as_text()
  )
  return like, found


@pytest.mark.parametrize('family', FAMILIES)
def test_data_parallel_step_reduces_each_gradient_once(family):
  like, found = compiled_step(family, 1)
  assert {one.kind for one in found} == {'all-reduce'}
  assert {one.times for one in found} == {1}
  gradients = [one for one in found if one.bytes > 64]
  assert len(gradients) == len(like.params)
  size = 4 * state.count(like.params)
  assert size <= sum(one.bytes for one in found) <= size + 256
  largest = max(leaf.size for leaf in jax.tree.leaves(like.params))
  assert max(np.prod(s) for o in found for _, s in o.arrays) == largest


@pytest.mark.parametrize('family', FAMILIES)
def test_fsdp_step_moves_parameters_and_no_examples(family):
  like, found = compiled_step(family, 4)
  assert {one.kind for one in found} >= {'all-gather', 'all-reduce'}
  largest = max(leaf.size for leaf in jax.tree.leaves(like.params))
  for one in found:
    for _, shape in one.arrays:
      assert not {5, 20, 24, 12} & set(shape), one
      assert np.prod(shape) <= largest, one
  gathered = sum(o.bytes for o in found if o.kind == 'all-gather')
  assert gathered >= 0.9 * 4 * state.count(like.params)
  on_one = sum(
    np.prod(leaf.sharding.shard_shape(leaf.shape))
    for leaf in jax.tree.leaves(like.params)
  )
  assert on_one < 0.3 * state.count(like.params)


def test_longest_axis_that_divides_is_split():
  mesh = parallel.make_mesh(config_for({'mesh.fsdp': 4}).mesh)

  def split(*shape):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    return parallel.in_shares(mesh, leaf).shard_shape(shape)

  assert split(3, 3, 8, 16) == (3, 3, 8, 4)
  assert split(16, 8) == (4, 8)
  assert split(7, 12) == (7, 3)
  assert split(5, 3) == (5, 3)
  assert split() == ()


@pytest.mark.parametrize(
  ('sizes', 'shape'),
  [((-1, 1), (8, 1)), ((-1, 4), (2, 4)), ((2, -1), (2, 4)), ((4, 2), (4, 2))],
)
def test_mesh_takes_all_devices(sizes, shape):
  assert parallel.mesh_shape(sizes, 8) == shape


@pytest.mark.parametrize('sizes', [(-1, 3), (-1, -1), (4, 4), (0, 8), (-1, 0)])
def test_mesh_that_does_not_fit_is_refused(sizes):
  with pytest.raises(InputError, match=r'config.mesh=.*does not fit 8'):
    parallel.mesh_shape(sizes, 8)


def test_batch_must_fit_devices_and_parts():
  with pytest.raises(InputError, match='batch_size=6'):
    parallel.check_batch_size(6, parallel.make_mesh())
  with pytest.raises(InputError, match='a multiple of 8'):
    parallel.check_batch_size(4, parallel.make_mesh(), 2)
  with pytest.raises(InputError, match='accumulate=0'):
    parallel.check_batch_size(4, parallel.make_mesh(), 0)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'parallel': 'none'}, 'parallel=none'),
    ({'parallel': 'pmap', 'mesh.fsdp': 4}, 'parallel=pmap'),
  ],
)
def test_ways_that_do_not_exist_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    run_way('1 device', linear_family(), devices=4, **changes)


HLO = """\
HloModule jit_step

%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.2 = f32[4]{0} all-reduce(%x), channel_id=2, to_apply=%add.1
}

ENTRY %main.9 (a: f32[8,2]) -> f32[] {
  %all-reduce.1 = (f32[8,2]{1,0}, bf16[]) all-reduce(%a, %b), to_apply=%add.1
  %all-gather-start.1 = f32[16]{0} all-gather-start(%c), dimensions={0}
  %while.1 = (s32[], f32[4]) while(%t), condition=%cond.1, body=%body.1, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_collectives_are_read_with_their_loops():
  found = collectives.collectives(HLO)
  assert [(o.kind, o.times, o.bytes) for o in found] == [
    ('all-reduce', 1, 66),
    ('all-gather', 1, 64),
    ('all-reduce', 3, 48),
  ]
  assert collectives.total_bytes(found) == {'all-reduce': 114, 'all-gather': 64}
  with pytest.raises(ValueError, match='unknown length'):
    collectives.collectives(HLO.replace('known_trip_count', 'other'))


def test_uncompiled_step_has_a_spread_only_where_asked():
  one = parallel.make_mesh(config_for({}).mesh)
  assert parallel.spread(one) == step.Spread()
  four = parallel.make_mesh(config_for({'mesh.fsdp': 4}).mesh)
  assert step.unchanged not in dataclasses.astuple(parallel.spread(four))
