"""Means over test pictures, with how far they can be trusted."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

RESAMPLES = 2000
LEVELS = (2.5, 97.5)
"""Percentiles that bound a 95 % interval."""
FEW = 20
"""Groups below which a bootstrap is too sure of itself."""


def summary(values: Sequence[float], groups: Sequence[str]) -> dict:
  """Returns mean, low, high, n, groups, infinite and empty of one score.

  low and high bound the 95 % interval of the mean, as `interval` says; None for
  fewer than three groups. Infinite and NaN values are left out and counted.

  Args:
    values: one score per picture.
    groups: the photograph that each picture comes from.
  """
  infinite = sum(math.isinf(value) for value in values)
  empty = sum(math.isnan(value) for value in values)
  kept = [i for i, value in enumerate(values) if math.isfinite(value)]
  whose = [groups[i] for i in kept]
  counts = {
    'n': len(kept),
    'groups': len(set(whose)),
    'infinite': infinite,
    'empty': empty,
  }
  if not kept:
    return {'mean': None, 'low': None, 'high': None, **counts}
  finite = np.array([values[i] for i in kept])
  low, high = interval(finite, whose)
  mean = float(finite.mean())
  return {'mean': mean, 'low': low, 'high': high, **counts}


def paired(
  values: Sequence[float],
  reference: Sequence[float],
  groups: Sequence[str],
  better: int,
) -> dict:
  """Returns the summary of value - reference, and how often it is a gain.

  Args:
    values: one score per picture.
    reference: scores of the same pictures, in the same order.
    groups: as of `summary`.
    better: 1 where more of the score is better, -1 where less.

  Returns:
    As `summary`, `wins`: the share of pictures on which values are better (a
    tie is half a win; infinite ones count as well), and `clear`: whether the
    interval excludes zero.
  """
  a, b = np.asarray(values, float), np.asarray(reference, float)
  with np.errstate(invalid='ignore'):  # two infinite ones have no difference
    result = summary((a - b).tolist(), groups)
  if not result['n']:
    return {**result, 'wins': None, 'clear': False}
  known = ~np.isnan(a) & ~np.isnan(b)
  gains = better * (1.0 * (a > b) - (a < b))[known]
  low, high = result['low'], result['high']
  clear = low is not None and (low > 0 or high < 0)
  return {**result, 'wins': float((gains + 1).mean() / 2), 'clear': clear}


def interval(
  values: np.ndarray, groups: Sequence[str]
) -> tuple[float, float] | tuple[None, None]:
  """Returns the 95 % interval of the mean of f64[n].

  A bootstrap (Efron 1979), with whole groups resampled: several blurs of one
  photograph are no independent pictures. Of fewer than `FEW` groups, Student's
  t with a variance between groups (Liang and Zeger 1986). Of fewer than three
  groups there is none: that of two is wider than any score can be.
  """
  names, member = np.unique(np.asarray(groups), return_inverse=True)
  if len(names) < 3:
    return None, None
  sums = np.bincount(member, values)
  sizes = np.bincount(member)
  if len(names) < FEW:
    mean = values.mean()
    variance = np.var(sums - sizes * mean, ddof=1) * len(names)
    half = stats.t.ppf(0.975, len(names) - 1) * np.sqrt(variance) / len(values)
    return float(mean - half), float(mean + half)
  draw = np.random.default_rng(0).integers(
    len(names), size=(RESAMPLES, len(names))
  )
  means = sums[draw].sum(axis=1) / sizes[draw].sum(axis=1)
  low, high = np.percentile(means, LEVELS)
  return float(low), float(high)


def rank_correlations(
  scores: Mapping[str, np.ndarray],
) -> dict[tuple[str, str], float]:
  """Returns how alike every pair of scores ranks contenders: Kendall's tau-b.

  It is taken on each picture, over its finite scores, and averaged: how hard
  the pictures are does not count.

  Args:
    scores: f64[pictures, contenders] by name, each so that more is better.

  Returns:
    1 where two scores rank alike, -1 where one is the other upside down; NaN
    where no picture has two contenders that both scores tell apart.
  """
  return {
    (first, second): _mean_tau(scores[first], scores[second])
    for first, second in itertools.combinations(scores, 2)
  }


def _mean_tau(first: np.ndarray, second: np.ndarray) -> float:
  taus = []
  for a, b in zip(first, second, strict=True):
    both = np.isfinite(a) & np.isfinite(b)
    if len(set(a[both])) > 1 and len(set(b[both])) > 1:
      taus.append(stats.kendalltau(a[both], b[both]).statistic)
  return float(np.mean(taus)) if taus else math.nan


def disagreements(
  first: np.ndarray, second: np.ndarray, count: int
) -> list[tuple[int, int, int]]:
  """Finds pictures on which two scores prefer different contenders.

  Args:
    first: f64[pictures, contenders], more is better.
    second: likewise.
    count: how many are wanted at the most.

  Returns:
    (picture, contender that `first` prefers, contender that `second` prefers),
    the strongest first, no picture twice. Strength is the smaller of the two
    preferences, in standard deviations of their scores.
  """
  gaps = [
    (scores[:, :, None] - scores[:, None, :]) / (np.nanstd(scores) or 1.0)
    for scores in (first, second)
  ]
  strength = np.nan_to_num(np.minimum(gaps[0], -gaps[1]))
  found = []
  for picture in np.argsort(-strength.max((1, 2)), kind='stable')[:count]:
    own = strength[picture]
    liked, other = np.unravel_index(own.argmax(), own.shape)
    if own[liked, other] > 0:
      found.append((int(picture), int(liked), int(other)))
  return found
