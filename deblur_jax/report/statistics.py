"""Means over test pictures, with how far they can be trusted."""

import math
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVELS = (2.5, 97.5)
"""Percentiles that bound a 95 % interval."""


def summary(values: Sequence[float], groups: Sequence[str]) -> dict:
  """Returns mean, low, high, n, infinite and empty of one score.

  low and high bound the 95 % bootstrap interval of the mean (Efron 1979), with
  whole groups resampled: several blurs of one photograph are no independent
  pictures. Infinite and NaN values are left out and counted.

  Args:
    values: one score per picture.
    groups: the photograph that each picture comes from.
  """
  infinite = sum(math.isinf(value) for value in values)
  empty = sum(math.isnan(value) for value in values)
  kept = [i for i, value in enumerate(values) if math.isfinite(value)]
  counts = {'n': len(kept), 'infinite': infinite, 'empty': empty}
  if not kept:
    return {'mean': None, 'low': None, 'high': None, **counts}
  finite = np.array([values[i] for i in kept])
  low, high = interval(finite, [groups[i] for i in kept])
  mean = float(finite.mean())
  return {'mean': mean, 'low': low, 'high': high, **counts}


def interval(values: np.ndarray, groups: Sequence[str]) -> tuple[float, float]:
  """Returns the 95 % bootstrap interval of the mean of f64[n]."""
  names, member = np.unique(np.asarray(groups), return_inverse=True)
  sums = np.bincount(member, values)
  sizes = np.bincount(member)
  draw = np.random.default_rng(0).integers(
    len(names), size=(RESAMPLES, len(names))
  )
  means = sums[draw].sum(axis=1) / sizes[draw].sum(axis=1)
  low, high = np.percentile(means, LEVELS)
  return float(low), float(high)
