"""A folder of one's own: blur/sharp pairs, or sharp photographs.

PATH/{train,val,test}/ are honoured when present, else pictures are split
80/10/10 by a stable hash of their names. In each place, blur/ and sharp/ hold
pairs of one name (the extension may differ); without them, all pictures below
are sharp photographs.
"""

import pathlib
import re

from deblur_jax.data import pictures
from deblur_jax.data.builders import base
from deblur_jax.types import InputError

SIDE = re.compile(r'(^|_)(blur|blurred|sharp|gt)(_|$)', re.IGNORECASE)
"""What data sets of pairs call the folders of a side, as GoPro's blur_gamma."""


class Builder(base.PairBuilder):
  """Pairs or photographs below `config.data.manual_dir`."""

  name = 'folder'

  @staticmethod
  def find_pairs(data) -> base.Splits:
    """Returns the pairs of each split; see `PairBuilder`."""
    root = base.data_root(data)
    real = data.pairs == 'real'
    if not root.is_dir():
      raise InputError(f'{root}: no such folder (config.data.manual_dir)')
    splits = find_splits(root, real)
    return base.complete(splits or base.split_pairs(find(root, real)))


def find_splits(
  root: pathlib.Path, real: bool, prefix: str = ''
) -> base.Splits:
  """Returns the pairs of ROOT/{train,val,test} that exist."""
  return {
    split: find(root / split, real, f'{prefix}{split}/')
    for split in base.SPLITS
    if (root / split).is_dir()
  }


def find(folder: pathlib.Path, real: bool, prefix: str = '') -> list[base.Pair]:
  """Returns the pairs (real) or the sharp pictures right below `folder`.

  Raises:
    InputError: there is no picture, blur/ and sharp/ do not match, or they lie
      deeper, as in the layouts of GoPro, REDS and RealBlur.
  """
  sides = folder / 'blur', folder / 'sharp'
  if real:
    return match(*sides, prefix)
  source = sides[1] if sides[1].is_dir() else folder
  found = {prefix + name: path for name, path in _by_name(source).items()}
  if not found:
    raise InputError(f'{source}: no pictures in this folder')
  for path in found.values():
    for side in path.relative_to(source).parent.parts:
      if SIDE.search(side):  # blurred pictures would be taken for sharp ones
        raise InputError(
          f'{source}: pairs in {path.parent}; put them into {sides[0]} and '
          f'{sides[1]}, in folders of equal names, if there are several clips'
        )
  return [base.Pair(name, path) for name, path in found.items()]


def match(
  blur: pathlib.Path, sharp: pathlib.Path, prefix: str = ''
) -> list[base.Pair]:
  """Pairs the pictures of two folders by name, whatever their extensions.

  Raises:
    InputError: a folder is missing or empty, or names have no partner.
  """
  for side in (blur, sharp):
    if not side.is_dir():
      raise InputError(
        f'{side}: no such folder; pairs lie in blur/ and sharp/ with one name'
      )
  blurred, sharps = _by_name(blur), _by_name(sharp)
  for side, found in ((blur, blurred), (sharp, sharps)):
    if not found:
      raise InputError(f'{side}: no pictures in this folder')
  lonely = sorted(blurred.keys() ^ sharps.keys())
  if lonely:
    raise InputError(
      f'{blur.parent}: no partner in blur/ or sharp/ for {base.listed(lonely)}'
    )
  return [
    base.Pair(prefix + name, sharps[name], blurred[name])
    for name in sorted(blurred)
  ]


def _by_name(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Maps 'sub/name' without extension to its file."""
  found: dict[str, pathlib.Path] = {}
  for path in pictures.list_pictures(folder):
    name = path.relative_to(folder).with_suffix('').as_posix()
    if name in found:
      raise InputError(f'{path} and {found[name].name} have one name: keep one')
    found[name] = path
  return found
