"""What every data set shares: pairs of files to prepared ArrayRecord files.

Train pictures are stored as tiles, so that a random crop never decodes a whole
photograph; val and test pictures stay whole.
"""

import dataclasses
import hashlib
import io
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from PIL import Image

from deblur_jax.data import pictures
from deblur_jax.types import InputError

SPLITS = ('train', 'val', 'test')
LISTED = 5
TILE = 512
"""Largest side of a stored training picture, in pixels."""

NO_BLUR = np.zeros((1, 1, 3), np.uint8)
"""Stands for a missing blurred side where other pictures have one."""

Box = tuple[int, int, int, int]
"""Top row, left column, height and width in pixels."""


@dataclasses.dataclass(frozen=True)
class Pair:
  """One picture of a split: a sharp file and, for real pairs, its blurred one.

  Attributes:
    name: unique within the data set and independent of where it lies; it keys
      the evaluation's randomness.
    sharp: the sharp picture's file.
    blur: the blurred picture's file; None for synthetic blur.
    columns: the share (from, to) of the width that belongs to this split.
    times: how often it comes in one epoch.
  """

  name: str
  sharp: pathlib.Path
  blur: pathlib.Path | None = None
  columns: tuple[float, float] = (0.0, 1.0)
  times: int = 1

  @property
  def files(self) -> tuple[pathlib.Path, ...]:
    """The files of this pair."""
    return (self.sharp,) if self.blur is None else (self.sharp, self.blur)


Splits = dict[str, list[Pair]]


@dataclasses.dataclass(eq=False)
class PairsConfig(tfds.core.BuilderConfig):
  """A prepared variant: its name holds the fingerprint of the source files."""

  splits: Splits = dataclasses.field(default_factory=dict, repr=False)
  skip_bad: bool = False


class PairBuilder(tfds.core.GeneratorBasedBuilder):
  """Prepares pairs once; subclasses set `name` and define `find_pairs`."""

  VERSION = tfds.core.Version('1.0.0')
  PAIRS = 'synthetic', 'real'
  """What `config.data.pairs` may be."""

  @staticmethod
  def find_pairs(data) -> Splits:
    """Returns the pairs of each split for a `config.data`."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'name': tfds.features.Text(),
      'sharp': tfds.features.Image(shape=(None, None, 3)),
      'source': tfds.features.Text(),
      'box': tfds.features.Tensor(shape=(4,), dtype=np.int32),
    }
    if self._real:
      features['blur'] = tfds.features.Image(shape=(None, None, 3))
    return tfds.core.DatasetInfo(
      builder=self,
      description='Sharp pictures or blur/sharp pairs for deblurring.',
      features=tfds.features.FeaturesDict(features),
    )

  @property
  def _splits(self) -> Splits:
    return self.builder_config.splits

  def pairs(self, split: str) -> dict[str, Pair]:
    """Returns the pairs of a split by their names."""
    return {pair.name: pair for pair in self._splits[split]}

  @property
  def _real(self) -> bool:
    return any(p.blur for p in itertools.chain(*self._splits.values()))

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager  # nothing is downloaded
    return {
      split: self._generate_examples(split, pairs)
      for split, pairs in self._splits.items()
    }

  def _generate_examples(
    self, split: str, pairs: list[Pair]
  ) -> Iterator[tuple[str, dict]]:
    bar = tqdm.tqdm(pairs, f'preparing {self.name}/{split}', unit=' pictures')
    readable = 0
    for pair in bar:
      try:
        for key, example in examples(pair, tiled=split == 'train'):
          if self._real:
            example.setdefault('blur', encode(NO_BLUR))
          yield key, example
        readable += 1
      except InputError as error:
        if not self.builder_config.skip_bad:
          raise
        bar.write(f'skipped: {error}')
    if not readable:
      raise InputError(f'{self.name}/{split}: no picture can be read')


def examples(pair: Pair, tiled: bool) -> Iterator[tuple[str, dict]]:
  """Yields (key, example) for a pair: one a tile, or one for the whole.

  Raises:
    InputError: a file cannot be read, or the two sides differ in size.
  """
  sides = read_pair(pair)
  area = part(pair, sides['sharp'])
  for box in tiles(area, TILE) if tiled else [area]:
    encoded = {side: encode(cut(image, box)) for side, image in sides.items()}
    key = f'{pair.name}@{",".join(map(str, box))}'
    source = pair.sharp.as_posix()
    yield key, {'name': pair.name, 'source': source, 'box': box, **encoded}


def read_pair(pair: Pair) -> dict[str, np.ndarray]:
  """Reads the whole sharp and, for real pairs, blur as u8[H,W,3] of one size.

  Raises:
    InputError: a file cannot be read, or the two sides differ in size.
  """
  sharp = pictures.read_rgb(pair.sharp)
  if pair.blur is None:
    return {'sharp': sharp}
  blur = pictures.read_rgb(pair.blur)
  if blur.shape != sharp.shape:
    sizes = [f'{s.shape[1]}x{s.shape[0]}' for s in (blur, sharp)]
    raise InputError(
      f'{pair.blur} is {sizes[0]} but {pair.sharp} is {sizes[1]}: both sides '
      'of a pair need one size'
    )
  return {'blur': blur, 'sharp': sharp}


def part(pair: Pair, image: np.ndarray) -> Box:
  """Returns the box of the pair's columns in u8[H,W,3]."""
  height, width = image.shape[:2]
  left, right = (round(share * width) for share in pair.columns)
  return 0, left, height, right - left


def read_part(pair: Pair) -> dict[str, np.ndarray]:
  """Reads the sides of a pair as `read_pair`, cut to its columns."""
  sides = read_pair(pair)
  box = part(pair, sides['sharp'])
  return {side: cut(image, box) for side, image in sides.items()}


def tiles(area: Box, tile: int) -> list[Box]:
  """Covers an area with boxes of at most tile x tile pixels.

  Boxes are as large as they may be and overlap evenly where the area is no
  multiple: a box of leftovers would be smaller than a training crop.
  """
  top, left, height, width = area
  rows, columns = (_starts(side, tile) for side in (height, width))
  size = min(height, tile), min(width, tile)
  return [
    (top + row, left + column, *size)
    for row, column in itertools.product(rows, columns)
  ]


def _starts(side: int, tile: int) -> list[int]:
  count = -(-side // tile)
  return [round(i * (side - tile) / max(count - 1, 1)) for i in range(count)]


def cut(image: np.ndarray, box: Box) -> np.ndarray:
  """Returns the part of u8[H,W,3] inside the box."""
  top, left, height, width = box
  return image[top : top + height, left : left + width]


def encode(image: np.ndarray) -> io.BytesIO:
  """Encodes u8[H,W,3] as BMP: lossless, and ten times faster to read than PNG.

  ArrayRecord compresses the bytes.
  """
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'BMP')
  buffer.seek(0)
  return buffer


def fingerprint(splits: Splits, settings: Sequence) -> str:
  """Hashes names, sizes and modification times of all source files."""
  digest = hashlib.sha256(repr((TILE, *settings)).encode())
  for split, pairs in sorted(splits.items()):
    for pair in pairs:
      digest.update(f'{split}/{pair.name}/{pair.columns}'.encode())
      for path in pair.files:
        status = path.stat()
        digest.update(f'{path} {status.st_size} {status.st_mtime_ns}'.encode())
  return digest.hexdigest()[:16]


def hash_rank(names: Iterable[str]) -> list[str]:
  """Orders names by a hash that is the same on every machine and run."""
  return sorted(names, key=lambda n: hashlib.sha256(n.encode()).hexdigest())


def split_pairs(pairs: Sequence[Pair]) -> Splits:
  """Splits pairs 80/10/10 by hash rank; none is empty from 3 pairs up.

  Raises:
    InputError: there are fewer than 3 pairs.
  """
  names = hash_rank(pair.name for pair in pairs)
  if len(names) < 3:
    raise InputError(
      f'{len(names)} pictures cannot be split into train, val and test: '
      'at least 3 are needed'
    )
  part = max(1, len(names) // 10)
  split_of = dict.fromkeys(names, 'train')
  split_of |= dict.fromkeys(names[:part], 'test')
  split_of |= dict.fromkeys(names[part : 2 * part], 'val')
  splits = {split: [] for split in SPLITS}
  for pair in pairs:
    splits[split_of[pair.name]].append(pair)
  return splits


def complete(splits: Splits) -> Splits:
  """Makes a missing val or test from a tenth of train each, by hash rank.

  However often it came in an epoch of training, a picture comes there once.

  Raises:
    InputError: train has too few pictures to share.
  """
  missing = [split for split in ('val', 'test') if split not in splits]
  if 'train' not in splits or not missing:
    return splits
  train = {pair.name: pair for pair in splits['train']}
  if len(train) <= len(missing):
    raise InputError(
      f'{len(train)} training pictures cannot be shared with {missing}'
    )
  ranked = hash_rank(train)
  part = max(1, len(ranked) // 10)
  result = dict(splits)
  for split in missing:
    result[split] = [
      dataclasses.replace(train[name], times=1)
      for name in sorted(ranked[:part])
    ]
    ranked = ranked[part:]
  return {**result, 'train': [train[name] for name in sorted(ranked)]}


def listed(names: Sequence[str]) -> str:
  """Returns the first names, and how many more there are."""
  more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
  return ', '.join(names[:LISTED]) + more


def data_root(data) -> pathlib.Path:
  """Returns config.data.manual_dir, or $DEBLUR_DATA, or ~/deblur_data."""
  given = data.manual_dir or os.environ.get('DEBLUR_DATA', '~/deblur_data')
  return pathlib.Path(given).expanduser()


def not_found(
  what: str, page: str, tree: str, looked: Iterable[pathlib.Path]
) -> InputError:
  """Returns the error for a data set that is not there.

  Args:
    what: the data set's name.
    page: Kaggle's OWNER/NAME.
    tree: the layout to unpack it to.
    looked: the folders that were tried.
  """
  places = '\n  '.join(str(path.absolute()) for path in looked)
  return InputError(
    f'{what} is not here. Looked for\n  {places}\n'
    f'Download it from https://www.kaggle.com/datasets/{page} and unpack it '
    f'so that the folder given by config.data.manual_dir (or '
    f'$DEBLUR_DATA) holds\n  {tree}\n'
    'configs/cnn_photos.py runs without any download.'
  )
