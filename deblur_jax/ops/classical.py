"""Deconvolution with the true PSF: what a method can do that is told the blur.

On the host, by scikit-image, in linear light, where blur is a convolution. How
hard each one works hangs on the noise, which it is told as well; the numbers
were read off photographs that are in no test split.
"""

from collections.abc import Callable, Mapping

import numpy as np
from skimage import restoration

from deblur_jax.ops import blur as synthetic

Deconvolve = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(blur u8[H,W,3], psf f32[K,K], noise as of BlurRanges) -> restored."""

POWER = 5e-5
"""Of light without noise, times the squared frequency in cycles per pixel."""
ROUNDING = 1e-6
"""Variance that 8 bits add to the light."""


def richardson_lucy(
  blur: np.ndarray, psf: np.ndarray, noise: float
) -> np.ndarray:
  """Richardson 1972, Lucy 1974; stopped before the noise grows."""
  iterations = int(np.clip(0.15 / max(noise, 1e-3), 10, 30))

  def restore(light: np.ndarray) -> np.ndarray:
    return restoration.richardson_lucy(
      light, psf, iterations, filter_epsilon=1e-6
    )

  border = (len(psf), len(psf))
  return _in_linear_light(blur, (border, border), restore)


def wiener(blur: np.ndarray, psf: np.ndarray, noise: float) -> np.ndarray:
  """Wiener's filter, for a power of light that falls as in photographs.

  That is with the squared frequency (Field 1987); the noise is that of
  `blur.noise_deviation`, at the mean of the light.
  """
  height, width = blur.shape[:2]
  rows, columns = np.fft.fftfreq(2 * height), np.fft.rfftfreq(2 * width)
  # Complex numbers tell scikit-image that this is a transfer function.
  frequency = np.complex64(np.hypot(rows[:, None], columns))

  def restore(light: np.ndarray) -> np.ndarray:
    deviation = float(synthetic.noise_deviation(light.mean(), noise))
    balance = (deviation**2 + ROUNDING) / POWER
    return restoration.wiener(light, psf, balance, frequency, clip=False)

  # With its mirror images beside and below, a picture has no edge to ring at.
  return _in_linear_light(blur, ((0, height), (0, width)), restore)


METHODS: Mapping[str, Deconvolve] = {
  'richardson_lucy': richardson_lucy,
  'wiener': wiener,
}


def _in_linear_light(
  blur: np.ndarray,
  borders: tuple[tuple[int, int], tuple[int, int]],
  restore: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
  """Runs a method on each colour of the light, mirrored at the borders."""
  picture = np.pad(np.float32(blur / 255), (*borders, (0, 0)), 'symmetric')
  light = np.asarray(synthetic.to_linear(picture))
  restored = np.stack([restore(light[..., c]) for c in range(3)], -1)
  rows, columns = (
    slice(before, before + n)
    for (before, _), n in zip(borders, blur.shape, strict=False)
  )
  restored = restored[rows, columns].clip(0, 1)
  levels = np.asarray(synthetic.to_srgb(restored)) * 255
  return np.round(levels).astype(np.uint8)
