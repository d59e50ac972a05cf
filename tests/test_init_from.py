"""A run that starts from another one's weights."""

import jax
import numpy as np
import pytest

from deblur_jax import train, trained
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
  made = train.adopt(new, trained.load(workdir))
  before, after = state.networks(new.params), state.networks(made.params)
  given = state.networks(trained.load(workdir).params)[('net',)]
  assert_equal(after.pop(place), given)
  before.pop(place)
  assert before
  assert_equal(after, before)
  assert_equal(made.ema, {name: made.params[name] for name in made.ema})


def test_a_network_without_its_like_is_refused(tmp_path):
  workdir = untrained(tmp_path / 'gan', family='gan')
  config = tiny_config().unlock()
  config.family, config.model.nafnet.width = 'gan', 12
  new = begin(config)
  with pytest.raises(InputError, match='its networks are not those'):
    train.adopt(new, trained.load(workdir))


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)
