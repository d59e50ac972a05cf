"""The final scores: scikit-image's own, on the host, on u8[H,W,3] pictures.

A score that cannot be computed (a side smaller than the window) is NaN.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from skimage import metrics as skimage_metrics

Score = Callable[[np.ndarray, np.ndarray], float]


def mse(image: np.ndarray, sharp: np.ndarray) -> float:
  """Mean squared error in squared grey levels, 0 to 65025."""
  return float(skimage_metrics.mean_squared_error(sharp, image))


def psnr(image: np.ndarray, sharp: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB over RGB; inf for equal pictures."""
  error = mse(image, sharp)
  return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(image: np.ndarray, sharp: np.ndarray) -> float:
  """SSIM, scikit-image's default: 7x7 uniform windows, mean over RGB."""
  return _ssim(image, sharp, 7)


def ssim_gauss(image: np.ndarray, sharp: np.ndarray) -> float:
  """SSIM of Wang et al. 2004: 11x11 Gaussian windows, mean over RGB."""
  return _ssim(
    image, sharp, 11, gaussian_weights=True, use_sample_covariance=False
  )


def _ssim(image: np.ndarray, sharp: np.ndarray, side: int, **how) -> float:
  if min(sharp.shape[:2]) < side:
    return math.nan
  return float(
    skimage_metrics.structural_similarity(
      sharp, image, channel_axis=-1, data_range=255, **how
    )
  )


SCORES: Mapping[str, Score] = {
  'mse': mse,
  'psnr': psnr,
  'ssim': ssim,
  'ssim_gauss': ssim_gauss,
}
