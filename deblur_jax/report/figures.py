"""Pictures side by side, pixel for pixel, with captions."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_jax import files

GAP = 6
LINE = 18
FONT_SIZES = range(13, 6, -1)
READABLE = 240
"""Pixels, as wide as a picture should be for the text below it."""
PAPER, INK = (255, 255, 255), (20, 20, 20)

Picture = np.ndarray
"""u8[H,W,3], or f32[H,W,3] in [0,1]."""


def grid(
  rows: Sequence[Sequence[Picture]],
  captions: Sequence[Sequence[str]] | None = None,
) -> np.ndarray:
  """Lays rows of pictures out on paper; pictures keep their pixels.

  Args:
    rows: pictures of any sizes; those of one column share its width.
    captions: text under each picture, if any, in one or more lines. Pictures
      too narrow for it are enlarged, all by one whole factor.

  Returns:
    u8[H,W,3].
  """
  images = [[to_image(picture) for picture in row] for row in rows]
  texts = [[text.split('\n') for text in row] for row in captions or []]
  if texts:
    widest = max(image.width for row in images for image in row)
    images = [[enlarged(i, -(-READABLE // widest)) for i in r] for r in images]
  widths = [max(i.width for i in column) for column in _columns(images)]
  for c, column in enumerate(_columns(texts)):
    longest = (line for lines in column for line in lines)
    widths[c] = max(widths[c], *(math.ceil(_font(t, 0)[1]) for t in longest))
  below = LINE * max((len(lines) for row in texts for lines in row), default=0)
  heights = [max(image.height for image in row) + below for row in images]
  size = (
    sum(widths) + GAP * (len(widths) + 1),
    sum(heights) + GAP * (len(heights) + 1),
  )
  paper = Image.new('RGB', size, PAPER)
  draw = ImageDraw.Draw(paper)
  top = GAP
  for r, (row, height) in enumerate(zip(images, heights, strict=True)):
    left = GAP
    for c, (image, width) in enumerate(zip(row, widths, strict=True)):
      paper.paste(image, (left, top))
      for n, line in enumerate(texts[r][c] if texts else []):
        place = left, top + height - below + n * LINE + 2
        draw.text(place, line, INK, _font(line, width)[0])
      left += width + GAP
    top += height + GAP
  return np.asarray(paper)


def stack(sheets: Sequence[np.ndarray]) -> np.ndarray:
  """Lays u8[H,W,3] of any sizes below each other on paper."""
  width = max(sheet.shape[1] for sheet in sheets)
  paper = Image.new('RGB', (width, sum(len(sheet) for sheet in sheets)), PAPER)
  top = 0
  for sheet in sheets:
    paper.paste(Image.fromarray(sheet), (0, top))
    top += len(sheet)
  return np.asarray(paper)


def enlarged(image: Image.Image, factor: int) -> Image.Image:
  """Repeats each pixel `factor` times along both sides."""
  size = image.width * factor, image.height * factor
  return image.resize(size, Image.Resampling.NEAREST)


def _columns(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
  return list(zip(*rows, strict=True))


def _font(text: str, width: int) -> tuple[ImageFont.ImageFont, float]:
  """Returns the largest font that fits a line, or else the smallest one.

  Args:
    text: one line.
    width: in pixels.

  Returns:
    The font and the pixels that the line takes in it.
  """
  for size in FONT_SIZES:
    font = ImageFont.load_default(size)
    length = font.getlength(text)
    if length <= width:
      break
  return font, length


def to_image(picture: Picture) -> Image.Image:
  """Returns a Pillow image of u8, or of f32 in [0,1]."""
  if picture.dtype != np.uint8:
    levels = np.round(np.clip(np.asarray(picture, np.float32), 0, 1) * 255)
    picture = levels.astype(np.uint8)
  return Image.fromarray(picture)


def save(picture: np.ndarray, path: pathlib.Path) -> None:
  """Writes u8[H,W,3] as PNG, whole."""
  with files.whole(path) as temporary:
    Image.fromarray(picture).save(temporary, 'PNG')
