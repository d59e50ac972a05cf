"""What every data set shares: pairs of files to prepared ArrayRecord files.

Train pictures are stored as tiles, so that a random crop never decodes a whole
photograph; val and test pictures stay whole.
"""

import dataclasses
import hashlib
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from PIL import Image

from deblur_jax.data import pictures
from deblur_jax.types import InputError

SPLITS = ('train', 'val', 'test')
TILE = 512
"""Largest side of a stored training picture, in pixels."""

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
  """

  name: str
  sharp: pathlib.Path
  blur: pathlib.Path | None = None
  columns: tuple[float, float] = (0.0, 1.0)

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

  @staticmethod
  def find_pairs(data) -> Splits:
    """Returns the pairs of each split for a `config.data`."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    real = any(p.blur for p in itertools.chain(*self._splits.values()))
    features = {
      'name': tfds.features.Text(),
      'sharp': tfds.features.Image(shape=(None, None, 3)),
      'source': tfds.features.Text(),
      'box': tfds.features.Tensor(shape=(4,), dtype=np.int32),
    }
    if real:
      features['blur'] = tfds.features.Image(shape=(None, None, 3))
    return tfds.core.DatasetInfo(
      builder=self,
      description='Sharp pictures or blur/sharp pairs for deblurring.',
      features=tfds.features.FeaturesDict(features),
    )

  @property
  def _splits(self) -> Splits:
    return self.builder_config.splits

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
    for pair in bar:
      try:
        yield from examples(pair, tiled=split == 'train')
      except InputError as error:
        if not self.builder_config.skip_bad:
          raise
        bar.write(f'skipped: {error}')


def examples(pair: Pair, tiled: bool) -> Iterator[tuple[str, dict]]:
  """Yields (key, example) for a pair: one a tile, or one for the whole.

  Raises:
    InputError: a file cannot be read, or the two sides differ in size.
  """
  sides = read_pair(pair)
  height, width = sides['sharp'].shape[:2]
  left, right = (round(share * width) for share in pair.columns)
  area = (0, left, height, right - left)
  for box in tiles(area, TILE) if tiled else [area]:
    encoded = {side: encode(cut(image, box)) for side, image in sides.items()}
    key = f'{pair.name}@{",".join(map(str, box))}'
    source = pair.sharp.as_posix()
    yield key, {'name': pair.name, 'source': source, 'box': box, **encoded}


def read_pair(pair: Pair) -> dict[str, np.ndarray]:
  """Reads sharp and, for real pairs, blur as u8[H,W,3] of one size.

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


def split_names(names: Sequence[str]) -> dict[str, list[str]]:
  """Splits names 80/10/10 by hash rank; no split is empty from 3 names up.

  Raises:
    InputError: there are fewer than 3 names.
  """
  if len(names) < 3:
    raise InputError(
      f'{len(names)} pictures cannot be split: at least 3 needed'
    )
  ranked = hash_rank(names)
  part = max(1, len(ranked) // 10)
  return {
    'test': sorted(ranked[:part]),
    'val': sorted(ranked[part : 2 * part]),
    'train': sorted(ranked[2 * part :]),
  }
