"""A run that starts from another one's weights."""

import jax
import numpy as np
import pytest

from deblur_jax import config as config_lib
from deblur_jax import train, trained, warm_start
from deblur_jax.families import make_family
from deblur_jax.train_lib import parallel, state
from deblur_jax.types import InputError
from tests.runs import tiny_config, untrained


def begin(config):
  """The state at step 0, on the mesh of a training."""
  init = state.make_init(config, make_family(config))
  return parallel.compile_init(
    init, parallel.abstract(init, parallel.make_mesh())
  )()


@pytest.mark.parametrize(
  ('family', 'model', 'place'),
  [
    ('diffusion', 'unet', ('net', 'predictor')),
    ('gan', 'nafnet', ('generator',)),
  ],
)
def test_a_cnn_starts_the_other_families(family, model, place, tmp_path):
  workdir = untrained(tmp_path / 'cnn', seed=1)
  config = tiny_config().unlock()
  config.family, config.model.name = family, model
  new = begin(config)
  made = warm_start.adopt(new, trained.load(workdir))
  before, after = state.networks(new.params), state.networks(made.params)
  given = state.networks(trained.load(workdir).params)[('net',)]
  assert_equal(after.pop(place), given)
  before.pop(place)
  assert before
  assert_equal(after, before)
  assert_equal(made.ema, {name: made.params[name] for name in made.ema})


def test_a_denoiser_starts_as_the_cnn_with_fewer_blocks(tmp_path):
  changes = {'model.nafnet.encoder': (3,)}
  given = trained.load(untrained(tmp_path / 'cnn', seed=1, **changes))
  config = tiny_config().unlock()
  config.family = 'diffusion'
  config.model.nafnet.encoder = (2,)
  config.predictor.nafnet.encoder = (3,)
  new = begin(config)
  made = warm_start.adopt(new, given)
  (cnn,) = state.networks(given.params).values()
  before, after = (
    state.networks(one.params)['net', 'denoiser'] for one in (new, made)
  )
  assert_equal(state.networks(made.params)['net', 'predictor'], cnn)
  own = {path: after.pop(path) for path in after.keys() - cnn.keys()}
  assert_equal(after, {path: cnn[path][: len(after[path])] for path in cnn})
  assert all('beside' in path or 'time' in str(path) for path in own)
  assert_equal(own, {path: before[path] for path in own})


def test_a_cnn_grows_by_blocks_that_change_nothing(tmp_path):
  given = trained.load(untrained(tmp_path / 'cnn', seed=1))
  config = tiny_config().unlock()
  config.model.nafnet.encoder = (3,)
  new = begin(config)
  made = warm_start.adopt(new, given)
  picture = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
  before, after = (
    make_family(one).restore(params, picture, None, None)
    for one, params in ((given.config, given.params), (config, made.params))
  )
  np.testing.assert_allclose(after, before, atol=1e-6)
  # It does not hold what is cut off, and so a smaller one is refused.
  grown = trained.load(
    untrained(tmp_path / 'grown', seed=1, **{'model.nafnet.encoder': (3,)})
  )
  with pytest.raises(InputError, match='its networks are not those'):
    warm_start.adopt(begin(tiny_config()), grown)


@pytest.mark.parametrize('old', [{('a',): (1, 1)}, {('b',): (3, 2)}])
def test_what_does_not_fit_is_not_lent(old):
  old = {path: np.zeros(shape) for path, shape in old.items()}
  assert not warm_start.can_lend(old, {('a',): np.zeros((3, 2))})


def test_a_denoiser_that_holds_a_cnn_does_not_restore_in_its_place(tmp_path):
  given = trained.load(untrained(tmp_path / 'cnn', seed=1))
  config = tiny_config().unlock()
  config.family = 'diffusion'
  config.predictor.nafnet.width = 12  # none of the CNN's
  with pytest.raises(InputError, match='its networks are not those'):
    warm_start.adopt(begin(config), given)


def test_a_network_without_its_like_is_refused(tmp_path):
  workdir = untrained(tmp_path / 'gan', family='gan')
  config = tiny_config().unlock()
  config.family, config.model.nafnet.width = 'gan', 12
  new = begin(config)
  with pytest.raises(InputError, match='its networks are not those'):
    warm_start.adopt(new, trained.load(workdir))


def test_a_predictor_that_stays_has_to_be_given(tmp_path):
  config = tiny_config()
  still = {'family': 'diffusion', 'process.joint': False}
  config.update_from_flattened_dict({**still, 'optim.weight_decay': 0.0})
  with pytest.raises(InputError, match='init_from'):
    train.train(config, tmp_path / 'run', 'diffusion')
  assert not (tmp_path / 'run').exists()


def test_weights_that_come_too_late_are_refused(tmp_path):
  begun, config = untrained(tmp_path / 'begun'), tiny_config()
  for given in (tmp_path / 'cnn', tmp_path / 'nowhere'):
    with pytest.raises(InputError, match='began without it'):
      warm_start.load(config, begun, str(given))
  earlier = [{'name': 'cnn', 'step': 1, 'images': 1, 'minutes': 0.0}]
  config_lib.save(config, begun, 'tuned', earlier)
  assert warm_start.load(config, begun, str(tmp_path / 'cnn')) is None


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)
