"""Grey levels of files, and floats in [0,1]."""

import numpy as np

ROWS = 256


def to_float(pixels: np.ndarray) -> np.ndarray:
  """Returns f32 in [0,1] of u8, u16 or f32."""
  if pixels.dtype == np.float32:
    return pixels
  return pixels / np.float32(np.iinfo(pixels.dtype).max)


def from_float(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """Rounds f32 in [0,1] to u8 or u16, clipped; f32 stays as it is."""
  if dtype == np.float32:
    return pixels
  highest = np.float32(np.iinfo(dtype).max)
  whole = np.empty(pixels.shape, dtype)
  for row in range(0, len(pixels), ROWS):  # copies of all would be gigabytes
    some = slice(row, row + ROWS)
    whole[some] = np.round(pixels[some].clip(0, 1) * highest)
  return whole
