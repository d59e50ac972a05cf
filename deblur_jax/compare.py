"""Trains what is missing, scores all contenders, writes one report.

python -m deblur_jax.compare [--configs=A,B,C] [--workdirs=D,E] [--data=P,Q]
  [--cascade='cnn>diffusion,cnn>gan'] [--ensemble] [--budget=images|minutes]
  --output=DIR
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ml_collections import ConfigDict

from deblur_jax import (
  cli,
  contenders,
  files,
  heap,
  judge,
  train,
  trained,
  zoo,
)
from deblur_jax import config as config_lib
from deblur_jax.ops import classical, scores
from deblur_jax.report import document, experiment, results, tables
from deblur_jax.report.results import BASELINE
from deblur_jax.train_lib import exported, writer
from deblur_jax.types import InputError

RESULTS = 'results.csv'
PER_IMAGE = 'per_image.csv'
REPORT = 'report.md'
PAGE = 'report.html'
EVALUATIONS = 'evaluations'
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


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What is to be compared.

  Attributes:
    configs: FILE.py[:small] each, trained in its default workdir.
    workdirs: further models, trained already.
    data: what every model is tested on besides its own test split; see
      `judge.open_test`. Exported models, as those in the box, have no other.
    cascades: (first, second) by family or by name.
    ensemble: adds each model's self-ensemble and the mean of all models.
    budget: 'images' or 'minutes', that trained models should have in common.
  """

  configs: Sequence[str] = ()
  workdirs: Sequence[pathlib.Path] = ()
  data: Sequence[str] = ()
  cascades: Sequence[tuple[str, str]] = ()
  ensemble: bool = False
  budget: str = 'images'


class Planned(NamedTuple):
  """A model that is to be trained."""

  name: str
  config: ConfigDict


Named = TypeVar('Named', bound=Planned | trained.Model)


def compare(wanted: Wanted, output: pathlib.Path) -> str:
  """Runs the experiment and writes its report into a folder.

  What is trained or scored already is not done again: after an interruption,
  the same call goes on.

  Returns:
    The report as Markdown.

  Raises:
    InputError: a config, a workdir or the data cannot be used.
  """
  check(wanted)
  output.mkdir(parents=True, exist_ok=True)
  models = load_all(train_all(wanted.configs) + list(wanted.workdirs))
  own = {model.name: workdir for workdir, model in models.items()}
  sections = []
  for test, group, is_own in plan(models, wanted.data):
    scored = []
    for contender in list_contenders(test, group, wanted):
      folder = output / EVALUATIONS / test.dataset / slug(contender.name)
      if is_own:
        folder = own.get(contender.name, folder)
      scored.append(result(contender, test, folder))
    sections.append(results.Section(test.dataset, scored))
  histories = {
    model.name: writer.read_metrics(workdir)
    for workdir, model in models.items()
  }
  return write(output, sections, histories, wanted.budget)


def check(wanted: Wanted) -> None:
  """Raises InputError for what would else show after all training."""
  planned = [
    Planned(config_lib.short_name(spec), config_lib.load_file(spec))
    for spec in wanted.configs
  ]
  models = [*planned, *load_all(wanted.workdirs).values()]
  check_cascades(wanted.cascades, models)
  for spec in wanted.data:
    judge.open_test(models[0].config, spec)


def load_all(
  workdirs: Sequence[pathlib.Path],
) -> dict[pathlib.Path, trained.Model]:
  """Loads models by workdir.

  Raises:
    InputError: two have the same name, so that no table could tell them apart.
  """
  models = {}
  for workdir in workdirs:
    model = trained.load(workdir)
    for other, known in models.items():
      if known.name == model.name and other != workdir:
        raise InputError(
          f'{other} and {workdir} are both called {model.name}: train one of '
          'them from a config file of its own'
        )
    models[workdir] = model
  return models


def train_all(specs: Sequence[str]) -> list[pathlib.Path]:
  """Trains what is not trained yet; returns the workdirs."""
  loaded = [(spec, config_lib.load_file(spec)) for spec in specs]
  workdirs = []
  for number, (spec, config) in enumerate(loaded, 1):
    name = config_lib.short_name(spec)
    workdir = config_lib.default_workdir(spec)
    print(f'[{number}/{len(loaded)}] {name}')
    train.train(config, workdir, name)
    workdirs.append(workdir)
  return workdirs


def plan(
  models: Mapping[pathlib.Path, trained.Model], data: Sequence[str]
) -> Iterator[tuple[judge.Test, list[trained.Model], bool]]:
  """Yields every test, the models that take it, and whether it is their own.

  Models share their own test where its pictures and the blur on them are the
  same; all take those of `data`, where sharp pictures of a folder are blurred
  as the first model says.

  Raises:
    InputError: there is nothing that exported models could be tested on.
  """
  own = {}
  for workdir, model in models.items():
    if not exported.is_exported(workdir):
      test = judge.open_test(model.config)
      _, group, _ = own.setdefault(test.fingerprint, (test, [], True))
      group.append(model)
    elif not data:
      raise InputError(f'{workdir}: an exported model; give --data to test it')
  everyone = list(models.values())
  planned = list(own.values())
  planned += [
    (judge.open_test(everyone[0].config, spec), everyone, False)
    for spec in data
  ]
  names = distinct([test for test, _, _ in planned])
  for name, (test, group, is_own) in zip(names, planned, strict=True):
    yield dataclasses.replace(test, dataset=name), group, is_own


def distinct(tests: Sequence[judge.Test]) -> list[str]:
  """Returns a name for each test: of its data set, if shared of its blur too.

  Where that is shared as well, they are numbered.
  """
  names = [test.dataset for test in tests]
  blurred = [
    name
    if names.count(name) == 1 or test.source.real
    else '_'.join((name, *test.config.data.blur.kinds))
    for name, test in zip(names, tests, strict=True)
  ]
  return [
    name
    if blurred.count(name) == 1
    else f'{name}_{blurred[: i + 1].count(name)}'
    for i, name in enumerate(blurred)
  ]


def list_contenders(
  test: judge.Test, models: Sequence[trained.Model], wanted: Wanted
) -> Iterator[contenders.Contender]:
  """Yields the rows of one test's table."""
  if test.is_told:
    yield from map(contenders.oracle, classical.METHODS)
  yield from map(contenders.of_model, models)
  for first, second in wanted.cascades:
    for a in choose(first, models):
      for b in choose(second, models):
        yield contenders.cascade(a, b)
  if wanted.ensemble:
    yield from map(contenders.self_ensemble, models)
    if len(models) > 1:
      yield contenders.average(models)


def choose(name: str, models: Iterable[Named]) -> list[Named]:
  """Returns the models of a family, or the one of a name.

  The baseline is no CNN in this: it goes by its name.
  """
  return [
    model
    for model in models
    if name == model.name
    or (name == model.config.family and model.config.model.name != BASELINE)
  ]


def check_cascades(
  cascades: Sequence[tuple[str, str]],
  models: Sequence[Planned | trained.Model],
) -> None:
  """Raises InputError for a cascade of models that are not compared."""
  for pair in cascades:
    for name in pair:
      if not choose(name, models):
        known = ', '.join(model.name for model in models)
        raise InputError(
          f'--cascade: no {name} among the models ({known}); name a family or '
          'one of these'
        )


def result(
  contender: contenders.Contender, test: judge.Test, folder: pathlib.Path
) -> results.Result:
  """Returns the scores of a contender, made anew where out of date."""
  path = folder / judge.JSON
  record = json.loads(path.read_text()) if path.is_file() else {}
  current = {
    'made_of': [list(part) for part in contender.made_of],
    'sampler': dict(contender.sampler),
    'test': test.fingerprint,
  }
  same = {key: record.get(key) for key in current} == current
  if not same or not is_whole(record):
    record = judge.judge(contender, test, folder)
    heap.release()  # what the next one asks for is of other sizes
  return results.Result(record, tables.read_csv(folder / judge.CSV), folder)


def is_whole(record: Mapping[str, Any]) -> bool:
  """Returns whether an evaluation has all that is told of one today."""
  metrics = record['metrics']
  return metrics.keys() == scores.SCORES.keys() and all(
    'groups' in side for sides in metrics.values() for side in sides.values()
  )


def slug(name: str) -> str:
  """Returns a name that a folder may have."""
  kept = [c if c.isalnum() or c in '._-' else '_' for c in name]
  return ''.join(kept).strip('_')


def write(
  output: pathlib.Path,
  sections: Sequence[results.Section],
  histories: dict[str, list[dict[str, Any]]],
  budget: str,
) -> str:
  """Writes the tables, the figures and both reports."""
  rows = [
    row
    for section in sections
    for one in section.results
    for row in summary_rows({**one.record, 'dataset': section.dataset})
  ]
  tables.write_csv(output / RESULTS, rows)
  tables.write_csv(output / PER_IMAGE, tables.even(image_rows(sections)))
  blocks = experiment.describe(sections, histories, budget, output)
  files.write_text(output / PAGE, document.page(blocks))
  text = document.markdown(blocks, output)
  files.write_text(output / REPORT, text)
  return text


def summary_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
  """Yields one row of results.csv per metric and side."""
  for metric, sides in record['metrics'].items():
    for side in ('input', 'output'):
      row = {**record, 'metric': metric, 'side': side, **sides[side]}
      yield {key: row[key] for key in COLUMNS}


def image_rows(
  sections: Sequence[results.Section],
) -> Iterator[dict[str, Any]]:
  """Yields one row per picture and contender."""
  for section in sections:
    for one in section.results:
      for row in one.rows:
        first = {'dataset': section.dataset, 'config': one.record['config']}
        yield {**first, **row}


def parse_cascades(text: str) -> list[tuple[str, str]]:
  """Returns the pairs of 'FIRST>SECOND,...'.

  Raises:
    InputError: one is not a pair.
  """
  pairs = [tuple(part.strip().split('>')) for part in text.split(',') if part]
  for pair in pairs:
    if len(pair) != 2 or not all(pair):
      raise InputError(f'--cascade={text}: write FIRST>SECOND, ...')
  return pairs


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(
    prog='python -m deblur_jax.compare', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  add('--configs', default='', help='FILE.py[:small], separated by commas')
  add('--workdirs', default='', help='trained models, or names of the box')
  add('--data', default='', help='further folders or configs to test on')
  add('--cascade', default='', help="FIRST>SECOND,...: 'cnn>diffusion'")
  add('--ensemble', action='store_true', help='adds means of several results')
  add(
    '--budget',
    choices=('images', 'minutes'),
    default='images',
    help='what trained models should have in common; default: %(default)s',
  )
  add('--output', type=pathlib.Path, required=True, help='folder to write to')
  flags = parser.parse_args()
  wanted = Wanted(
    configs=split(flags.configs),
    workdirs=[zoo.find(text) for text in split(flags.workdirs)],
    data=split(flags.data),
    cascades=parse_cascades(flags.cascade),
    ensemble=flags.ensemble,
    budget=flags.budget,
  )
  if not wanted.configs and not wanted.workdirs:
    raise InputError('nothing to compare: give --configs or --workdirs')
  print(compare(wanted, flags.output))
  print(f'report: {flags.output / PAGE}')


def split(text: str) -> list[str]:
  """Returns the parts of 'A,B,...'."""
  return [part for part in text.split(',') if part]


if __name__ == '__main__':
  cli.run(main)
