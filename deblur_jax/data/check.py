"""Looks a data set over before it is trained on.

python -m deblur_jax.data.check --config=FILE.py[:small] [--manual_dir=DIR]

Counts, sizes and value ranges of each split; real pairs that are not aligned;
files that cannot be read; and leaks: pictures that are in two splits, or twice
in one. Exit status 1 if anything is wrong.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.fft
import tqdm
from PIL import Image

from deblur_jax import cli
from deblur_jax import config as config_lib
from deblur_jax.data import align, sources
from deblur_jax.data.builders import base
from deblur_jax.types import InputError

THUMBNAIL = 32
HASH_SIDE = 8
MAX_BITS = 8
"""Perceptual hashes of one picture, saved twice, differ in fewer bits."""
MAX_DIFFERENCE = 4.0
"""Mean difference of two thumbnails of one picture, in grey levels."""
LISTED = 10
FOUND = 1


@dataclasses.dataclass(frozen=True)
class Seen:
  """What is kept of one picture.

  Attributes:
    split: its split.
    name: its pair's name.
    size: (height, width) in pixels.
    low: smallest value of the sharp side.
    high: largest value.
    mean: mean value.
    hash: 64 bits of the sharp side's low frequencies.
    thumbnail: f32[32,32], grey levels of the sharp side.
    shift: (rows, columns) of the blurred side; None for synthetic pairs.
  """

  split: str
  name: str
  size: tuple[int, int]
  low: int
  high: int
  mean: float
  hash: np.uint64
  thumbnail: np.ndarray
  shift: tuple[float, float] | None


def look(split: str, pair: base.Pair) -> Seen:
  """Reads one pair.

  Raises:
    InputError: it cannot be read, or its sides differ in size.
  """
  sides = base.read_part(pair)
  sharp = sides['sharp']
  grey = Image.fromarray(sharp).convert('L')
  small = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
  thumbnail = np.asarray(small, np.float32)
  return Seen(
    split=split,
    name=pair.name,
    size=sharp.shape[:2],
    low=int(sharp.min()),
    high=int(sharp.max()),
    mean=float(sharp.mean()),
    hash=perceptual_hash(thumbnail),
    thumbnail=thumbnail,
    shift=align.shift(sides['blur'], sharp) if 'blur' in sides else None,
  )


def perceptual_hash(thumbnail: np.ndarray) -> np.uint64:
  """Returns 64 bits: which low frequencies of f32[32,32] exceed their median.

  Small changes of size, brightness or compression flip few of them.
  """
  low = scipy.fft.dctn(thumbnail)[:HASH_SIDE, :HASH_SIDE].ravel()
  bits = low > np.median(low)
  return np.packbits(bits).view(np.uint64)[0]


def duplicates(seen: Sequence[Seen]) -> Iterator[tuple[Seen, Seen]]:
  """Yields pairs of pictures that show the same."""
  hashes = np.array([picture.hash for picture in seen], np.uint64)
  for i, picture in enumerate(seen):
    differing = np.bitwise_count(hashes[i + 1 :] ^ picture.hash)
    for j in np.flatnonzero(differing <= MAX_BITS) + i + 1:
      difference = np.abs(picture.thumbnail - seen[j].thumbnail).mean()
      if difference <= MAX_DIFFERENCE:
        yield picture, seen[j]


def describe(split: str, seen: Sequence[Seen]) -> str:
  """Returns a line on one split."""
  sizes = collections.Counter(picture.size for picture in seen)
  common = ', '.join(
    f'{width}x{height} ({count})'
    for (height, width), count in sizes.most_common(3)
  )
  more = f' and {len(sizes) - 3} more sizes' if len(sizes) > 3 else ''
  low, high = min(p.low for p in seen), max(p.high for p in seen)
  mean = sum(picture.mean for picture in seen) / len(seen)
  return (
    f'{split}: {len(seen)} pictures, {common}{more}; values {low} to {high}, '
    f'mean {mean:.0f}'
  )


def findings(seen: Sequence[Seen]) -> Iterator[str]:
  """Yields a line for everything that is wrong."""
  for picture in seen:
    if picture.low == picture.high:
      yield f'one flat colour: {picture.split} {picture.name}'
  shifts = {f'{p.split} {p.name}': p.shift for p in seen if p.shift is not None}
  verdict = align.verdict(shifts)
  for name in verdict['unaligned']:
    rows, columns = shifts[name]
    yield f'not aligned ({rows:+.1f}, {columns:+.1f} px): {name}'
  if not verdict['aligned']:
    yield 'the set is not aligned: PSNR and SSIM say little on it'
  for one, other in duplicates(seen):
    kind = 'in two splits' if one.split != other.split else 'twice'
    yield f'{kind}: {one.split} {one.name} = {other.split} {other.name}'


def check(splits: base.Splits) -> tuple[list[str], list[str]]:
  """Returns (lines that describe the splits, lines on what is wrong)."""
  everything = [(s, pair) for s, pairs in splits.items() for pair in pairs]
  seen, problems = [], []
  for split, pair in tqdm.tqdm(everything, 'checking', unit=' pictures'):
    try:
      seen.append(look(split, pair))
    except InputError as error:
      problems.append(f'unreadable: {error}')
  by_split = itertools.groupby(seen, lambda picture: picture.split)
  lines = [describe(split, list(pictures)) for split, pictures in by_split]
  return lines, problems + list(findings(seen))


def shorten(lines: Iterable[str]) -> list[str]:
  """Returns at most a few lines of each kind, and how many more there are."""
  kinds = collections.defaultdict(list)
  for line in lines:
    kinds[line.partition(':')[0].partition('(')[0]].append(line)
  result = []
  for kind in kinds.values():
    result += kind[:LISTED]
    if len(kind) > LISTED:
      result.append(f'  ... and {len(kind) - LISTED} more like this')
  return result


def main() -> int:
  """The command; see the module docstring."""
  parser = cli.Parser(
    prog='python -m deblur_jax.data.check', description=__doc__.split('\n')[0]
  )
  parser.add_argument('--config', required=True, help='FILE.py[:small]')
  parser.add_argument(
    '--manual_dir', type=pathlib.Path, help="in place of the config's"
  )
  flags = parser.parse_args()
  data = config_lib.load_file(flags.config).data
  if flags.manual_dir:
    data.manual_dir = str(flags.manual_dir)
  lines, problems = check(sources.builder_class(data.name).find_pairs(data))
  print('\n'.join(lines))
  print('\n'.join(shorten(problems)) or 'nothing wrong found')
  return FOUND if problems else 0


if __name__ == '__main__':
  cli.run(main)
