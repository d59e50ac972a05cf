"""What contenders came to on tests: the scores, and where the pictures lie."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deblur_jax.data import names

BASELINE = 'encoder_decoder'
"""The network of the baseline configs."""
SIDES = ('blur', 'restored', 'sharp')
LONGEST = 200
"""Bytes of a picture's name that its files may have: file systems know 255."""


def picture_path(folder: pathlib.Path, image: str, side: str) -> pathlib.Path:
  """Returns where an evaluation keeps one side of a picture."""
  name = image.replace('/', '_')
  if len(os.fsencode(name)) > LONGEST:
    name = hashlib.sha256(os.fsencode(name)).hexdigest()
  return folder / 'pictures' / f'{name}.{side}.png'


@dataclasses.dataclass(frozen=True)
class Result:
  """What one contender came to on one test.

  Attributes:
    record: as in evaluation.json.
    rows: as in per_image.csv, sorted by image.
    folder: of these files and of `pictures/`.
  """

  record: Mapping[str, Any]
  rows: Sequence[Mapping[str, Any]]
  folder: pathlib.Path

  @property
  def name(self) -> str:
    """Returns what tables call the contender."""
    return self.record['config']

  @property
  def trained_alone(self) -> bool:
    """Returns whether it is a single model."""
    return (
      len(self.record['made_of']) == 1 and self.record['family'] != 'ensemble'
    )

  @property
  def is_known(self) -> bool:
    """Whether its training is told: that of converted weights is not."""
    return self.record['training_images'] > 0

  @property
  def is_baseline(self) -> bool:
    """Returns whether it is the network that others are measured by."""
    return self.trained_alone and self.record['model'] == BASELINE

  def column(self, name: str) -> list[float]:
    """Returns one column of the rows."""
    return [row[name] for row in self.rows]

  def groups(self) -> list[str]:
    """Returns the photograph of each row."""
    return names.photographs(self.column('image'))

  def picture(self, image: str, side: str) -> pathlib.Path:
    """Returns where a side of a picture is, if it was kept."""
    return picture_path(self.folder, image, side)

  def first_kept(self) -> str:
    """Returns the first picture that lies there as a file; '' for none."""
    for row in self.rows:
      if self.picture(row['image'], 'restored').is_file():
        return row['image']
    return ''


@dataclasses.dataclass(frozen=True)
class Section:
  """All results on one test."""

  dataset: str
  results: Sequence[Result]

  @property
  def metrics(self) -> list[str]:
    """Returns the metrics of all results."""
    return list(self.results[0].record['metrics'])

  def outputs(self, metric: str) -> np.ndarray:
    """Returns f64[pictures, results] of one metric; NaN where there is none."""
    name = f'{metric}_output'
    if metric not in self.metrics:
      return np.full((len(self.results[0].rows), len(self.results)), np.nan)
    return np.array([result.column(name) for result in self.results]).T
