"""Several folders as one data set, to train one model for many kinds of blur.

`config.data.subset` names them, below `config.data.manual_dir`, each with how
often its pictures come in an epoch: 'photos*4,DBlur/CelebA,pairs/reds_train*8'.
Each is laid out as in `folder`; one without train/, val/ and test/ is for
training alone. With `config.data.pairs=mixed`, pairs in blur/ and sharp/ are
trained on as they are and all other pictures under synthetic blur; validation
and test are on sharp pictures under synthetic blur.
"""

import collections
import dataclasses
import pathlib

from deblur_jax.data.builders import base, folder
from deblur_jax.types import InputError


class Builder(base.PairBuilder):
  """Pairs and photographs of `config.data.subset`."""

  name = 'mixture'
  PAIRS = 'synthetic', 'real', 'mixed'

  @staticmethod
  def find_pairs(data) -> base.Splits:
    """Returns the splits of all parts together; see `PairBuilder`.

    A picture that one part keeps for validation or test is not trained on, even
    if another part holds it as well.

    Raises:
      InputError: a part is none, is not there, or holds what another one does
        under the same name.
    """
    root = base.data_root(data)
    splits = {}
    for entry in data.subset.split(','):
      part, times = parse(entry)
      for split, pairs in find_part(root, part, data.pairs).items():
        own = times if split == 'train' else 1
        splits.setdefault(split, []).extend(
          dataclasses.replace(pair, times=own) for pair in pairs
        )
    for pairs in splits.values():
      times = collections.Counter(pair.name for pair in pairs)
      twice = [name for name, count in times.items() if count > 1]
      if twice:
        raise InputError(
          f'config.data.subset={data.subset}: two parts hold '
          f'{base.listed(twice)}; name each folder once, with *TIMES'
        )
    whole = base.complete(splits)
    kept = {p.sharp for split in ('val', 'test') for p in whole.get(split, ())}
    if 'train' in whole:
      whole['train'] = [p for p in whole['train'] if p.sharp not in kept]
    if data.pairs == 'mixed':
      for split in whole.keys() & {'val', 'test'}:
        whole[split] = [dataclasses.replace(p, blur=None) for p in whole[split]]
    return whole


def parse(entry: str) -> tuple[str, int]:
  """Returns folder and times of 'FOLDER' or 'FOLDER*TIMES'.

  Raises:
    InputError: it is neither.
  """
  part, star, times = entry.strip().rpartition('*')
  if not star:
    part, times = times, '1'
  if not part or not times.isdecimal() or not int(times):
    raise InputError(
      f'config.data.subset: {entry!r} is not FOLDER or FOLDER*TIMES'
    )
  return part, int(times)


def find_part(root: pathlib.Path, part: str, kind: str) -> base.Splits:
  """Returns the splits of one folder below `root`.

  Raises:
    InputError: there is no such folder, or its pairs do not match.
  """
  place = root / part
  if not place.is_dir():
    raise InputError(
      f'{place}: no such folder (config.data.subset={part}); '
      'config.data.manual_dir or $DEBLUR_DATA names the one that holds it'
    )
  paired = any(
    (place / split / 'blur').is_dir() for split in (*base.SPLITS, '')
  )
  real = kind == 'real' or (kind == 'mixed' and paired)
  splits = folder.find_splits(place, real, f'{part}/')
  if splits:
    return base.complete(splits)
  return {'train': folder.find(place, real, f'{part}/')}
