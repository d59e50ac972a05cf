"""MSE, PSNR and SSIM on the device, for training and validation.

Final scores come from ops/scores.py; these agree with them within 1e-4 on
pictures of multiples of 1/255. Pictures are f32[B,H,W,3] in [0,1], results
f32[B].
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.ops import losses
from deblur_jax.types import Array

K1, K2 = 0.01, 0.03
"""The constants of SSIM (Wang et al. 2004, section III.C)."""


def to_uint8_levels(image: Array) -> Array:
  """Clips to [0,1] and rounds to the levels that a picture file can hold."""
  return jnp.round(jnp.clip(image, 0, 1) * 255) / 255


def psnr(restored: Array, sharp: Array) -> Array:
  """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
  return -10 * jnp.log10(losses.mse(restored, sharp))


def ssim(restored: Array, sharp: Array) -> Array:
  """SSIM over 7x7 uniform windows with sample covariance.

  scikit-image's default; mean over channels and all whole windows.
  """
  window = np.full(7, 1 / 7, np.float32)
  return _ssim(restored, sharp, window, 49 / 48)


def ssim_gauss(restored: Array, sharp: Array) -> Array:
  """SSIM over 11x11 Gaussian windows of sigma 1.5 (Wang et al. 2004)."""
  offsets = np.arange(-5, 6, dtype=np.float32)
  window = np.exp(-(offsets**2) / (2 * 1.5**2))
  return _ssim(restored, sharp, window / window.sum(), 1.0)


def _ssim(x: Array, y: Array, window: np.ndarray, unbias: float) -> Array:
  """SSIM by equation 13 of Wang et al. 2004; window f32[n], separable."""

  def smooth(image: Array) -> Array:
    return _filter(_filter(image, window, 1), window, 2)

  mean_x, mean_y = smooth(x), smooth(y)
  var_x = unbias * (smooth(x * x) - mean_x * mean_x)
  var_y = unbias * (smooth(y * y) - mean_y * mean_y)
  covariance = unbias * (smooth(x * y) - mean_x * mean_y)
  c1, c2 = K1**2, K2**2
  score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
  score /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  return jnp.mean(score, (1, 2, 3))


def _filter(image: Array, window: np.ndarray, axis: int) -> Array:
  """Weighted sum of shifted copies along an axis; whole windows only."""
  length = image.shape[axis] - len(window) + 1
  return sum(
    float(weight) * jax.lax.slice_in_dim(image, i, i + length, axis=axis)
    for i, weight in enumerate(window)
  )


METRICS: Mapping[str, Callable[[Array, Array], Array]] = {
  'mse': losses.mse,
  'psnr': psnr,
  'ssim': ssim,
  'ssim_gauss': ssim_gauss,
}
