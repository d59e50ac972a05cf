"""Writes RESULTS.md out of the reports of comparisons.

python docs/results.py [--take=RUNS]

docs/results/ holds a folder for each comparison, with its report.md,
results.csv and plots, and template.md, the text in which tables and scores are
put. With --take, these files are copied first from the folder of the same name
in RUNS, where `deblur_jax.compare` wrote them; pictures are left there, as most
test pictures may not be shown to everyone.
"""

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence

import jinja2

from deblur_jax import cli, compare, files
from deblur_jax.report import experiment, tables

DOCS = pathlib.Path(__file__).parent
FOLDER = DOCS / 'results'
TEMPLATE = FOLDER / 'template.md'
RESULTS = DOCS.parent / 'RESULTS.md'
PICTURE = re.compile(
  rf'^(## Pictures\n\n)?!\[.*\]\((?!{experiment.PLOTS}/).*\n+', re.MULTILINE
)

Cells = list[list[str]]


@dataclasses.dataclass(frozen=True)
class Report:
  """The tables of one report.md, by data set and heading."""

  parts: Mapping[tuple[str, str], Cells]

  def table(
    self, dataset: str, heading: str = '', columns: Sequence[str] = ()
  ) -> str:
    """Returns a table of a test as Markdown.

    Args:
      dataset: the test.
      heading: of the table; '' is the scores'.
      columns: to be kept beside the first; all by default.
    """
    head, *rows = self.parts[dataset, heading]
    kept = [0, *map(head.index, columns or head[1:])]
    cells = [[row[i] for i in kept] for row in (head, *rows)]
    return tables.markdown(cells[0], cells[1:])

  def score(
    self, dataset: str, row: str, column: str, heading: str = ''
  ) -> float:
    """Returns the number that a cell begins with."""
    head, *rows = self.parts[dataset, heading]
    (cells,) = (cells for cells in rows if cells[0] == row)
    cell = cells[head.index(column)].lstrip('*')
    return float(cell.split()[0].replace(',', ''))

  def gain(self, dataset: str, row: str, column: str = 'psnr') -> float:
    """Returns the score of a row less that of the blurred input."""
    before = self.score(dataset, experiment.INPUT, column)
    return self.score(dataset, row, column) - before


def read(text: str) -> Report:
  """Returns the tables of a report.md."""
  parts, dataset, heading = {}, '', ''
  for line in text.splitlines():
    if line.startswith('## '):
      dataset, heading = line.removeprefix('## '), ''
    elif line.startswith('### '):
      heading = line.removeprefix('### ')
    elif line.startswith('|') and not line.startswith('| :-'):
      cells = [cell.strip() for cell in line.strip('|').split('|')]
      parts.setdefault((dataset, heading), []).append(cells)
  return Report(parts)


def render() -> str:
  """Returns RESULTS.md."""
  reports = {
    path.parent.name: read(path.read_text())
    for path in FOLDER.glob(f'*/{compare.REPORT}')
  }
  environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters['signed'] = lambda value: f'{value:+.2f}'
  environment.filters['fixed'] = lambda value, digits: f'{value:.{digits}f}'
  return environment.from_string(TEMPLATE.read_text()).render(reports)


def take(runs: pathlib.Path) -> None:
  """Copies what is kept of each comparison."""
  for path in runs.glob(f'*/{compare.REPORT}'):
    folder = FOLDER / path.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    text = PICTURE.sub('', path.read_text())
    files.write_text(folder / compare.REPORT, text)
    shutil.copy(path.with_name(compare.RESULTS), folder)
    plots = path.with_name(experiment.PLOTS)
    shutil.copytree(plots, folder / plots.name, dirs_exist_ok=True)


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(description=__doc__.split('\n')[0])
  parser.add_argument('--take', type=pathlib.Path, help='folder of comparisons')
  flags = parser.parse_args()
  if flags.take:
    take(flags.take)
  files.write_text(RESULTS, render())


if __name__ == '__main__':
  cli.run(main)
