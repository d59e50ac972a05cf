"""The final scores, on u8[H,W,3]; MSE to SSIM are scikit-image's, on the host.

A score that cannot be computed (a side smaller than the window) is NaN.
"""

import functools
import math
from collections.abc import Callable

import jax
import numpy as np
from scipy import ndimage
from skimage import metrics as skimage_metrics

from deblur_jax.ops import perceptual

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


def ssim_matlab3d(image: np.ndarray, sharp: np.ndarray) -> float:
  """SSIM as most deblurring papers print it: over volumes, colour being depth.

  MATLAB's ssim of an H x W x 3 array: 11x11x11 Gaussian windows of sigma 1.5,
  edges repeated, mean over all pixels and colours. It is higher than others.
  """
  if min(sharp.shape[:2]) < 11:
    return math.nan

  def smooth(levels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(levels, 1.5, mode='nearest', radius=5)

  x, y = image.astype(np.float64), sharp.astype(np.float64)
  mean_x, mean_y = smooth(x), smooth(y)
  var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
  covariance = smooth(x * y) - mean_x * mean_y
  c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
  score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
  score /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  return float(score.mean())


def sharpness(image: np.ndarray, sharp: np.ndarray) -> float:
  """Mean length of the gradient, as a share of the sharp picture's.

  1 is as crisp as the original, whether rightly or not: it tells the smooth
  from the detailed where PSNR cannot.
  """
  image, sharp = (_gradient(side) for side in (image, sharp))
  return image / sharp if sharp else math.nan


def lpips(name: str, image: np.ndarray, sharp: np.ndarray) -> float:
  """LPIPS by the features of 'alexnet' or 'vgg16'; 0 for equal pictures."""
  if min(sharp.shape[:2]) < perceptual.SMALLEST[name]:
    return math.nan
  sides = [np.float32(side[None]) / 255 for side in (image, sharp)]
  return float(perceptual.compiled_lpips(name, _weights(name), *sides)[0])


@functools.cache
def _weights(name: str) -> perceptual.Weights:
  return jax.device_put(perceptual.load(name))  # once: VGG16's are 59 MB


def _gradient(image: np.ndarray) -> float:
  if min(image.shape[:2]) < 2:
    return 0.0
  levels = image.astype(np.float64)
  rows, columns = (np.diff(levels, axis=axis) for axis in (0, 1))
  return float(np.hypot(rows[:, :-1], columns[:-1]).mean())


def _ssim(image: np.ndarray, sharp: np.ndarray, side: int, **how) -> float:
  if min(sharp.shape[:2]) < side:
    return math.nan
  return float(
    skimage_metrics.structural_similarity(
      sharp, image, channel_axis=-1, data_range=255, **how
    )
  )


SCORES: dict[str, Score] = {
  'mse': mse,
  'psnr': psnr,
  'ssim': ssim,
  'ssim_gauss': ssim_gauss,
  'ssim_matlab3d': ssim_matlab3d,
  'sharpness': sharpness,
}
"""By name; with the extra `perceptual` also LPIPS."""
if perceptual.available():
  SCORES |= {
    'lpips_alex': functools.partial(lpips, 'alexnet'),
    'lpips_vgg': functools.partial(lpips, 'vgg16'),
  }

BETTER = {
  'mse': -1,
  'psnr': 1,
  'ssim': 1,
  'ssim_gauss': 1,
  'ssim_matlab3d': 1,
  'lpips_alex': -1,
  'lpips_vgg': -1,
}
"""1 where more is better, -1 where less; sharpness may be too much as well."""
