"""One model over one picture of any size: whole, or in tiles."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from deblur_jax import heap, trained
from deblur_jax.imaging import levels, tiling
from deblur_jax.models import build
from deblur_jax.train_lib import parallel
from deblur_jax.types import InputError

GIB = 2**30
FREE_SHARE = 0.6
WHOLE_PIXELS = 4_000_000
"""Larger pictures go in tiles: as fast by then, and in less memory."""
WHOLE_SHAPES = 2
"""Shapes of whole pictures that are compiled; others go in tiles."""
SIDES = (1024, 512, 256)
SMALL_SIDE = 512
"""Of the tile that a picture goes in which fits into one of these."""
SMALLEST_SIDE = tiling.OVERLAP + 2 * tiling.RAMP

Place = tuple[int, int]
"""Row and column of a part's first pixel in its whole picture."""


class Result(NamedTuple):
  """A restored picture.

  Attributes:
    pixels: f32[H,W,3] in [0,1].
    tiles: that it was made of; 1 if it went whole.
  """

  pixels: np.ndarray
  tiles: int


class Runner:
  """Restores pictures of any size with one model.

  One picture under one name always gives one result; going whole or in tiles
  changes it by less than can be seen.
  """

  def __init__(
    self, model: trained.Model, memory: float = 0.0, tile: int = 0
  ) -> None:
    """Prepares a model.

    Args:
      model: the model.
      memory: GiB that the process may take; 0 for 60 % of what is free.
      tile: side of the tiles of larger pictures, raised where the network
        looks further; 0 lets memory say.

    Raises:
      InputError: tile or memory makes no sense.
    """
    if tile < 0 or 0 < tile < SMALLEST_SIDE:
      raise InputError(f'--tile={tile}: use {SMALLEST_SIDE} or more, or auto')
    if memory < 0:
      raise InputError(f'--memory={memory}: use GiB above 0')
    self._params = model.params
    self._memory = memory
    self._least = tiling.side_for(build.window(model.config.data.crop))
    self._tile = max(tiling.rounded_up(tile), self._least) if tile else 0
    self._mesh = parallel.make_mesh()
    self._whole: dict[tuple[int, int], bool] = {}
    self._sides: dict[bool, int] = {}
    self._programs: dict[tuple[int, ...], jax.stages.Compiled] = {}
    self._part = jax.jit(trained.make_restore_part(model.config, model.family))

  def __call__(
    self, pixels: np.ndarray, number: int, sample: int = 0
  ) -> Result:
    """Restores a picture.

    Args:
      pixels: u8[H,W,3], u16[H,W,3], or f32[H,W,3] in [0,1].
      number: of the picture; the noise of a diffusion model hangs on it.
      sample: another one is other noise.

    Raises:
      InputError: memory is too small for a tile.
    """
    whole = tuple(map(tiling.mirrored_side, pixels.shape[:2]))
    if not self._goes_whole(whole):
      return self._restore_tiles(pixels, number, sample)
    start = (-tiling.MARGIN, -tiling.MARGIN)
    seen = tiling.mirrored(pixels, start, whole)
    made = self._run([seen], [start], number, sample)[0]
    rows, columns = (
      slice(tiling.MARGIN, tiling.MARGIN + n) for n in pixels.shape[:2]
    )
    return Result(made[rows, columns], 1)

  def _restore_tiles(
    self, pixels: np.ndarray, number: int, sample: int
  ) -> Result:
    longest = max(map(tiling.mirrored_side, pixels.shape[:2]))
    side = self._side(longest <= SMALL_SIDE)
    tiles = tiling.Tiles(*pixels.shape[:2], side)
    made = np.zeros(pixels.shape, np.float32)
    all_places, count = list(tiles), self._at_once
    for first in range(0, len(all_places), count):
      places = all_places[first : first + count]
      # The last one again, where some are missing: one shape is compiled.
      filled = places + places[-1:] * (count - len(places))
      seen = [tiles.cut(pixels, place) for place in filled]
      for place, tile in zip(
        places, self._run(seen, filled, number, sample), strict=False
      ):
        tiles.add(made, tile, place)
    return Result(made, len(tiles))

  def _run(
    self,
    parts: Sequence[np.ndarray],
    places: Sequence[Place],
    number: int,
    sample: int,
  ) -> np.ndarray:
    """Restores equal parts of picture `number` in one call."""
    seen = levels.to_float(np.stack(parts))
    program = self._program(seen.shape)
    return np.asarray(program(*self._arguments(seen, places, number, sample)))

  def _arguments(
    self, parts: np.ndarray, places: Sequence[Place], number: int, sample: int
  ) -> tuple[Any, ...]:
    """Returns what `_part` takes, on the devices that it runs on."""
    batch = {
      'blur': parts,
      'id': np.full(len(parts), number, np.int32),
      'origin': np.array(places, np.int32),
    }
    if len(parts) == self._at_once:
      batch = parallel.put_whole_batch(batch, self._mesh)
    return self._params, *batch.values(), jnp.int32(sample)

  def _program(self, shape: tuple[int, ...]) -> jax.stages.Compiled:
    """Returns `_part` for parts of one shape, [N,H,W,3], compiled once."""
    if shape not in self._programs:
      places = [(0, 0)] * shape[0]
      like = self._arguments(np.zeros(shape, np.float32), places, 0, 0)
      self._programs[shape] = self._part.lower(*like).compile()
    return self._programs[shape]

  def _goes_whole(self, shape: tuple[int, int]) -> bool:
    """Whether a picture, mirrored to this shape, is restored whole."""
    if shape not in self._whole:
      small = (
        max(shape) <= self._tile
        if self._tile
        else math.prod(shape) <= WHOLE_PIXELS
      )
      if not small or len(self._whole) == WHOLE_SHAPES:
        return False
      self._whole[shape] = bool(self._tile) or self._lacking(1, *shape) <= 0
    return self._whole[shape]

  def _side(self, small: bool) -> int:
    """Side of the tiles: one for all pictures, so that one shape is compiled.

    Args:
      small: whether a tile of `SMALL_SIDE` is enough.

    Raises:
      InputError: memory is too small for the smallest tile.
    """
    if small not in self._sides:
      largest = SMALL_SIDE if small else math.inf
      self._sides[small] = (
        min(self._tile, largest)
        if self._tile
        else self._side_by_memory(largest)
      )
    return self._sides[small]

  def _side_by_memory(self, largest: float) -> int:
    for wished in SIDES:
      side = min(max(wished, self._least), largest)
      lacking = self._lacking(self._at_once, side, side)
      if lacking <= 0:
        return side
    raise InputError(
      f'too little memory: {lacking / GIB:.2f} GiB more are needed; free some, '
      'or raise --memory'
    )

  def _lacking(self, count: int, rows: int, columns: int) -> float:
    """Bytes that so many parts of a shape want beyond what there is."""
    program = self._program((count, rows, columns, 3))
    # The compiler's own account, of one device.
    needed = program.memory_analysis().temp_size_in_bytes
    if count == self._at_once and jax.default_backend() == 'cpu':
      needed *= self._mesh.size  # all of them take from one memory
    return needed - self._room

  @property
  def _at_once(self) -> int:
    """Tiles in one call: on a CPU, one already keeps all cores busy."""
    return self._mesh.size * (1 if jax.default_backend() == 'cpu' else 4)

  @property
  def _room(self) -> float:
    """Bytes that the networks may take."""
    device = jax.devices()[0].memory_stats()
    if device is not None:
      free = device['bytes_limit'] - device['bytes_in_use']
      return self._memory * GIB or FREE_SHARE * free
    if not self._memory:
      return FREE_SHARE * heap.free()
    return self._memory * GIB - psutil.Process().memory_info().rss
