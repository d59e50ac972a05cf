"""Restores pictures as arrays: what Python users meet.

restore = Restorer.load()
sharp = restore(blurred)
"""

import pathlib
from collections.abc import Sequence
from typing import Self

import numpy as np

from deblur_jax import trained, zoo
from deblur_jax.data import names
from deblur_jax.imaging import levels, turns
from deblur_jax.runner import Result, Runner
from deblur_jax.types import InputError


class Restorer:
  """Restores pictures of any size with a model, or several in sequence."""

  def __init__(
    self,
    models: Sequence[trained.Model],
    *,
    strength: float = 1.0,
    ensemble: bool = False,
    memory: float = 0.0,
    tile: int = 0,
  ) -> None:
    """Prepares models.

    Args:
      models: each is given the result of the one before.
      strength: 0 gives the input, 1 the result, between them a mixture.
      ensemble: takes the mean over the eight flips and turns of a picture
        (Timofte et al. 2016), in eight times the time.
      memory: GiB that the process may take; 0 for 60 % of what is free.
      tile: side of the tiles of larger pictures; 0 lets memory say.

    Raises:
      InputError: one of these makes no sense.
    """
    if not 0 <= strength <= 1:
      raise InputError(f'--strength={strength}: use 0 to 1')
    self._runners = [Runner(model, memory, tile) for model in models]
    self._strength = strength
    self._ensemble = ensemble

  @classmethod
  def load(
    cls,
    *models: pathlib.Path | str,
    sampler: trained.Sampler = trained.NO_CHANGES,
    **options,
  ) -> Self:
    """Loads models.

    Args:
      *models: names of models in the box, or workdirs: one, or those of a
        cascade in order. None is the box's CNN.
      sampler: what to change in `config.sampler`; see `trained.SAMPLER`.
      **options: those of `__init__`.

    Raises:
      InputError: no such model, or an option that makes no sense.
    """
    loaded = [
      trained.load(zoo.find(str(model)), sampler=sampler)
      for model in models or [zoo.DEFAULT]
    ]
    trained.check_sampler(sampler, loaded)
    return cls(loaded, **options)

  def __call__(self, pixels: np.ndarray, name: str = '') -> np.ndarray:
    """Restores a picture.

    Args:
      pixels: u8[H,W,3], u16[H,W,3], or f32[H,W,3] in [0,1].
      name: of the picture; the noise of a diffusion model hangs on it.

    Returns:
      The restored picture, of the same shape and type.

    Raises:
      InputError: it is no such picture, or there is too little memory.
    """
    pixels = np.asarray(pixels)
    return levels.from_float(self.restore(pixels, name).pixels, pixels.dtype)

  def restore(
    self, pixels: np.ndarray, name: str = '', sample: int = 0
  ) -> Result:
    """Restores as `__call__`, to floats; another `sample` is other noise."""
    pixels = np.asarray(pixels)
    check(pixels)
    number = names.example_id(name)
    tiles = 0

    def through(made: np.ndarray) -> np.ndarray:
      nonlocal tiles
      for place, run in enumerate(self._runners):
        given = made.clip(0, 1) if place else made
        made, parts = run(given, number, sample)
        tiles = max(tiles, parts)
      return made

    made = turns.mean(through, pixels) if self._ensemble else through(pixels)
    if self._strength < 1:
      made = (
        levels.to_float(pixels) * (1 - self._strength) + made * self._strength
      )
    return Result(made, tiles)


def check(pixels: np.ndarray) -> None:
  """Raises InputError unless an array is a picture as `Restorer` takes it."""
  good = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
  if not good or pixels.dtype not in (np.uint8, np.uint16, np.float32):
    raise InputError(
      f'an array {pixels.dtype}{list(pixels.shape)} is no picture: use u8, '
      'u16, or f32 in [0,1], of shape [H,W,3]'
    )
  # Not so for NaN, either.
  if pixels.dtype == np.float32 and not (
    pixels.min() >= 0 and pixels.max() <= 1
  ):
    raise InputError(
      f'floats from {pixels.min():g} to {pixels.max():g} are no picture: they '
      'have to be in [0,1]'
    )
