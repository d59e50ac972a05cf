"""Results as pictures: the overview, its details, disagreements."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from deblur_jax.report import figures
from deblur_jax.report.results import SIDES, Result, Section


def overview(sections: Sequence[Section]) -> np.ndarray:
  """Returns the figure: a row for each model of each test, u8[H,W,3]."""
  # A grid for each, as pictures of tests differ in size.
  return figures.stack([_test(section) for section in sections])


def _test(section: Section) -> np.ndarray:
  """Returns the rows of one test, u8[H,W,3]."""
  rows, captions = [], []
  for result in section.results:
    image = result.first_kept()
    if not image or not result.record['made_of']:
      continue
    sides = [read(result.picture(image, side)) for side in SIDES]
    row = next(row for row in result.rows if row['image'] == image)
    rows.append([*sides, details(sides)])
    captions.append(
      [
        f'blurred\n{short_scores(row, "input")}',
        f'{result.name}\n{short_scores(row, "output")}',
        f'sharp\n{section.dataset}, {image}',
        'details',
      ]
    )
  return figures.grid(rows, captions)


def details(sides: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the liveliest spot of all sides below each other, enlarged."""
  blur, _, sharp = sides
  h, w = sharp.shape[:2]
  side = max(min(h, w) // 5, 8)
  grey = sharp.astype(float).mean(-1)
  lively = np.abs(np.diff(grey, axis=0))[:, :-1]
  lively = lively + np.abs(np.diff(grey, axis=1))[:-1]
  places = [
    (lively[y : y + side, x : x + side].sum(), y, x)
    for y in range(0, max(h - side, 1), max(side // 2, 1))
    for x in range(0, max(w - side, 1), max(side // 2, 1))
  ]
  _, y, x = max(places)
  height = max(h // 3, 1)
  cut = [
    Image.fromarray(picture[y : y + side, x : x + side]).resize(
      (height, height), Image.Resampling.NEAREST
    )
    for picture in sides
  ]
  return np.concatenate([np.asarray(picture) for picture in cut])


def short_scores(row: Mapping[str, Any], side: str) -> str:
  """Returns MSE, PSNR and SSIM of one picture."""
  mse, psnr, ssim = (row[f'{name}_{side}'] for name in ('mse', 'psnr', 'ssim'))
  return f'MSE {mse:.1f}  PSNR {psnr:.2f}  SSIM {ssim:.3f}'


def read(path: pathlib.Path) -> np.ndarray:
  """Reads a kept picture, u8[H,W,3]."""
  return np.asarray(Image.open(path))


def side_by_side(image: str, pair: Sequence[tuple[Result, str]]) -> np.ndarray:
  """Returns blurred, two results and sharp, u8[H,W,3]."""
  first = pair[0][0]
  pictures = [read(first.picture(image, 'blur'))]
  pictures += [read(result.picture(image, 'restored')) for result, _ in pair]
  pictures.append(read(first.picture(image, 'sharp')))
  names = [f'{result.name} (by {metric})' for result, metric in pair]
  return figures.grid([pictures], [['blurred', *names, 'sharp']])
