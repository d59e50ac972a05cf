"""The eight flips and turns of a picture: Timofte et al. 2016."""

import itertools
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from deblur_jax.types import Array

Pictures = TypeVar('Pictures', Array, np.ndarray)

TURNS = tuple(itertools.product((False, True), (1, -1), (1, -1)))
"""Whether rows become columns, after the order of each is kept or reversed."""


def mean(
  restore: Callable[[Pictures], Pictures], pictures: Pictures
) -> Pictures:
  """Returns the mean of what is restored from all eight, turned back.

  One after the other, so that it takes no more memory than one of them.

  Args:
    restore: maps [...,H,W,C] to the same shape, for H and W as they come.
    pictures: [...,H,W,C].
  """
  total = 0
  for transposed, rows, columns in TURNS:
    seen = pictures[..., ::rows, ::columns, :]
    made = restore(seen.swapaxes(-3, -2) if transposed else seen)
    made = made.swapaxes(-3, -2) if transposed else made
    total = total + made[..., ::rows, ::columns, :]
  return total / len(TURNS)
