"""A picture as overlapping tiles: where they lie, and how they are joined."""

import dataclasses
from collections.abc import Iterator

import numpy as np

MARGIN = 16
"""Pixels that a picture is mirrored by: further in, borders leave no trace."""
MULTIPLE = 32
"""Pixels: networks that halve a picture k times restore it alike if moved by a
multiple of 2^k, and by other distances not quite."""
OVERLAP = 96
"""Pixels that neighbouring tiles share."""
RAMP = 32
"""Pixels, amid those, over which one tile turns into the other."""


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Square tiles over a picture and the margin mirrored around it.

  Attributes:
    height, width: of the picture.
    side: of a tile.
  """

  height: int
  width: int
  side: int

  def __len__(self) -> int:
    rows, columns = map(len, self._starts())
    return rows * columns

  def __iter__(self) -> Iterator[tuple[int, int]]:
    """Yields the first pixel, row and column in the picture, of each tile."""
    rows, columns = self._starts()
    return ((row, column) for row in rows for column in columns)

  def cut(self, pixels: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    """Returns a tile [S,S,C] of pixels[H,W,C], mirrored beyond the borders."""
    return mirrored(pixels, origin, (self.side, self.side))

  def add(
    self, whole: np.ndarray, tile: np.ndarray, origin: tuple[int, int]
  ) -> None:
    """Adds what a restored tile f32[S,S,C] gives to whole f32[H,W,C].

    What all tiles give to a pixel has weights that sum to 1.
    """
    spans = [
      _span(starts, start, self.side, length)
      for starts, start, length in zip(
        self._starts(), origin, (self.height, self.width), strict=True
      )
    ]
    (rows, row_weights), (columns, column_weights) = spans
    inside = [
      slice(span.start - start, span.stop - start)
      for span, start in zip((rows, columns), origin, strict=True)
    ]
    weights = row_weights[:, None, None] * column_weights[:, None]
    whole[rows, columns] += tile[*inside] * weights

  def _starts(self) -> tuple[list[int], list[int]]:
    return tuple(
      _starts(length, self.side) for length in (self.height, self.width)
    )


def side_for(window: int) -> int:
  """Returns the side of the smallest tile that restores as the whole does.

  Args:
    window: side of what the network's pools look at. Where tiles meet, a
      window that is moved to lie inside of them then moves but little.
  """
  return rounded_up(window + OVERLAP)


def mirrored_side(length: int) -> int:
  """Returns the side of a picture whose borders are mirrored.

  By `MARGIN` on each side, and on to a multiple, so that pictures of almost
  one size share one compiled shape.
  """
  return rounded_up(length + 2 * MARGIN)


def rounded_up(length: int) -> int:
  """Returns the next multiple of `MULTIPLE`."""
  return -(-length // MULTIPLE) * MULTIPLE


def mirrored(
  pixels: np.ndarray, origin: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
  """Cuts a rectangle out of pixels[H,W,C] repeated in mirrors all around."""
  rows, columns = (
    _reflect(np.arange(start, start + count), length)
    for start, count, length in zip(origin, shape, pixels.shape, strict=False)
  )
  return pixels[rows[:, None], columns]


def _reflect(places: np.ndarray, length: int) -> np.ndarray:
  """Maps places on an endless line to those in [0, length), edges repeated."""
  places = places % (2 * length)
  return np.minimum(places, 2 * length - 1 - places)


def _starts(length: int, side: int) -> list[int]:
  """Returns where tiles start so that they cover [-MARGIN, length + MARGIN).

  Any two starts are a multiple of `MULTIPLE` apart.
  """
  room = length + 2 * MARGIN - side
  if room <= 0:
    return [-MARGIN]
  last = rounded_up(room)
  starts = [*range(0, last, side - OVERLAP), last]
  return [start - MARGIN for start in starts]


def _span(
  starts: list[int], start: int, side: int, length: int
) -> tuple[slice, np.ndarray]:
  """Returns the pixels of [0, length) that a tile gives, and their weights."""
  places = np.arange(max(start, 0), min(start + side, length))
  number = starts.index(start)
  weights = np.ones(len(places), np.float32)
  if number:
    weights *= _rising(places, start, starts[number - 1] + side)
  if number + 1 < len(starts):
    weights *= 1 - _rising(places, starts[number + 1], start + side)
  kept = np.flatnonzero(weights)
  first, last = kept[[0, -1]]
  span = slice(int(places[first]), int(places[last]) + 1)
  return span, weights[first : last + 1]


def _rising(places: np.ndarray, begin: int, end: int) -> np.ndarray:
  """Goes smoothly from 0 to 1 over `RAMP` pixels amid [begin, end)."""
  share = (places - (begin + end - RAMP) / 2 + 0.5) / RAMP
  return (np.sin(np.pi / 2 * share.clip(0, 1)) ** 2).astype(np.float32)
