"""Deconvolution with the true PSF: what a method can do that is told the blur.

On the host, by scikit-image, in linear light, where blur is a convolution. How
hard each one works hangs on the noise, which it is told as well; the two rules
were read off photographs that are in no test split.
"""

from collections.abc import Callable, Mapping

import numpy as np
from skimage import restoration

from deblur_jax.ops import blur as synthetic

Deconvolve = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(blur u8[H,W,3], psf f32[K,K], noise as of BlurRanges) -> restored."""


def richardson_lucy(
  blur: np.ndarray, psf: np.ndarray, noise: float
) -> np.ndarray:
  """Richardson 1972, Lucy 1974; stopped before the noise grows."""
  iterations = int(np.clip(0.15 / max(noise, 1e-3), 10, 30))

  def restore(light: np.ndarray) -> np.ndarray:
    return restoration.richardson_lucy(
      light, psf, iterations, filter_epsilon=1e-6
    )

  return _in_linear_light(blur, psf, restore)


def wiener(blur: np.ndarray, psf: np.ndarray, noise: float) -> np.ndarray:
  """Wiener's filter (Hunt 1973), fine detail held down by a Laplacian."""
  balance = max(3 * noise, 0.003)

  def restore(light: np.ndarray) -> np.ndarray:
    return restoration.wiener(light, psf, balance, clip=False)

  return _in_linear_light(blur, psf, restore)


METHODS: Mapping[str, Deconvolve] = {
  'richardson_lucy': richardson_lucy,
  'wiener': wiener,
}


def _in_linear_light(
  blur: np.ndarray,
  psf: np.ndarray,
  restore: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
  """Runs a method on each colour of the light, mirrored at the borders."""
  border = len(psf)
  pads = ((border, border), (border, border), (0, 0))
  picture = np.pad(np.float32(blur / 255), pads, 'symmetric')
  light = np.asarray(synthetic.to_linear(picture))
  restored = np.stack([restore(light[..., c]) for c in range(3)], -1)
  restored = restored[border:-border, border:-border].clip(0, 1)
  levels = np.asarray(synthetic.to_srgb(restored)) * 255
  return np.round(levels).astype(np.uint8)
