"""Scores a checkpoint, picture by picture.

python -m deblur_jax.evaluate --workdir=DIR [--step=N|best] [--data=PATH]
"""

import argparse
import csv
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deblur_jax import cli, files
from deblur_jax import config as config_lib
from deblur_jax.data import align, pipeline, sources
from deblur_jax.families import make_family
from deblur_jax.ops import scores
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.ops.psf import KINDS, BlurRanges
from deblur_jax.report import figures, statistics, tables
from deblur_jax.train_lib import parallel, state, step
from deblur_jax.train_lib.checkpoint import Checkpoints
from deblur_jax.types import Array, Batch, Family, InputError, Params

JSON = 'evaluation.json'
CSV = 'per_image.csv'
GRID = 'grid.png'
GRID_ROWS = 6

Row = dict[str, Any]
"""One line of per_image.csv: image, METRIC_input, METRIC_output, ..."""


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model, ready to restore."""

  name: str
  config: ConfigDict
  family: Family
  params: Params
  step: int


@dataclasses.dataclass(frozen=True)
class Scored:
  """One restored test picture and its scores; pictures u8[H,W,3]."""

  row: Row
  pictures: tuple[np.ndarray, np.ndarray, np.ndarray]
  seconds: float


def load(workdir: pathlib.Path, wanted: str = '') -> Model:
  """Loads a workdir's model, with its EMA weights if it has them.

  Args:
    workdir: of a training run.
    wanted: a checkpoint's step, 'best' by validation PSNR, or '' for the last.

  Raises:
    InputError: no workdir, no such checkpoint, or one of another network.
  """
  config = config_lib.load(workdir)
  family = make_family(config)
  mesh = parallel.make_mesh()
  like = parallel.abstract(state.make_init(config, family), mesh)
  with Checkpoints(workdir, read_only=True) as checkpoints:
    number = checkpoints.find(wanted)
    restored = checkpoints.restore(number, like)
  name = config_lib.load_name(workdir)
  return Model(name, config, family, state.weights(restored), number)


def blur_ranges(config: ConfigDict) -> BlurRanges:
  """Returns the synthetic blur of `config.data.blur`.

  Raises:
    InputError: an unknown kind, or a range that is none.
  """
  try:
    return BlurRanges(**config.data.blur)
  except ValueError as error:
    raise InputError(f'config.data.{error}') from None


def make_degrade(config: ConfigDict, mesh: Mesh) -> Callable[[Batch], Batch]:
  """Returns degrade(raw) -> batch of whole pictures; pure.

  Synthetic blur hangs on the picture's id alone: every model is tested on the
  same blurred pictures.
  """
  prepare = make_prepare(
    blur_ranges(config), per_shard=lambda f: parallel.per_shard(f, mesh)
  )

  def degrade(raw: Batch) -> Batch:
    keys = step.id_keys(config.eval.seed, raw['id'])
    return prepare(raw, step.fold_all(keys, 0))

  return degrade


def make_restore(
  config: ConfigDict, family: Family
) -> Callable[[Params, Array, Array], Array]:
  """Returns restore(params, blur f32[B,H,W,3], id i32[B]) -> restored; pure."""

  def restore(params: Params, blur: Array, ids: Array) -> Array:
    keys = step.fold_all(step.id_keys(config.eval.seed, ids), 1)
    origin = jnp.zeros((len(ids), 2), jnp.int32)
    return family.restore(params, blur, keys, origin)

  return restore


def score_all(
  model: Model, source: sources.Examples, repeats: int
) -> Iterator[Scored]:
  """Restores and scores every picture of a source.

  Args:
    model: what restores them.
    source: the test pictures.
    repeats: synthetic blurs per photograph.

  Yields:
    Scores of 8-bit pictures: results are clipped and rounded first.
  """
  mesh = parallel.make_mesh()
  degrade = jax.jit(make_degrade(model.config, mesh))
  restore = Timed(make_restore(model.config, model.family))
  batches = pipeline.whole_batches(
    source, model.config.eval.megapixels, repeats, mesh.size
  )
  for names, raw in batches:
    batch = degrade(parallel.put_batch(raw, mesh))
    restored, seconds = restore(model.params, batch['blur'], batch['id'])
    sides = [to_uint8(side) for side in (batch['blur'], restored)]
    drawn = describe_blur(batch)
    for i, name in enumerate(names):
      pictures = sides[0][i], sides[1][i], raw['sharp'][i]
      row = {'image': name, **score(*pictures), **{k: v[i] for k, v in drawn}}
      yield Scored(row, pictures, seconds / len(names))


class Timed:
  """Runs a function compiled ahead for each shape, and times it alone."""

  def __init__(self, function: Callable[[Params, Array, Array], Array]):
    self._jitted = jax.jit(function)
    self._compiled = {}

  def __call__(self, *args) -> tuple[Array, float]:
    """Returns the result and the seconds it took, compilation left out."""
    shape = args[1].shape
    if shape not in self._compiled:
      self._compiled[shape] = self._jitted.lower(*args).compile()
    jax.block_until_ready(args)
    begin = time.perf_counter()
    result = jax.block_until_ready(self._compiled[shape](*args))
    return result, time.perf_counter() - begin


def score(blur: np.ndarray, restored: np.ndarray, sharp: np.ndarray) -> Row:
  """Returns METRIC_input and METRIC_output against sharp; u8[H,W,3] each."""
  row = {}
  for name, function in scores.SCORES.items():
    row[f'{name}_input'] = function(blur, sharp)
    row[f'{name}_output'] = function(restored, sharp)
  return row


def describe_blur(batch: Batch) -> list[tuple[str, Sequence]]:
  """Returns columns that tell the synthetic blur; none for real pairs."""
  if 'kind' not in batch:
    return []
  kinds = [KINDS[int(kind)] for kind in np.asarray(batch['kind'])]
  numbers = {
    name: np.asarray(batch[name]).round(4).tolist()
    for name in ('strength', 'noise', 'jpeg')
  }
  return [
    ('blur_kind', kinds),
    *((f'blur_{name}', values) for name, values in numbers.items()),
  ]


def to_uint8(images: Array) -> np.ndarray:
  """Rounds f32 in [0,1] to u8, as a picture file would hold it."""
  levels = np.asarray(images, np.float32) * 255
  return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def evaluate(
  workdir: pathlib.Path,
  wanted: str = '',
  data: pathlib.Path | None = None,
  output: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Scores a workdir's model and writes evaluation.json, the CSV, the grid.

  Args:
    workdir: of a training run.
    wanted: which checkpoint; see `load`.
    data: PATH/{blur,sharp} or a folder of sharp pictures; None for the test
      split of the model's own data set.
    output: folder of the files; None for the workdir, or
      workdir/evaluations/NAME with `data`.

  Returns:
    What evaluation.json holds.

  Raises:
    InputError: the workdir, the checkpoint or the data cannot be used.
  """
  model = load(workdir, wanted)
  source, dataset, split = open_test(model.config, data)
  if output is None:
    output = workdir if data is None else workdir / 'evaluations' / dataset
  repeats = 1 if source.real else model.config.eval.blurs
  total = len(source) * repeats
  shown = set(np.linspace(0, total - 1, GRID_ROWS).astype(int))
  rows, grid, shifts, seconds = [], [], {}, 0.0
  progress = tqdm.tqdm(
    score_all(model, source, repeats),
    desc=f'{model.name} on {dataset}',
    total=total,
    unit=' images',
    dynamic_ncols=True,
  )
  for i, scored in enumerate(progress):
    rows.append(scored.row)
    seconds += scored.seconds
    if source.real:
      blur, _, sharp = scored.pictures
      shifts[scored.row['image']] = align.shift(blur, sharp)
    if i in shown:
      grid.append((scored.row, scored.pictures))
  rows.sort(key=lambda row: row['image'])
  record = {
    'family': model.config.family,
    'model': model.config.model.name,
    'config': model.name,
    'dataset': dataset,
    'split': split,
    'step': model.step,
    'parameters': state.count(model.params),
    'images': len(rows),
    'ms_per_image': round(1e3 * seconds / len(rows), 3),
    **align.verdict(shifts),
    'metrics': summarise(rows),
  }
  write(output, record, rows, grid)
  return record


def first_example(workdir: pathlib.Path) -> Scored:
  """Restores and scores the first picture of a model's own test split."""
  model = load(workdir)
  source, _, _ = open_test(model.config, None)
  repeats = 1 if source.real else model.config.eval.blurs
  return next(score_all(model, source, repeats))


def open_test(
  config: ConfigDict, data: pathlib.Path | None
) -> tuple[sources.Examples, str, str]:
  """Returns (source, data set's name, split's name) to test on."""
  if data is None:
    return sources.open_split(config.data, 'test'), config.data.name, 'test'
  folder = data / 'test' if (data / 'test').is_dir() else data
  own = folder.resolve()
  name = f'{own.parent.name}_test' if own.name == 'test' else own.name
  return sources.open_folder(folder), name, 'all'


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, dict]]:
  """Returns {metric: {'input': summary, 'output': summary}} of the rows."""
  groups = [pipeline.photograph(row['image']) for row in rows]
  return {
    name: {
      side: statistics.summary([r[f'{name}_{side}'] for r in rows], groups)
      for side in ('input', 'output')
    }
    for name in scores.SCORES
  }


def write(
  output: pathlib.Path,
  record: dict[str, Any],
  rows: Sequence[Row],
  grid: Sequence[tuple[Row, Sequence[np.ndarray]]],
) -> None:
  """Writes the three files of an evaluation."""
  with files.whole(output / CSV) as path, path.open('w', newline='') as handle:
    table = csv.DictWriter(handle, list(rows[0]))
    table.writeheader()
    table.writerows(tables.printable(row) for row in rows)
  picture = figures.grid(
    [pictures for _, pictures in grid],
    [captions(row) for row, _ in grid],
  )
  figures.save(picture, output / GRID)
  files.write_text(output / JSON, json.dumps(record, indent=2) + '\n')


def captions(row: Row) -> list[str]:
  """Returns what stands under blur, restored and sharp in the grid."""

  def scores_of(side: str) -> str:
    psnr, ssim = row[f'psnr_{side}'], row[f'ssim_{side}']
    return f'PSNR {psnr:.2f} dB  SSIM {ssim:.3f}'

  return [
    f'input: {scores_of("input")}',
    f'output: {scores_of("output")}',
    f'sharp: {row["image"]}',
  ]


def main() -> None:
  """The command; see the module docstring."""
  parser = argparse.ArgumentParser(
    prog='python -m deblur_jax.evaluate', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  add('--workdir', type=pathlib.Path, required=True, help='a training run')
  add('--step', default='', help='a checkpoint, or best; default: the last')
  add('--data', type=pathlib.Path, help='PATH/{blur,sharp} or sharp pictures')
  add('--output', type=pathlib.Path, help='folder for the results')
  flags = parser.parse_args()
  record = evaluate(flags.workdir, flags.step, flags.data, flags.output)
  print(tables.evaluation(record))


if __name__ == '__main__':
  cli.run(main)
