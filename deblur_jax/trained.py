"""A workdir's model, and how pictures go through it."""

import argparse
import dataclasses
import functools
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deblur_jax import config as config_lib
from deblur_jax import keys as keys_lib
from deblur_jax import ranges
from deblur_jax.families import make_family
from deblur_jax.imaging import levels, tiling
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.train_lib import (
  exported,
  parallel,
  processes,
  state,
  writer,
)
from deblur_jax.train_lib.checkpoint import Checkpoints
from deblur_jax.types import Array, Batch, Family, InputError, Params

SAMPLER = {
  'name': (str, 'ddpm, ddim or dpm_solver'),
  'nfe': (int, "evaluations for one sample; 0: the predictor's first pass"),
  'spacing': (float, 'above 1, more of the evaluations at low noise'),
  'eta': (float, 'of ddim: share of the noise that is renewed; 1 is ddpm'),
  'start': (str, 'noise or mean: what the first evaluation sees'),
  'samples': (int, 'samples that are averaged'),
  'temperature': (float, 'factor of all noise'),
}
"""Type and help of each key of config.sampler that a flag may change."""

Sampler = Mapping[str, Any]
NO_CHANGES: Sampler = {}


@dataclasses.dataclass(frozen=True)
class Run:
  """A training that weights went through.

  Attributes:
    name: of its config.
    step: of the checkpoint that the weights are of.
    images: seen up to there.
    minutes: that it took up to there.
  """

  name: str
  step: int
  images: int
  minutes: float


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model, ready to restore.

  Attributes:
    workdir: that it was loaded from.
    config: its own, with the sampler asked for.
    family: made of the config.
    params: averaged ones where there are some.
    runs: the trainings of the weights, by `init_from`; its own is the last.
  """

  workdir: pathlib.Path
  config: ConfigDict
  family: Family
  params: Params
  runs: tuple[Run, ...]

  @property
  def name(self) -> str:
    """Of its config."""
    return self.runs[-1].name

  @property
  def step(self) -> int:
    """Of the checkpoint."""
    return self.runs[-1].step

  @property
  def images(self) -> int:
    """Seen in all trainings."""
    return sum(run.images for run in self.runs)

  @property
  def minutes(self) -> float:
    """Of all trainings."""
    return sum(run.minutes for run in self.runs)

  @functools.cached_property
  def mark(self) -> str:
    """Tells its weights from others: their CRC-32."""
    mark = 0
    for leaf in jax.tree.leaves(processes.to_host(self.params)):
      mark = zlib.crc32(leaf.tobytes(), mark)
    return f'{mark:08x}'


def load(
  workdir: pathlib.Path, wanted: str = '', sampler: Sampler = NO_CHANGES
) -> Model:
  """Loads a workdir's model, with its EMA weights if it has them.

  Args:
    workdir: of a training run, or of `export`.
    wanted: a checkpoint's step, 'best' by validation PSNR, or '' for the last.
    sampler: what to change in `config.sampler`.

  Raises:
    InputError: no workdir, no such checkpoint, one of another network, or no
      such sampler.
  """
  config = config_lib.load(workdir)
  change_sampler(config, sampler)
  ranges.check_numbers(config, 'sampler.')
  family = make_family(config)
  mesh = parallel.make_mesh()
  like = parallel.abstract(state.make_init(config, family), mesh)
  record = config_lib.load_record(workdir)
  if exported.is_exported(workdir):
    params, origin = exported.read(workdir, restoring(family, like.params))
    if wanted not in ('', str(origin.step)):
      raise InputError(f'{workdir}: holds step {origin.step} alone')
    number, minutes = origin.step, origin.minutes
  else:
    with Checkpoints(workdir, read_only=True) as checkpoints:
      number = checkpoints.find(wanted)
      params = checkpoints.restore_weights(number, like)
    minutes = writer.minutes(workdir, number)
  images = number * config.data.batch_size
  earlier = (Run(**run) for run in record.get('history', ()))
  runs = (*earlier, Run(record['name'], number, images, minutes))
  return Model(workdir, config, family, params, runs)


def change_sampler(config: ConfigDict, sampler: Sampler) -> None:
  """Changes keys of `config.sampler`.

  Raises:
    InputError: there is no such key, or its values are of another type.
  """
  for key, value in sampler.items():
    if key not in SAMPLER:
      raise InputError(f'sampler.{key}: no such key; use {", ".join(SAMPLER)}')
    try:
      config.sampler[key] = value
    except TypeError:
      kind = SAMPLER[key][0].__name__
      raise InputError(f'sampler.{key}={value!r}: no {kind}') from None


def export(
  workdir: pathlib.Path, folder: pathlib.Path, wanted: str = ''
) -> None:
  """Writes a workdir's model into a small folder that takes its place.

  Args:
    workdir: of a training run.
    folder: that is made; see `exported`.
    wanted: which checkpoint; see `load`.

  Raises:
    InputError: no such checkpoint, or the folder cannot be written.
  """
  model = load(workdir, wanted)
  record = config_lib.load_record(workdir)
  record['config']['data']['manual_dir'] = ''  # of no use to others
  origin = exported.Origin(model.step, model.runs[-1].minutes, sha256='')
  params = restoring(model.family, model.params)
  exported.write(folder, record, params, origin)


def restoring(family: Family, params: Params) -> Params:
  """Leaves out the networks that only train others."""
  return {
    name: network
    for name, network in params.items()
    if name not in family.helpers
  }


def make_degrade(config: ConfigDict, mesh: Mesh) -> Callable[[Batch], Batch]:
  """Returns degrade(raw) -> batch of whole pictures; pure.

  Synthetic blur hangs on the picture's id alone: every model is tested on the
  same blurred pictures.
  """
  prepare = make_prepare(
    ranges.blur_ranges(config), per_shard=lambda f: parallel.per_shard(f, mesh)
  )

  def degrade(raw: Batch) -> Batch:
    keys = keys_lib.of_ids(config.eval.seed, raw['id'])
    return prepare(raw, keys_lib.fold_all(keys, 0))

  return degrade


def make_restore(config: ConfigDict, family: Family) -> Callable[..., Array]:
  """Returns restore(params, blur f32[B,H,W,3], id i32[B]) -> restored; pure.

  Networks see the picture mirrored at its borders: beyond them they would see
  zeros, and darken or lighten the last few pixels. A fourth argument, the
  number i32[] of a sample, asks for other randomness.
  """
  restore_part = make_restore_part(config, family)

  def restore(
    params: Params, blur: Array, ids: Array, sample: Array | int = 0
  ) -> Array:
    sides = blur.shape[1:3]
    before = tiling.MARGIN
    pads = [(before, tiling.mirrored_side(n) - n - before) for n in sides]
    seen = jnp.pad(blur, [(0, 0), *pads, (0, 0)], 'symmetric')
    origin = jnp.full((len(ids), 2), -before)
    made = restore_part(params, seen, ids, origin, sample)
    rows, columns = (slice(before, before + n) for n in sides)
    return made[:, rows, columns]

  return restore


def make_restore_part(
  config: ConfigDict, family: Family
) -> Callable[..., Array]:
  """Returns what restores parts of pictures, as they are; pure.

  (params, blur f32[B,H,W,3], id i32[B], origin i32[B,2], sample) -> restored,
  with the place of each part's first pixel in its whole picture.
  """

  def restore_part(
    params: Params, blur: Array, ids: Array, origin: Array, sample: Array | int
  ) -> Array:
    keys = keys_lib.fold_all(keys_lib.of_ids(config.eval.seed, ids), 1 + sample)
    return family.restore(params, blur, keys, origin)

  return restore_part


def to_uint8(images: Array) -> np.ndarray:
  """Rounds f32 in [0,1] to u8, as a picture file would hold it."""
  return levels.from_float(np.float32(processes.to_host(images)), np.uint8)


def check_sampler(sampler: Sampler, models: Sequence[Model]) -> None:
  """Raises InputError for a key of a sampler that none of the models heeds."""
  names = ', '.join(model.name for model in models)
  drawing = [model for model in models if model.family.draws]
  for key in sampler:
    if not drawing:
      raise InputError(
        f'--sampler.{key}: {names} draws no samples; use a diffusion model'
      )
    if not any(heeds(model.config, key) for model in drawing):
      raise InputError(f'--sampler.{key}: the sampler of {names} has none')


def heeds(config: ConfigDict, key: str) -> bool:
  """Returns whether a diffusion model's sampler hangs on one of its keys."""
  if config.process.name == 'indi':
    return key not in ('name', 'spacing', 'eta')
  return key != 'eta' or config.sampler.name == 'ddim'


def add_sampler_flags(parser: argparse.ArgumentParser) -> None:
  """Adds --sampler.KEY for each key of `SAMPLER`."""
  for key, (kind, text) in SAMPLER.items():
    name = f'sampler.{key}'
    parser.add_argument(
      f'--{name}', f'--{key}', dest=name, type=kind, help=text
    )


def sampler_of(flags: argparse.Namespace) -> Sampler:
  """Returns what the flags change in config.sampler."""
  given = {key: getattr(flags, f'sampler.{key}') for key in SAMPLER}
  return {key: value for key, value in given.items() if value is not None}
