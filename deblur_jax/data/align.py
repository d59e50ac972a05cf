"""Is a blurred picture aligned with its sharp one? The shift of each pair.

A blur of any shape moves nothing as long as its kernel is centred: the centroid
m1 is zero, whatever the place of the peak, which is what phase correlation
follows. Low frequencies see a kernel k through its moments alone,

  k * f = f - m1 . grad f + 1/2 M2 : grad grad f - 1/6 M3 : ... + ...,

so the shift is m1 in a least-squares fit of the low-passed blurred picture by
Gaussian derivatives of the sharp one (its local jet: Koenderink and van Doorn
1987), fitted again at the place found until m1 is zero (Lucas and Kanade 1981).
Spread and skew of the blur go into the higher terms and leave m1 unbiased.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.polynomial import hermite_e

MAX_SHIFT = 1.25
"""The longest shift of an aligned pair, in px."""

MAX_SHARE = 0.1
"""The largest share of unaligned pairs in an aligned set."""

_ORDER = 4  # of the derivatives: centroid, spread, skew and tails of the blur
_TERMS = [(i, o - i) for o in range(_ORDER + 1) for i in range(o, -1, -1)]
_MARGIN = 2.5  # sigmas between the outer samples and the border
_UNLIKE = 0.15  # share of the variance that no fit leaves of the same picture
_NOISE = 0.02  # standard deviation a pixel, in linear light

_CODE = np.arange(256) / 255
_LINEAR = np.where(
  _CODE <= 0.04045, _CODE / 12.92, ((_CODE + 0.055) / 1.055) ** 2.4
).astype(np.float32)  # IEC 61966-2-1
_LUMINANCE = np.float32([0.2126, 0.7152, 0.0722])


def shift(blur: np.ndarray, sharp: np.ndarray) -> tuple[float, float]:
  """How far (rows, columns) the blurred picture lies off the sharp one, in px.

  Where the pictures cannot tell (a side under 16 px, a constant picture, along
  a straight edge), the shift is 0: no pair is accused without evidence.

  Args:
    blur: u8[H,W,3], sRGB.
    sharp: u8[H,W,3], sRGB.

  Returns:
    The shift, or (inf, inf) where no shift makes them the same picture.

  Raises:
    ValueError: the two differ in size.
  """
  if blur.shape != sharp.shape:
    raise ValueError(f'sizes differ: blur {blur.shape}, sharp {sharp.shape}')
  side = min(blur.shape[:2])
  if side < 16:
    return 0.0, 0.0
  factor = max(1, round(side / 256))
  blur, sharp = _luminance(blur, factor), _luminance(sharp, factor)
  sigma = min(5, side / factor / 20)
  coarse, _ = _fit(blur, sharp, np.zeros(2), 2 * sigma)
  fine, left = _fit(blur, sharp, coarse, sigma)
  if left > _UNLIKE:
    return math.inf, math.inf
  # A blur much longer than sigma has more terms than are fitted, and at twice
  # the scale there is less to fit: what is real is seen at both.
  moved = min(coarse, fine, key=lambda m: math.hypot(*m))
  return tuple(map(float, factor * moved))


def _luminance(image, factor):
  rows, columns = (n // factor for n in image.shape[:2])
  linear = _LINEAR[image[: rows * factor, : columns * factor]]
  blocks = linear.reshape(rows, factor, columns, factor * 3).sum(1)
  return blocks @ np.tile(_LUMINANCE, factor) / factor**2


def _fit(blur, sharp, moved, sigma):
  jet = _derivatives(sharp, sigma, _TERMS)
  gram = jet.T @ jet
  limit = min(sharp.shape) / 4
  floor = _NOISE**2 / (4 * math.pi * sigma**2)
  noise = floor + np.mean(jet[:, 0] ** 2) / 10
  for _ in range(8):
    target = _derivatives(blur, sigma, _TERMS[:1], moved)[:, 0]
    # Every coefficient, the whole shift among them, is expected within one
    # sigma; white noise correlates 4 pi samples that are one sigma apart.
    expected = np.zeros(len(_TERMS))
    expected[:3] = 1, *(moved / sigma)
    ridge = 4 * math.pi * noise
    x = np.linalg.solve(
      gram + ridge * np.eye(len(gram)), jet.T @ target + ridge * expected
    )
    residual = np.mean((target - jet @ x) ** 2)
    noise = floor + residual
    step = -sigma * x[1:3] / max(x[0], 0.5)
    step *= min(1, 1.5 * sigma / max(math.hypot(*step), 1e-9))
    moved = np.clip(moved + step, -limit, limit)
    if math.hypot(*step) < 0.01 * sigma:
      break
  return moved, residual / (np.mean(target**2) + floor / _UNLIKE)


def _derivatives(picture, sigma, terms, offset=(0.0, 0.0)):
  order = max(map(max, terms))
  rows, columns = (
    _filters(n, sigma, order, o)
    for n, o in zip(picture.shape, offset, strict=True)
  )
  half = rows @ picture
  jet = np.stack([(half[i] @ columns[j].T).ravel() for i, j in terms], 1)
  return np.float64(jet) - jet.mean(0, dtype=np.float64)


def _filters(size, sigma, order, offset):
  span = size - 1 - 2 * _MARGIN * sigma
  centres = _MARGIN * sigma + np.linspace(0, span, 1 + round(span / sigma))
  x = (np.arange(size) - offset - centres[:, None]) / sigma
  weight = np.exp(-(x**2) / 2)
  weight /= weight.sum(1, keepdims=True)
  hermite = np.moveaxis(hermite_e.hermevander(x, order), -1, 0)
  return (hermite * weight).astype(np.float32)


def is_aligned(moved: tuple[float, float]) -> bool:
  """Whether a shift in px is that of an aligned pair."""
  return math.hypot(*moved) <= MAX_SHIFT


def verdict(shifts: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
  """The shifts of a set by pair -> {'aligned': bool, 'unaligned': [names]}."""
  unaligned = sorted(k for k, v in shifts.items() if not is_aligned(v))
  aligned = len(unaligned) <= MAX_SHARE * len(shifts)
  return {'aligned': aligned, 'unaligned': unaligned}
