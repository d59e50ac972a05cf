"""Trains what is missing, scores every model, writes one table and figure.

python -m deblur_jax.compare --configs=A,B,C [--workdirs=D,E] --output=DIR
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from deblur_jax import cli, evaluate, files, train
from deblur_jax import config as config_lib
from deblur_jax.ops import scores
from deblur_jax.report import figures, tables
from deblur_jax.train_lib.checkpoint import Checkpoints
from deblur_jax.types import InputError

RESULTS = 'results.csv'
REPORT = 'report.md'
FIGURE = 'comparison.png'
COLUMNS = (
  'family',
  'model',
  'config',
  'dataset',
  'metric',
  'side',
  'mean',
  'low',
  'high',
  'n',
)


def compare(
  configs: Sequence[str],
  workdirs: Sequence[pathlib.Path],
  output: pathlib.Path,
) -> str:
  """Runs the experiment and writes results.csv, comparison.png, report.md.

  Args:
    configs: FILE.py[:small] each, trained in its default workdir.
    workdirs: further models, trained already.
    output: folder of the report.

  Returns:
    The report as Markdown.

  Raises:
    InputError: a config, a workdir or the data cannot be used.
  """
  loaded = [(spec, config_lib.load_file(spec)) for spec in configs]
  models = []
  for number, (spec, config) in enumerate(loaded, 1):
    print(f'[{number}/{len(loaded)}] {config_lib.short_name(spec)}')
    workdir = config_lib.default_workdir(spec)
    train.train(config, workdir, config_lib.short_name(spec))
    models.append(workdir)
  models += workdirs
  records = [evaluation(workdir) for workdir in models]
  write_results(output / RESULTS, records)
  examples = [evaluate.first_example(workdir) for workdir in models]
  labels = [record['config'] for record in records]
  figures.save(figure(labels, examples), output / FIGURE)
  text = report(records)
  files.write_text(output / REPORT, text)
  return text


def evaluation(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns a workdir's evaluation, made anew where it is out of date."""
  path = workdir / evaluate.JSON
  if path.is_file():
    record = json.loads(path.read_text())
    with Checkpoints(workdir, read_only=True) as checkpoints:
      same_scores = record['metrics'].keys() == scores.SCORES.keys()
      if same_scores and record['step'] == checkpoints.latest():
        return record
  return evaluate.evaluate(workdir)


def write_results(
  path: pathlib.Path, records: Sequence[dict[str, Any]]
) -> None:
  """Writes one row per model, metric and side."""
  rows = [
    {**record, 'metric': metric, 'side': side, **summary}
    for record in records
    for metric, sides in record['metrics'].items()
    for side, summary in sides.items()
  ]
  tables.write_csv(path, [{key: row[key] for key in COLUMNS} for row in rows])


def figure(labels: Sequence[str], examples: Sequence[evaluate.Scored]):
  """Returns rows of blurred, restored and sharp, with scores under each."""
  captions = []
  for label, example in zip(labels, examples, strict=True):
    row = example.row
    captions.append(
      [
        f'blurred  {figure_scores(row, "input")}',
        f'{label}  {figure_scores(row, "output")}',
        f'sharp  ({row["image"]})',
      ]
    )
  return figures.grid([example.pictures for example in examples], captions)


def figure_scores(row: evaluate.Row, side: str) -> str:
  """Returns MSE, PSNR and SSIM of one picture."""
  mse, psnr, ssim = (row[f'{name}_{side}'] for name in ('mse', 'psnr', 'ssim'))
  return f'MSE {mse:.1f}  PSNR {psnr:.2f}  SSIM {ssim:.3f}'


def report(records: Sequence[dict[str, Any]]) -> str:
  """Returns the report as Markdown: one table per data set."""
  datasets = dict.fromkeys(record['dataset'] for record in records)
  parts = ['# Comparison']
  for dataset in datasets:
    own = [record for record in records if record['dataset'] == dataset]
    parts += [f'## {dataset}', tables.comparison(own)]
  parts.append(
    'Means over the test pictures; brackets hold 95 % bootstrap intervals over '
    'photographs. MSE, PSNR and SSIM (7x7 uniform windows) are '
    "scikit-image's, on 8-bit RGB; ssim_gauss is Wang et al. 2004; sharpness "
    "is the mean gradient as a share of the original's; lpips_* (Zhang et al. "
    '2018) is there with the extra `perceptual`, less is closer.'
  )
  parts.append(f'![comparison]({FIGURE})')
  return '\n\n'.join(parts) + '\n'


def main() -> None:
  """The command; see the module docstring."""
  parser = argparse.ArgumentParser(
    prog='python -m deblur_jax.compare', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  add('--configs', default='', help='FILE.py[:small], separated by commas')
  add('--workdirs', default='', help='trained models, separated by commas')
  add('--output', type=pathlib.Path, required=True, help='folder to write to')
  flags = parser.parse_args()
  configs = [spec for spec in flags.configs.split(',') if spec]
  workdirs = [pathlib.Path(path) for path in flags.workdirs.split(',') if path]
  if not configs and not workdirs:
    raise InputError('nothing to compare: give --configs or --workdirs')
  print(compare(configs, workdirs, flags.output))
  print(f'report: {flags.output / REPORT}')


if __name__ == '__main__':
  cli.run(main)
