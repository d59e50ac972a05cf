"""What every family must do, whichever network it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import ranges, trained
from deblur_jax.families import make_family
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.train_lib import optim, state, step
from deblur_jax.types import InputError
from tests.runs import picture, tiny_config

DIFFUSION = {'family': 'diffusion', 'model.name': 'unet'}
CASES = {
  'cnn': {'ema.decay': 0.99},
  'baseline': {'model.name': 'encoder_decoder', 'loss': 'mse'},
  'refine': {**DIFFUSION, 'ema.decay': 0.9},
  'refine by nafnet': {
    'family': 'diffusion',
    'process.joint': False,
    'optim.weight_decay': 0.0,
  },
  'ddpm': {**DIFFUSION, 'process.name': 'ddpm'},
  'indi': {**DIFFUSION, 'process.name': 'indi'},
  'gan': {'family': 'gan', 'ema.decay': 0.9, 'gan.loss': 'hinge'},
  'rrdb': {
    'family': 'gan',
    'model.name': 'rrdb',
    'discriminator.groups': 4,
    'gan.r1': 0.1,
    'gan.r1_every': 2,
    'gan.critic_steps': 2,
  },
}


def make_config(case):
  config = tiny_config()
  config.model.encoder_decoder.channels = (8, 8)
  config.optim.learning_rate = 3e-3
  config.steps = 60
  config.update_from_flattened_dict(CASES[case])
  return config


def raw_pairs(rows, side):
  sharp = np.stack([picture(side, side, seed=i) for i in range(rows)])
  blur = sum(np.roll(sharp.astype(int), k, axis=2) for k in (-1, 0, 1)) // 3
  return {
    'blur': blur.astype(np.uint8),
    'sharp': sharp,
    'id': np.arange(rows, dtype=np.int32),
    'mask': np.ones(rows, bool),
  }


@pytest.fixture(scope='module', params=CASES)
def overfitted(request):
  config = make_config(request.param)
  family = make_family(config)
  prepare = make_prepare(ranges.blur_ranges(config))
  take_step = jax.jit(
    step.make_train_step(
      family, optim.make_txs(config, family), prepare, 0, config.ema.decay
    )
  )
  now = jax.jit(state.make_init(config, family))()
  history = []
  for _ in range(config.steps):
    now, metrics = take_step(now, raw_pairs(4, 16))
    history.append(metrics)
  return config, family, now, history


def test_loss_falls_on_one_batch(overfitted):
  _, family, _, history = overfitted
  name = family.schedule[-1]
  # Of a game's loss, only the pixels' part must fall.
  part = 'pixel' if f'{name}/pixel' in history[0] else 'loss'
  losses = [float(metrics[f'{name}/{part}']) for metrics in history]
  assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_restored_pictures_are_whole_and_their_own(overfitted):
  config, family, now, _ = overfitted
  restore = jax.jit(trained.make_restore(config, family))
  blur = jax.random.uniform(jax.random.key(1), (3, 33, 18, 3))
  together = restore(state.weights(now), blur, jnp.arange(3))
  alone = restore(state.weights(now), blur[1:2], jnp.arange(1, 2))
  for restored, given in ((together, blur), (alone, blur[1:2])):
    assert (restored.shape, restored.dtype) == (given.shape, jnp.float32)
    assert 0 <= restored.min() <= restored.max() <= 1
  np.testing.assert_allclose(together[1:2], alone, atol=2e-6)


def test_helpers_are_what_restoring_does_not_use(overfitted):
  config, family, now, _ = overfitted
  restore = trained.make_restore(config, family)
  blur, ids = jnp.zeros((1, 8, 8, 3)), jnp.arange(1)
  params = state.weights(now)
  for name in params:
    without = {key: tree for key, tree in params.items() if key != name}
    if name in family.helpers:
      jax.eval_shape(restore, without, blur, ids)
    else:
      with pytest.raises(KeyError, match=name):
        jax.eval_shape(restore, without, blur, ids)


def test_ema_is_there_exactly_where_asked(overfitted):
  config, family, now, _ = overfitted
  assert set(now.ema) == set(family.ema)
  assert bool(now.ema) == bool(config.ema.decay)


def test_metrics_are_finite_scalars(overfitted):
  *_, history = overfitted
  assert all(np.isfinite(float(v)) for m in history for v in m.values())


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('family', 'none'),
    ('model.name', 'none'),
    ('loss', 'none'),
    ('dtype', 'none'),
  ],
)
def test_unknown_names_are_refused(key, value):
  config = tiny_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=f'{key}=none'):
    make_family(config)


def test_a_predictor_that_stays_does_not_decay():
  config = tiny_config()
  still = {'process.joint': False, 'optim.weight_decay': 1e-3}
  config.update_from_flattened_dict({**DIFFUSION, **still})
  with pytest.raises(InputError, match='process.joint=False'):
    make_family(config)


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('process.name', 'none'),
    ('process.schedule', 'none'),
    ('process.prediction', 'none'),
    ('sampler.name', 'none'),
    ('model.name', 'encoder_decoder'),
  ],
)
def test_nonsense_diffusion_is_refused(key, value):
  config = tiny_config()
  config.update_from_flattened_dict({**DIFFUSION, key: value})
  with pytest.raises(InputError, match=f'config.{key}'):
    make_family(config)
