"""Scores a checkpoint, picture by picture.

python -m deblur_jax.evaluate [--model=NAME | --workdir=DIR]
  [--step=N|best] [--data=PATH|CONFIG] [--output=DIR] [--sampler.nfe=N ...]
  [--sweep=nfe=1,2,4,8,16,32]
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from deblur_jax import cli, contenders, judge, trained, zoo
from deblur_jax import config as config_lib
from deblur_jax.report import curves, tables
from deblur_jax.types import InputError


def evaluate(
  workdir: pathlib.Path,
  wanted: str = '',
  data: str = '',
  output: pathlib.Path | None = None,
  sampler: trained.Sampler = trained.NO_CHANGES,
) -> dict[str, Any]:
  """Scores a workdir's model and writes evaluation.json, the CSV, the grid.

  Args:
    workdir: of a training run, or of a model in the box.
    wanted: which checkpoint; see `load`.
    data: what `judge.open_test` takes.
    output: folder of the files; None for the workdir, or
      workdir/evaluations/NAME with `data` or `sampler`. Nothing is written into
      the box: there runs/MODEL is in the place of the workdir.
    sampler: what to change in `config.sampler`.

  Returns:
    As `judge.judge`.

  Raises:
    InputError: the workdir, the checkpoint or the data cannot be used.
  """
  model = trained.load(workdir, wanted, sampler)
  trained.check_sampler(sampler, [model])
  test = judge.open_test(model.config, data)
  if output is None:
    own = not data and not sampler
    name = '_'.join([test.dataset, *named(sampler)])
    home = zoo.home(workdir)
    output = home if own else home / 'evaluations' / name
  return judge.judge(contenders.of_model(model), test, output)


def sweep(
  workdir: pathlib.Path,
  key: str,
  values: Sequence[Any],
  wanted: str = '',
  data: str = '',
  output: pathlib.Path | None = None,
  sampler: trained.Sampler = trained.NO_CHANGES,
) -> tuple[pathlib.Path, list[dict[str, Any]]]:
  """Scores a model once for each value of a key of its sampler.

  Writes curve.csv and curve.png, distortion against detail, and each value's
  evaluation below `output`.

  Args:
    workdir: of a training run.
    key: one of `SAMPLER`.
    values: of that key.
    wanted, data, sampler: as of `evaluate`.
    output: folder of the files; None for workdir/evaluations/sweep_NAME.

  Returns:
    The curve's picture, and what the evaluation.json of each value holds.
  """
  records = []
  test = judge.open_test(config_lib.load(workdir), data)
  if output is None:
    step = [f'step_{wanted}'] if wanted else []
    name = '_'.join(['sweep', key, test.dataset, *step, *named(sampler)])
    output = zoo.home(workdir) / 'evaluations' / name
  for value in values:
    changes = {**sampler, key: value}
    model = trained.load(workdir, wanted, changes)
    trained.check_sampler(changes, [model])
    folder = output / f'{key}_{value}'
    records.append(judge.judge(contenders.of_model(model), test, folder))
  rows = [
    {key: value, 'ms_per_image': record['ms_per_image'], **flat(record)}
    for value, record in zip(values, records, strict=True)
  ]
  tables.write_csv(output / 'curve.csv', rows)
  curve, axes = output / 'curve.png', ('psnr', 'sharpness')
  points = [tuple(row[f'{name}_output'] for name in axes) for row in rows]
  curves.tradeoff(
    curve,
    ('PSNR (dB), output against sharp', 'sharpness (1 = as the original)'),
    points,
    [f'{key} {value}' for value in values],
    records[0]['config'],
  )
  return curve, records


def named(sampler: trained.Sampler) -> list[str]:
  """Returns what in a folder's name tells of changes to the sampler."""
  return [f'{key}_{value}' for key, value in sampler.items()]


def flat(record: Mapping[str, Any]) -> judge.Row:
  """Returns METRIC_SIDE of an evaluation, with _low and _high."""
  return {
    f'{name}_{side}{ending}': summary[bound]
    for name, sides in record['metrics'].items()
    for side, summary in sides.items()
    for ending, bound in (('', 'mean'), ('_low', 'low'), ('_high', 'high'))
  }


def parse_sweep(text: str) -> tuple[str, list[Any]]:
  """Returns key and values of 'KEY=VALUE,VALUE,...'.

  Raises:
    InputError: no such key, or values of another type.
  """
  key, _, values = text.partition('=')
  if key not in trained.SAMPLER:
    known = ', '.join(trained.SAMPLER)
    raise InputError(f'--sweep={text}: choose one of {known}')
  kind = trained.SAMPLER[key][0]
  try:
    return key, [kind(value) for value in values.split(',')]
  except ValueError:
    raise InputError(
      f'--sweep={text}: no {kind.__name__}s behind the =, with commas between'
    ) from None


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(
    prog='python -m deblur_jax.evaluate', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  zoo.add_flags(parser)
  add('--step', default='', help='a checkpoint, or best; default: the last')
  add(
    '--data',
    default='',
    metavar='PATH|CONFIG',
    help='PATH/{blur,sharp}, sharp pictures, or the test of FILE.py[:ARGUMENT]',
  )
  add('--output', type=pathlib.Path, help='folder for the results')
  add('--sweep', help='KEY=VALUE,VALUE,... of the sampler: writes a curve')
  trained.add_sampler_flags(parser)
  flags = parser.parse_args()
  workdir = zoo.chosen(flags)
  how = {
    'wanted': flags.step,
    'data': flags.data,
    'output': flags.output,
    'sampler': trained.sampler_of(flags),
  }
  if flags.sweep:
    curve, records = sweep(workdir, *parse_sweep(flags.sweep), **how)
    for record in records:
      print(tables.evaluation(record))
    print(f'curve: {curve}')
  else:
    print(tables.evaluation(evaluate(workdir, **how)))


if __name__ == '__main__':
  cli.run(main)
