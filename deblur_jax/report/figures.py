"""Pictures side by side, pixel for pixel, with captions."""

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_jax import files

GAP = 6
LINE = 18
FONT_SIZE = 13
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
    captions: one line of text under each picture, if any.

  Returns:
    u8[H,W,3].
  """
  images = [[to_image(picture) for picture in row] for row in rows]
  widths = [
    max(i.width for i in column) for column in zip(*images, strict=True)
  ]
  text = LINE if captions else 0
  heights = [max(image.height for image in row) + text for row in images]
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
      if captions:
        write(draw, captions[r][c], left, top + height - text, width)
      left += width + GAP
    top += height + GAP
  return np.asarray(paper)


def write(
  draw: ImageDraw.ImageDraw, text: str, left: int, top: int, width: int
) -> None:
  """Writes one line, smaller where it would not fit the width."""
  size = FONT_SIZE
  font = ImageFont.load_default(size)
  while draw.textlength(text, font) > width and size > 7:
    size -= 1
    font = ImageFont.load_default(size)
  draw.text((left, top + 2), text, INK, font)


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
