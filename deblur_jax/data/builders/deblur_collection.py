"""Kaggle 'A curated list of image deblurring datasets': the DBlur bundle.

DBlur/SUBSET/{train,val,test}/{blur,sharp}/ hold aligned pairs of one name. Some
subsets lack val, some have blur/ and sharp/ alone: those are test pictures.
"""

import pathlib

from deblur_jax.data.builders import base, folder
from deblur_jax.types import InputError

PAGE = 'jishnuparayilshibu/a-curated-list-of-image-deblurring-datasets'
BUNDLE = 'DBlur'
TREE = f'{BUNDLE}/SUBSET/{{train,val,test}}/{{blur,sharp}}/'


class Builder(base.PairBuilder):
  """Pairs of `config.data.subset`, e.g. CelebA or Gopro."""

  name = 'deblur_collection'

  @staticmethod
  def find_pairs(data) -> base.Splits:
    """Returns the splits that are there; a missing val comes from train."""
    root = find_root(data)
    real = data.pairs == 'real'
    prefix = f'{data.subset}/'
    splits = folder.find_splits(root, real, prefix)
    if not splits:
      splits = {'test': folder.find(root, real, f'{prefix}test/')}
    return base.complete(splits)


def find_root(data) -> pathlib.Path:
  """Returns the folder of the subset.

  Raises:
    InputError: the bundle or the subset is not there.
  """
  if not data.subset:
    raise InputError('config.data.subset: name a part of DBlur, e.g. CelebA')
  root = base.data_root(data)
  places = [root / BUNDLE / data.subset, root / data.subset]
  for place in places:
    if place.is_dir():
      return place
  raise base.not_found(f'DBlur/{data.subset}', PAGE, TREE, places)
