"""The suite finds what is wrong, and nothing where nothing is."""

import numpy as np
import pytest

from deblur_jax import glitches
from deblur_jax.restorer import Restorer
from tests.runs import lively_model


def test_a_network_that_changes_nothing_is_clean(tmp_path):
  found = glitches.search(lambda pixels, name: pixels, tmp_path)
  assert [one.picture for one in found] == list(glitches.PICTURES)
  assert all(one.clean and one.shift == 0 for one in found)
  assert len(list(tmp_path.glob('*.png'))) == len(found)


def test_an_untrained_network_is_clean():
  model = lively_model()
  ending = model.params['net']['params']['ending']
  ending.update({name: np.zeros_like(leaf) for name, leaf in ending.items()})
  found = glitches.search(Restorer([model]))
  assert all(one.clean for one in found)


@pytest.mark.parametrize('name', glitches.PICTURES)
def test_what_is_spoilt_is_found(name):
  given = glitches.PICTURES[name]()
  tinted = given.copy()
  tinted[..., 2] = np.where(
    given[..., 2] < 128, given[..., 2] + 3, given[..., 2] - 3
  )
  shift = glitches.examine(name, given, tinted)
  if name not in ('ramp', 'noise', 'saturated'):  # up and down cancel out there
    assert not shift.clean
  spot = given.copy()
  calm = glitches.blocks(given.astype(float)).std((1, 2)).max(-1) < 2
  if calm.any():
    row, column = np.argwhere(calm.reshape(-1, glitches.WIDTH // 8))[0] * 8
    spot[row : row + 8 : 2, column : column + 8 : 2] ^= 0x40
    assert glitches.examine(name, given, spot).spikes == 1
