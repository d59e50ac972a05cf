"""Is a blurred picture aligned with its sharp one? The shift of each pair.

A centred blur of any shape moves nothing on average: its kernel's centroid, the
first moment, is zero, while phase correlation follows the kernel's peak. Low
frequencies see a kernel through its moments alone,

  k * f = f - m1 . grad f + 1/2 M2 : grad grad f - 1/6 M3 : ... + ...,

so the shift is m1 in a least-squares fit of the low-passed blurred picture by
Gaussian derivatives of the sharp one (the local jet, Koenderink and van Doorn
1987), moved and fitted again until m1 is zero (Lucas and Kanade 1981). Spread
and skew of the blur take up the higher terms and leave the shift unbiased.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.polynomial import hermite_e

MAX_SHIFT = 1.25
"""The longest shift of an aligned pair, in px."""

MAX_SHARE = 0.1
"""The largest share of unaligned pairs in an aligned set."""

_ORDER = 3  # of the derivatives: centroid, spread and skew of the blur
_MARGIN = 2.0  # from the centre of a low-pass to the border, in sigmas
_STEP = 0.5  # between the centres, in sigmas
_PRIOR = 3.0  # standard deviation of the shift expected, in px
_UNLIKE = 0.3  # share of the contrast that is left by a fit of other pictures
_FLOOR = 1e-6  # variance that tells nothing, in linear light

_BYTE = np.arange(256) / 255
_LINEAR = np.where(
  _BYTE <= 0.04045, _BYTE / 12.92, ((_BYTE + 0.055) / 1.055) ** 2.4
)  # IEC 61966-2-1
_LUMINANCE = (_LINEAR * [[0.2126], [0.7152], [0.0722]]).astype(np.float32)


def shift(blur: np.ndarray, sharp: np.ndarray) -> tuple[float, float]:
  """How far (rows, columns) the blurred picture lies off the sharp one, in px.

  Where the pictures tell nothing (sides under 16 px, a constant picture, along
  a straight edge) the shift is 0: without evidence no pair is accused.

  Args:
    blur: u8[H,W,3], sRGB.
    sharp: u8[H,W,3], sRGB.

  Returns:
    The shift, or (inf, inf) for different pictures, which no shift explains.

  Raises:
    ValueError: the sides differ in size.
  """
  if blur.shape != sharp.shape:
    raise ValueError(f'sizes differ: blur {blur.shape}, sharp {sharp.shape}')
  if min(blur.shape[:2]) < 16:
    return 0.0, 0.0
  factor = max(1, min(blur.shape[:2]) // 256)
  blur, sharp = (_luminance(x, factor) for x in (blur, sharp))
  sigma = min(5.0, min(blur.shape) / 20)
  moved = np.zeros(2)
  for scale in (2, 1):
    moved, left = _fit(blur, sharp, moved, scale * sigma, _PRIOR / factor)
  if left > 1:
    return math.inf, math.inf
  return tuple(map(float, moved * factor))


def _luminance(image, factor):
  rows, columns = (n // factor for n in image.shape[:2])
  image = image[: rows * factor, : columns * factor]
  linear = sum(_LUMINANCE[c].take(image[..., c]) for c in range(3))
  return linear.reshape(rows, factor, columns, factor).mean((1, 3))


def _fit(blur, sharp, moved, sigma, prior):
  sides = sharp.shape
  rows, columns = (_jet(n, sigma, _ORDER) for n in sides)
  orders = [
    (i, j)
    for i, j in itertools.product(range(_ORDER + 1), repeat=2)
    if i + j <= _ORDER
  ]
  orders.sort(key=sum)
  left = rows @ sharp
  jet = np.stack([(left[i] @ columns[j].T).ravel() for i, j in orders], 1)
  jet = (jet - jet.mean(0)).astype(np.float64)
  gram = jet.T @ jet
  precision = np.r_[
    1e-3, [(sigma / prior) ** 2] * 2, [0.25] * (len(orders) - 3)
  ]
  noise = _FLOOR + 0.1 * gram[0, 0] / len(jet)
  for _ in range(6):
    y = _jet(sides[0], sigma, 0, moved[0])[0] @ blur
    y = (y @ _jet(sides[1], sigma, 0, moved[1])[0].T).ravel()
    y = (y - y.mean()).astype(np.float64)
    mean = np.r_[1, moved[::-1] / sigma, np.zeros(len(orders) - 3)]
    p = precision * noise * 4 * np.pi / _STEP**2
    x = np.linalg.solve(gram + np.diag(p), jet.T @ y + p * mean)
    residual = np.mean((y - jet @ x) ** 2)
    noise = residual + _FLOOR
    step = -x[2:0:-1] * sigma / max(x[0], 0.5)
    step = step * min(1, 1.5 * sigma / max(np.hypot(*step), 1e-9))
    moved = np.clip(moved + step, -min(sides) / 4, min(sides) / 4)
    if np.hypot(*step) < 0.05:
      break
  return moved, residual / (_UNLIKE * np.mean(y**2) + _FLOOR)


def _jet(size, sigma, order, offset=0.0):
  margin = _MARGIN * sigma
  span = size - 1 - 2 * margin
  centres = margin + np.linspace(0, span, 1 + round(span / (_STEP * sigma)))
  x = (np.arange(size) - offset - centres[:, None]) / sigma
  weight = np.exp(-(x**2) / 2)
  weight /= weight.sum(1, keepdims=True)
  rows = hermite_e.hermevander(x, order) * weight[..., None]
  return np.moveaxis(rows, -1, 0).astype(np.float32)


def is_aligned(moved: tuple[float, float]) -> bool:
  """Whether a shift in px is that of an aligned pair."""
  return math.hypot(*moved) <= MAX_SHIFT


def verdict(shifts: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
  """The shifts of a set by pair -> {'aligned': bool, 'unaligned': [names]}."""
  unaligned = sorted(k for k, v in shifts.items() if not is_aligned(v))
  aligned = len(unaligned) <= MAX_SHARE * len(shifts)
  return {'aligned': aligned, 'unaligned': unaligned}
