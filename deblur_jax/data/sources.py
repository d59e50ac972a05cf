"""From a config.data to random access to the examples of one split."""

import contextlib
import dataclasses
import functools
import importlib
import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import filelock
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from deblur_jax import files
from deblur_jax.data.builders import base, folder
from deblur_jax.types import InputError

SPLITS = base.SPLITS
KEPT_BYTES = 2**28
"""Splits up to this size are decoded once and kept in memory."""

Example = dict[str, Any]
"""name str; sharp and, for real pairs, blur u8[H,W,3].

In a mixed split all have blur, and `real` bool tells whose is to be used.
"""


@dataclasses.dataclass(frozen=True, repr=False)
class Examples(Sequence[Example]):
  """Examples by index.

  Attributes:
    read: index -> example.
    size: how many there are.
    real: whether each brings its own blurred side; in a mixed split, some do.
    mark: tells them from others: changes with their files.
  """

  read: Callable[[int], Example]
  size: int
  real: bool
  mark: str = ''

  def __len__(self) -> int:
    return self.size

  def __getitem__(self, index: int) -> Example:
    if not 0 <= index < self.size:
      raise IndexError(index)
    return self.read(index)


def builder_class(name: str) -> type[base.PairBuilder]:
  """Returns the Builder of data/builders/NAME.py.

  Raises:
    InputError: there is none.
  """
  path = f'deblur_jax.data.builders.{name}'
  try:
    return importlib.import_module(path).Builder
  except ModuleNotFoundError as error:
    if error.name != path:
      raise  # of what the file itself needs
  except AttributeError:
    pass
  raise InputError(
    f'config.data.name={name}: no such file in data/builders/, or no Builder '
    'in it'
  )


def load_builder(data) -> tfds.core.DatasetBuilder:
  """Finds the pairs of a config.data and prepares them if they changed.

  Raises:
    InputError: unknown name, no files, a broken or unmatched file, or pairs
      that the data set does not have.
  """
  builder_type = builder_class(data.name)
  if data.pairs not in builder_type.PAIRS:
    raise InputError(
      f'config.data.pairs={data.pairs}: {data.name} has '
      f'{" or ".join(builder_type.PAIRS)}'
    )
  splits = builder_type.find_pairs(data)
  mark = base.fingerprint(splits, (data.pairs, data.skip_bad))
  builder_config = base.PairsConfig(
    name=mark,
    version=builder_type.VERSION,
    splits=splits,
    skip_bad=data.skip_bad,
  )
  tfds.disable_progress_bar()  # ours counts pictures, not shards

  def make() -> tfds.core.DatasetBuilder:
    return builder_type(config=builder_config, file_format='array_record')

  builder = make()
  # Not whether the folder exists: it may have come since `builder` looked.
  if not builder.info.splits:
    path = pathlib.Path(builder.data_dir)
    path.parents[1].mkdir(parents=True, exist_ok=True)
    # Of two runs begun together, one prepares the data and the other waits.
    with filelock.FileLock(path.parents[1] / '.lock'):
      make().download_and_prepare(file_format='array_record')
    builder = make()
  return builder


def open_split(data, split: str) -> Examples:
  """Returns the examples of one split, preparing the data set if need be.

  Raises:
    InputError: as `load_builder`, or the data set has no such split.
  """
  return _open(load_builder(data), data.name, split)


def open_splits(data) -> dict[str, Examples]:
  """Returns all splits: a missing one must not show after days of training.

  Raises:
    InputError: as `open_split`, or crops larger than pictures are stored.
  """
  if data.crop > base.TILE:
    raise InputError(
      f'config.data.crop={data.crop}: at most {base.TILE}, the side of the '
      'tiles that training pictures are stored in'
    )
  builder = load_builder(data)
  return {split: _open(builder, data.name, split) for split in SPLITS}


def _open(
  builder: tfds.core.DatasetBuilder, data_set: str, split: str
) -> Examples:
  if split not in builder.info.splits:
    have = ', '.join(sorted(builder.info.splits))
    raise InputError(f'{data_set}: no {split} split here (found: {have})')
  skip = tfds.decode.SkipDecoding()
  sides = [s for s in ('blur', 'sharp') if s in builder.info.features]
  records = builder.as_data_source(
    split=split, decoders=dict.fromkeys(sides, skip)
  )
  if not len(records):
    raise InputError(f'{data_set}: the {split} split is empty')
  pairs = builder.pairs(split)
  real = {pair.blur is not None for pair in pairs.values()}
  if not any(real):
    sides = ['sharp']

  def read(record: int) -> Example:
    stored = records[record]
    decoded = {side: _decode(stored[side]) for side in sides}
    name = stored['name'].decode()
    example = {'name': name, **decoded}
    mixed = len(real) > 1
    return mark(example, pairs[name].blur is not None) if mixed else example

  if builder.info.splits[split].num_bytes <= KEPT_BYTES:
    read = functools.cache(read)
  names = pathlib.Path(builder.data_dir, f'{split}.names.json')
  places = _places(records, pairs, names)
  mark_of_split = f'{builder.builder_config.name}/{split}'
  return Examples(
    lambda i: read(places[i]), len(places), all(real), mark_of_split
  )


def mark(example: Example, real: bool) -> Example:
  """Completes an example of a mixed split: tells whether it is a real pair."""
  blur = example['blur'] if real else example['sharp']
  return {**example, 'blur': blur, 'real': np.asarray(real)}


def _places(
  records: Sequence, pairs: Mapping[str, base.Pair], path: pathlib.Path
) -> Sequence[int]:
  """Returns the record of each example of an epoch.

  Args:
    records: of a split.
    pairs: of it, by their names.
    path: where the records' names are kept: to ask each for its name is to read
      all pictures.
  """
  if all(pair.times == 1 for pair in pairs.values()):
    return range(len(records))
  if path.is_file():
    names = json.loads(path.read_text())
  else:
    names = [record['name'].decode() for record in records]
    with contextlib.suppress(InputError):  # others' data, that may only be read
      files.write_text(path, json.dumps(names))
  times = [pairs[name].times for name in names]
  return np.repeat(range(len(records)), times).tolist()


def open_folder(path: pathlib.Path) -> Examples:
  """Returns all pairs of PATH/{blur,sharp}, or all sharp pictures of PATH.

  They are read straight from their files.

  Raises:
    InputError: no such folder, no pictures, or sides that do not match.
  """
  if not path.is_dir():
    raise InputError(f'{path}: no such folder')
  real = (path / 'blur').is_dir()
  pairs = folder.find(path, real)

  def read(index: int) -> Example:
    return {'name': pairs[index].name, **base.read_pair(pairs[index])}

  return Examples(
    read, len(pairs), real, base.fingerprint({'all': pairs}, (real,))
  )


def _decode(encoded: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(encoded)))
