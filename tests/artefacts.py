"""Finds the grids that upsampling and adversarial losses leave behind."""

import numpy as np

from deblur_jax.imaging import tiling

SIDE = 16
FLAT = 4.0
"""Grey levels: standard deviation below which a patch of 16 pixels is flat."""


def nyquist_energy(image, sharp):
  """Energy at the Nyquist frequency on the flat patches of `sharp`.

  Args:
    image: u8[H,W,3], a restored picture.
    sharp: u8[H,W,3], the original, which says where it is flat.

  Returns:
    Energies of image and of sharp, and the number of patches. An energy is the
    mean square amplitude, in full scale, of the three grids of period 2 (rows,
    columns, checkerboard) over patches and channels.
  """
  sides = [_patches(side.astype(np.float64) / 255) for side in (image, sharp)]
  flat = sides[1].std((1, 2)).max(-1) < FLAT / 255
  stripes = (-1.0) ** np.arange(SIDE)
  ones = np.ones(SIDE)
  grids = [
    np.outer(a, b) / SIDE**2
    for a, b in ((stripes, ones), (ones, stripes), (stripes, stripes))
  ]
  energies = [
    float(np.mean(np.einsum('phwc,ghw->pgc', side[flat], grids) ** 2))
    for side in sides
  ]
  return *energies, int(flat.sum())


def psnr(a, b):
  """Of pictures in [0,1], in dB."""
  return -10 * np.log10(np.mean((a - b) ** 2) + 1e-30)


def seam_ratio(whole, tiled, side):
  """Mean absolute gradient at seams against elsewhere, whole's being 1."""
  starts = np.array(tiling.Tiles(*tiled.shape[:2], side)._starts()[1][1:])
  centre = starts + tiling.OVERLAP // 2
  seams = (centre[:, None] + np.arange(-tiling.RAMP, tiling.RAMP)).ravel()
  inside = np.isin(np.arange(tiled.shape[1] - 1), seams)
  ratios = [
    np.abs(np.diff(a, axis=1))[:, inside].mean()
    / np.abs(np.diff(a, axis=1))[:, ~inside].mean()
    for a in (tiled, whole)
  ]
  return ratios[0] / ratios[1]


def _patches(image):
  """Cuts [H,W,3] into [P,16,16,3]."""
  h, w = (side // SIDE for side in image.shape[:2])
  cut = image[: h * SIDE, : w * SIDE].reshape(h, SIDE, w, SIDE, -1)
  return cut.swapaxes(1, 2).reshape(h * w, SIDE, SIDE, -1)
