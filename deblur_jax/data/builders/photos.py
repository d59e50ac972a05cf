"""The embedded photographs: five colour pictures of the scikit-image wheel.

Nothing is downloaded. Train and val share three photographs (val is the right
fifth of each), test has two of its own. Licences: docs/LICENCES.md.
"""

import pathlib

import skimage

from deblur_jax.data.builders import base

TRAIN = ('astronaut.png', 'coffee.png', 'motorcycle_left.png')
TEST = ('chelsea.png', 'rocket.jpg')
BORDER = 0.8


class Builder(base.PairBuilder):
  """Sharp photographs for synthetic blur."""

  name = 'photos'
  PAIRS = ('synthetic',)

  @staticmethod
  def find_pairs(data) -> base.Splits:
    """Returns the fixed splits; see `PairBuilder`."""
    del data  # no settings
    return {
      'train': [_pair(file, (0.0, BORDER)) for file in TRAIN],
      'val': [_pair(file, (BORDER, 1.0)) for file in TRAIN],
      'test': [_pair(file) for file in TEST],
    }


def _pair(file: str, columns: tuple[float, float] = (0.0, 1.0)) -> base.Pair:
  folder = pathlib.Path(skimage.__file__).parent / 'data'
  return base.Pair(file.split('.')[0], folder / file, columns=columns)
