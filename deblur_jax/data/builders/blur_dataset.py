"""Kaggle kwentar/blur-dataset: 350 scenes, sharp, defocused and motion-blurred.

Names are ID_DEVICE_{S,F,M}.ext with mixed extensions and an order of their own
in each folder, so pictures are paired by ID. The three pictures of a scene are
different shots: `config.data.pairs = 'real'` trains on pairs that are not
aligned pixel by pixel. The default blurs the sharp ones.
"""

import collections
import pathlib

from deblur_jax.data import pictures
from deblur_jax.data.builders import base
from deblur_jax.types import InputError

PAGE = 'kwentar/blur-dataset'
SCALED = 'blur_dataset_scaled'
SHARP = 'sharp'
BLURRED = {'defocus': 'defocused_blurred', 'motion': 'motion_blurred'}
TREE = f'{SCALED}/{{{SHARP},{",".join(BLURRED.values())}}}/'


class Builder(base.PairBuilder):
  """Sharp scenes; with `pairs = 'real'`, `subset` is defocus or motion."""

  name = 'blur_dataset'

  @staticmethod
  def find_pairs(data) -> base.Splits:
    """Splits by ID: all shots of one scene are in one split."""
    root = find_root(data)
    sharp = by_id(root / SHARP)
    blurred = by_id(root / blurred_folder(data)) if data.pairs == 'real' else {}
    if blurred:
      check_partners(root, sharp, blurred)
    pairs = [
      base.Pair(str(number), path, blurred.get(number))
      for number, path in sorted(sharp.items())
    ]
    return base.split_pairs(pairs)


def find_root(data) -> pathlib.Path:
  """Returns the folder that holds sharp/; two copies are not counted twice.

  Raises:
    InputError: the data set is not there.
  """
  root = base.data_root(data)
  places = [root / SCALED, root]
  for place in places:
    if (place / SHARP).is_dir():
      return place
  raise base.not_found('The blur data set', PAGE, TREE, places)


def blurred_folder(data) -> str:
  """Returns the folder of the blurred side that `subset` names."""
  if data.subset not in BLURRED:
    raise InputError(
      f'config.data.subset={data.subset!r}: choose one of {", ".join(BLURRED)}'
    )
  return BLURRED[data.subset]


def by_id(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """Maps scene ID to file.

  Raises:
    InputError: no folder, no picture, a name without ID, or one ID twice.
  """
  if not folder.is_dir():
    raise InputError(f'{folder}: no such folder')
  found = collections.defaultdict(list)
  for path in pictures.list_pictures(folder):
    number = path.name.partition('_')[0]
    if not number.isdecimal():
      raise InputError(f'{path}: the name must be ID_DEVICE_TYPE.ext')
    found[int(number)].append(path)
  for number, paths in found.items():
    if len(paths) > 1:
      names = ', '.join(path.name for path in paths)
      raise InputError(f'{folder}: ID {number} stands for {names}: keep one')
  if not found:
    raise InputError(f'{folder}: no pictures in this folder')
  return {number: paths[0] for number, paths in found.items()}


def check_partners(root: pathlib.Path, sharp: dict, blurred: dict) -> None:
  """Raises InputError if an ID is on one side only."""
  lonely = sorted(sharp.keys() ^ blurred.keys())
  if lonely:
    names = base.listed([str(number) for number in lonely])
    raise InputError(f'{root}: no partner for ID {names}')
