"""Metrics on the device agree with scikit-image's; both behave at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_jax.ops import losses, metrics, scores
from tests.runs import picture


def pair(seed, shape=(32, 28, 3)):
  rng = np.random.default_rng(seed)
  sharp = picture(*shape[:2], seed=seed)
  noise = rng.normal(0, 12, shape)
  blur = np.clip(sharp + noise, 0, 255).round().astype(np.uint8)
  return blur, sharp


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_device_metrics_agree_with_scikit_image(seed):
  blur, sharp = pair(seed)
  batch = [np.float32(side / 255)[None] for side in (blur, sharp)]
  for name, metric in metrics.METRICS.items():
    expected = scores.SCORES[name](blur, sharp)
    scale = 255**2 if name == 'mse' else 1
    got = float(metric(*batch)[0])
    assert got == pytest.approx(expected / scale, abs=1e-4), name


def test_known_values():
  black = np.zeros((16, 16, 3), np.uint8)
  grey = np.full_like(black, 51)  # 0.2 of full scale
  assert scores.mse(grey, black) == 51**2
  assert scores.psnr(grey, black) == pytest.approx(-20 * math.log10(0.2))
  assert scores.ssim(grey, black) < 0.1


def test_identical_pictures():
  _, sharp = pair(0)
  assert scores.psnr(sharp, sharp) == math.inf
  assert scores.ssim(sharp, sharp) == scores.ssim_gauss(sharp, sharp) == 1
  assert scores.mse(sharp, sharp) == 0


def test_side_below_the_window_has_no_ssim():
  small = np.zeros((6, 40, 3), np.uint8)
  assert math.isnan(scores.ssim(small, small))
  assert math.isnan(scores.ssim_gauss(small, small))
  assert (
    scores.ssim(np.zeros((7, 7, 3), np.uint8), small[:7, :7].repeat(2, 0)[:7])
    == 1
  )


def test_to_uint8_levels():
  image = np.array([-0.1, 0.5, 0.5019, 1.2], np.float32)
  expected = np.array([0, 128, 128, 255]) / 255
  np.testing.assert_allclose(metrics.to_uint8_levels(image), expected)


def test_losses_at_a_known_difference():
  sharp = np.zeros((2, 4, 4, 3), np.float32)
  restored = sharp + np.float32(0.1)
  expected = {'charbonnier': 0.1, 'l1': 0.1, 'mse': 0.01, 'psnr': -20.0}
  for name, loss in losses.LOSSES.items():
    got = loss(restored, sharp)
    assert got.shape == (2,)
    np.testing.assert_allclose(got, expected[name], rtol=1e-3, err_msg=name)


def test_matlab_volumes_against_a_plain_sum():
  """One pixel's window of 11x11x11, edges repeated, written out."""
  blur, sharp = (side.astype(np.float64) for side in pair(5, (11, 11, 3)))
  offsets = np.arange(-5, 6)
  line = np.exp(-(offsets**2) / (2 * 1.5**2))
  window = np.einsum('i,j,k->ijk', line, line, line) / line.sum() ** 3
  pads = ((5, 5), (5, 5), (5, 5))
  x, y = (np.pad(side, pads, 'edge') for side in (blur, sharp))
  values = []
  for i, j, k in np.ndindex(11, 11, 3):
    a, b = (side[i : i + 11, j : j + 11, k : k + 11] for side in (x, y))
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a = (window * a * a).sum() - mean_a**2
    var_b = (window * b * b).sum() - mean_b**2
    both = (window * a * b).sum() - mean_a * mean_b
    c1, c2 = 2.55**2, 7.65**2
    above = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    values.append(above / (mean_a**2 + mean_b**2 + c1) / (var_a + var_b + c2))
  got = scores.ssim_matlab3d(*(np.uint8(side) for side in (blur, sharp)))
  assert got == pytest.approx(np.mean(values), abs=1e-9)
