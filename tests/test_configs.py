"""Every config file makes its networks; whole steps are traced of some.

The presets share their networks between data sets: the other steps are slow.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from deblur_jax import config as config_lib
from deblur_jax import dry_run, options, ranges, train, trained
from deblur_jax.families import make_family
from deblur_jax.train_lib import parallel, state
from deblur_jax.types import InputError

ROOT = pathlib.Path(__file__).parents[1]
SPECS = [
  f'configs/{path.name}{form}'
  for path in sorted((ROOT / 'configs').glob('*.py'))
  for form in ('', ':small')
]


TRACED_QUICKLY = (
  'photos',
  'baseline_gaussian',
  'cnn_celeb.py:small',
  'cnn_universal.py:small',
)
TRACED = [
  spec
  if any(name in spec for name in TRACED_QUICKLY)
  else pytest.param(spec, marks=pytest.mark.slow)
  for spec in SPECS
]


@pytest.mark.parametrize('spec', SPECS)
def test_config_makes_its_batch_and_networks(spec, monkeypatch):
  monkeypatch.chdir(ROOT)
  config = config_lib.load_file(spec)
  ranges.check(config)
  init = state.make_init(config, make_family(config))
  assert state.count(jax.eval_shape(init).params) > 1000
  parallel.check_batch_size(
    config.data.batch_size, parallel.make_mesh(config.mesh), config.accumulate
  )


@pytest.mark.parametrize('spec', TRACED)
def test_config_is_traced(spec, monkeypatch):
  monkeypatch.chdir(ROOT)
  config = config_lib.load_file(spec)
  family = make_family(config)
  mesh = parallel.make_mesh(config.mesh)
  take_step = train.make_uncompiled_step(config, family, mesh)
  before = jax.eval_shape(state.make_init(config, family))
  raw = dry_run.raw_batch(config)
  after, metrics = jax.eval_shape(take_step, before, raw)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), before) == jax.tree.map(
    lambda a: (a.shape, a.dtype), after
  )
  assert all(value.shape == () for value in metrics.values())
  blur = jax.ShapeDtypeStruct((2, 37, 45, 3), jnp.float32)
  ids = jax.ShapeDtypeStruct((2,), jnp.int32)
  restore = trained.make_restore(config, family)
  restored = jax.eval_shape(restore, state.weights(before), blur, ids)
  assert (restored.shape, restored.dtype) == (blur.shape, jnp.float32)


@pytest.mark.parametrize('spec', SPECS)
def test_config_survives_its_file(spec, monkeypatch, tmp_path):
  monkeypatch.chdir(ROOT)
  config = config_lib.load_file(spec)
  config_lib.save(config, tmp_path, 'name')
  loaded = config_lib.load(tmp_path)
  assert config_lib.differences(config, loaded) == []
  assert ranges.blur_ranges(loaded) == ranges.blur_ranges(config)
  assert hash(loaded.model.nafnet.encoder)  # modules need tuples


def test_no_default_is_none():
  # ml_collections cannot override such a key from the command line.
  assert None not in config_lib.flatten(config_lib.base_config()).values()


def test_differences_name_the_keys():
  old, new = config_lib.base_config(), config_lib.base_config()
  new.data.crop = 99
  assert config_lib.differences(old, new) == ['data.crop: 256 -> 99']


@pytest.mark.parametrize(
  'spec', ['configs/none.py', 'configs/cnn_photos.py:tiny', 'README.md']
)
def test_unknown_config_is_refused(spec, monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(InputError, match='none.py|tiny|README.md'):
    config_lib.load_file(spec)


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('stpes = 3', 'Key "stpes" does not exist. Did you mean "steps"'),
    ('data.blur.sigmas = 1, 2', 'Key "sigmas" does not exist'),
    ('model.nafnet.widht = 8', 'Key "widht" does not exist'),
    ('data.crop = 64.5', "Could not override field 'crop'"),
  ],
)
def test_a_file_may_not_misspell(line, words, tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
    'from deblur_jax.config import base_config\n\n\ndef get_config():\n'
    f'  config = base_config()\n  config.{line}\n  return config\n'
  )
  for load in (
    lambda: config_lib.load_file(str(path)),
    lambda: options.parse(['main', f'--config={path}']),
  ):
    with pytest.raises(InputError, match=re.escape(words)) as refused:
      load()
    assert '\n' not in str(refused.value)
    assert len(str(refused.value).replace(str(path), '')) < 200


def test_a_network_of_ones_own_brings_its_fields():
  config = config_lib.base_config()
  config.model.mine = ConfigDict({'features': 4})
  assert config.lock().model.mine.features == 4


@pytest.mark.parametrize(
  'given',
  [
    ['--config=configs/nope.py:small'],
    ['--config', 'configs/nope.py:small'],
    ['-config', 'configs/nope.py'],
  ],
)
def test_a_missing_config_file_is_named(given):
  with pytest.raises(InputError, match='^configs/nope.py: no such config file'):
    options.parse(['main', *given])


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('data.crop', 0),
    ('data.crop', -5),
    ('data.crop', 10),
    ('eval.images', 0),
    ('eval.blurs', 0),
    ('checkpoint.every_steps', -1),
    ('checkpoint.keep', 0),
    ('log.every_steps', 0),
    ('ema.decay', 99.0),
    ('optim.b2', 1.0),
    ('sampler.eta', 1.5),
    ('process.gamma', 0.5),
    ('process.scale', 0.0),
    ('sampler.nfe', -1),
    ('sampler.samples', 0),
    ('sampler.spacing', 0.5),
    ('gan.critic_steps', 0),
    ('gan.r1_every', 0),
    ('model.nafnet.width', 0),
    ('model.nafnet.encoder', (2, -1)),
    ('predictor.nafnet.width', -3),
    ('model.unet.channels', 0),
    ('model.unet.multipliers', ()),
    ('model.unet.multipliers', (1, 0)),
    ('model.rrdb.growth', 0),
    ('discriminator.channels', 0),
    ('discriminator.layers', ()),
    ('discriminator.groups', -1),
    ('seed', -1),
    ('optim.clip', -1.0),
    ('discriminator_optim.weight_decay', -0.1),
    ('gan.r1', -1.0),
  ],
)
def test_numbers_that_are_too_small_are_refused_by_name(key, value):
  config = config_lib.base_config()
  ranges.check(config)
  config.update_from_flattened_dict({key: value})
  words = re.escape(f'config.{key}={value}: use ')
  with pytest.raises(InputError, match=words):
    ranges.check(config)


def test_a_discriminator_needs_a_step_to_judge_in():
  config = config_lib.base_config()
  config.steps = config.gan.warmup_steps = 10
  ranges.check(config)
  config.family = 'gan'
  with pytest.raises(InputError, match='config.gan.warmup_steps=10: no step'):
    ranges.check(config)


def test_a_flag_without_dashes_is_refused():
  given = ['main', '--config=configs/cnn_photos.py', 'config.steps=5']
  with pytest.raises(InputError, match='config.steps=5: flags begin with --'):
    options.parse(given)


def test_default_workdir():
  named = config_lib.default_workdir('configs/cnn_photos.py:small')
  assert named == pathlib.Path('runs/cnn_photos_small')


@pytest.mark.parametrize('kind', ['gaussian', 'defocus', 'motion', 'sharp'])
def test_photographs_are_tested_under_one_kind_of_blur(kind, monkeypatch):
  monkeypatch.chdir(ROOT)
  config = config_lib.load_file(f'configs/tests/photos.py:{kind}')
  drawn = ranges.blur_ranges(config)
  assert drawn.kinds == (kind,) or (drawn.sharp, drawn.noise) == (1, (0, 0))


def test_photographs_are_tested_under_all_kinds_of_blur(monkeypatch):
  monkeypatch.chdir(ROOT)
  config = config_lib.load_file('configs/tests/photos.py:all')
  drawn = ranges.blur_ranges(config)
  assert drawn.kinds == ('gaussian', 'defocus', 'motion') and not drawn.sharp
