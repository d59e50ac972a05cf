"""Scores a checkpoint, picture by picture.

python -m deblur_jax.evaluate --workdir=DIR [--step=N|best] [--data=PATH]
  [--output=DIR] [--sampler.nfe=N ...] [--sweep=nfe=1,2,4,8,16,32]
"""

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from ml_collections import ConfigDict

from deblur_jax import cli, files, trained
from deblur_jax.data import align, pipeline, sources
from deblur_jax.ops import scores
from deblur_jax.ops.psf import KINDS
from deblur_jax.report import curves, figures, statistics, tables
from deblur_jax.train_lib import parallel, state
from deblur_jax.types import Array, Batch, InputError, Params

JSON = 'evaluation.json'
CSV = 'per_image.csv'
GRID = 'grid.png'
GRID_ROWS = 6

Row = dict[str, Any]
"""One line of per_image.csv: image, METRIC_input, METRIC_output, ..."""


@dataclasses.dataclass(frozen=True)
class Scored:
  """One restored test picture and its scores; pictures u8[H,W,3]."""

  row: Row
  pictures: tuple[np.ndarray, np.ndarray, np.ndarray]
  seconds: float


def score_all(
  model: trained.Model, source: sources.Examples, repeats: int
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
  degrade = jax.jit(trained.make_degrade(model.config, mesh))
  restore = Timed(trained.make_restore(model.config, model.family))
  batches = pipeline.whole_batches(
    source, model.config.eval.megapixels, repeats, mesh.size
  )
  for names, raw in batches:
    batch = degrade(parallel.put_batch(raw, mesh))
    restored, seconds = restore(model.params, batch['blur'], batch['id'])
    sides = [trained.to_uint8(side) for side in (batch['blur'], restored)]
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


def evaluate(
  workdir: pathlib.Path,
  wanted: str = '',
  data: pathlib.Path | None = None,
  output: pathlib.Path | None = None,
  sampler: trained.Sampler = trained.NO_CHANGES,
) -> dict[str, Any]:
  """Scores a workdir's model and writes evaluation.json, the CSV, the grid.

  Args:
    workdir: of a training run.
    wanted: which checkpoint; see `load`.
    data: PATH/{blur,sharp} or a folder of sharp pictures; None for the test
      split of the model's own data set.
    output: folder of the files; None for the workdir, or
      workdir/evaluations/NAME with `data` or `sampler`.
    sampler: what to change in `config.sampler`.

  Returns:
    What evaluation.json holds.

  Raises:
    InputError: the workdir, the checkpoint or the data cannot be used.
  """
  model = trained.load(workdir, wanted, sampler)
  source, dataset, split = open_test(model.config, data)
  if output is None:
    changes = [f'{key}_{value}' for key, value in sampler.items()]
    own = data is None and not changes
    name = '_'.join([dataset, *changes])
    output = workdir if own else workdir / 'evaluations' / name
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
    'sampler': json.loads(model.config.sampler.to_json()),
    'parameters': count_parameters(model),
    'images': len(rows),
    'ms_per_image': round(1e3 * seconds / len(rows), 3),
    **align.verdict(shifts),
    'metrics': summarise(rows),
  }
  write(output, record, rows, grid)
  return record


def sweep(
  workdir: pathlib.Path,
  key: str,
  values: Sequence[Any],
  output: pathlib.Path,
  **how,
) -> list[dict[str, Any]]:
  """Scores a model once for each value of a key of its sampler.

  Writes curve.csv and curve.png, distortion against detail, and each value's
  evaluation below `output`.

  Args:
    workdir: of a training run.
    key: one of `SAMPLER`.
    values: of that key.
    output: folder of the files.
    **how: `wanted`, `data` and `sampler` of `evaluate`.

  Returns:
    What the evaluation.json of each value holds.
  """
  records = []
  for value in values:
    sampler = {**how.get('sampler', {}), key: value}
    folder = output / f'{key}_{value}'
    own = {**how, 'output': folder, 'sampler': sampler}
    records.append(evaluate(workdir, **own))
  rows = [
    {key: value, 'ms_per_image': record['ms_per_image'], **flat(record)}
    for value, record in zip(values, records, strict=True)
  ]
  tables.write_csv(output / 'curve.csv', rows)
  axes = 'psnr', 'sharpness'
  points = [tuple(row[f'{name}_output'] for name in axes) for row in rows]
  curves.tradeoff(
    output / 'curve.png',
    ('PSNR (dB), output against sharp', 'sharpness (1 = as the original)'),
    points,
    [f'{key} {value}' for value in values],
    records[0]['config'],
  )
  return records


def flat(record: Mapping[str, Any]) -> Row:
  """Returns METRIC_SIDE of an evaluation, with _low and _high."""
  return {
    f'{name}_{side}{ending}': summary[bound]
    for name, sides in record['metrics'].items()
    for side, summary in sides.items()
    for ending, bound in (('', 'mean'), ('_low', 'low'), ('_high', 'high'))
  }


def first_example(workdir: pathlib.Path) -> Scored:
  """Restores and scores the first picture of a model's own test split."""
  model = trained.load(workdir)
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


def count_parameters(model: trained.Model) -> int:
  """Returns how many parameters restore a picture."""
  return sum(
    state.count(params)
    for name, params in model.params.items()
    if name not in model.family.helpers
  )


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
  tables.write_csv(output / CSV, rows)
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


def parse_sweep(text: str) -> tuple[str, list[Any]]:
  """Returns key and values of 'KEY=VALUE,VALUE,...'.

  Raises:
    InputError: no such key, or values of another type.
  """
  key, _, values = text.partition('=')
  if key not in trained.SAMPLER:
    known = ', '.join(trained.SAMPLER)
    raise InputError(f'--sweep={text}: choose one of {known}')
  try:
    kind = trained.SAMPLER[key][0]
    return key, [kind(value) for value in values.split(',')]
  except ValueError as error:
    raise InputError(f'--sweep={text}: {error}') from None


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
  add('--sweep', help='KEY=VALUE,VALUE,... of the sampler: writes a curve')
  trained.add_sampler_flags(parser)
  flags = parser.parse_args()
  how = {'data': flags.data, 'sampler': trained.sampler_of(flags)}
  if flags.sweep:
    key, values = parse_sweep(flags.sweep)
    output = flags.output or flags.workdir / 'evaluations' / f'sweep_{key}'
    how['wanted'] = flags.step
    for record in sweep(flags.workdir, key, values, output, **how):
      print(tables.evaluation(record))
    print(f'curve: {output / "curve.png"}')
  else:
    record = evaluate(flags.workdir, flags.step, output=flags.output, **how)
    print(tables.evaluation(record))


if __name__ == '__main__':
  cli.run(main)
