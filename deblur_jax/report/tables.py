"""Scores as text: for the terminal and for Markdown."""

import csv
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deblur_jax import files

LISTED = 5
DIGITS = {
  'mse': 1,
  'psnr': 2,
  'ssim': 4,
  'ssim_gauss': 4,
  'ssim_matlab3d': 4,
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a Markdown table, columns aligned for reading as plain text."""
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

  def line(cells: Sequence[str]) -> str:
    first, *rest = (
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return '| ' + ' | '.join([first, *rest]) + ' |'

  rule = [':' + '-' * (widths[0] - 1)]
  rule += ['-' * (width - 1) + ':' for width in widths[1:]]
  return '\n'.join([line(header), line(rule), *map(line, rows)])


def evaluation(record: Mapping[str, Any]) -> str:
  """Returns the table of one evaluation.json."""
  header = ['metric', 'input', 'output', 'gain', 'output, 95 % interval']
  rows = []
  for name, sides in record['metrics'].items():
    rows.append(
      [
        name,
        number(name, sides['input']['mean']),
        number(name, sides['output']['mean']),
        signed(name, sides['gain']['mean']),
        between(name, sides['output']),
      ]
    )
  title = (
    f'{record["config"]} at step {record["step"]} on {record["dataset"]} '
    f'({record["split"]}): {record["images"]} images, '
    f'{record["ms_per_image"]:.0f} ms each'
  )
  return '\n\n'.join([title, markdown(header, rows), *alignment(record)])


def alignment(record: Mapping[str, Any]) -> list[str]:
  """Returns a remark on pairs that do not match pixel by pixel, if any."""
  names = record['unaligned']
  if not names:
    return []
  remark = f'{len(names)} of {record["images"]} pairs are shifted: '
  remark += ', '.join(names[:LISTED]) + (' ...' if len(names) > LISTED else '')
  if not record['aligned']:
    remark += '\nThis set is not aligned: its scores say little.'
  return [remark]


def means(
  record: Mapping[str, Any], metrics: Sequence[str], side: str
) -> list[str]:
  """Returns 'mean [low to high]' of one side for each metric."""
  summaries = [(name, record['metrics'][name][side]) for name in metrics]
  return [f'{number(n, s["mean"])} [{between(n, s)}]' for n, s in summaries]


def number(metric: str, value: float | None) -> str:
  """Formats a mean; '-' where there is none."""
  return '-' if value is None else f'{value:.{DIGITS.get(metric, 3)}f}'


def signed(metric: str, value: float | None) -> str:
  """Formats a difference with its sign; '-' where there is none."""
  return '-' if value is None else f'{value:+.{DIGITS.get(metric, 3)}f}'


def between(metric: str, summary: Mapping[str, Any]) -> str:
  """Formats the interval of a summary; '-' where there is none."""
  if summary['low'] is None:
    return '-'
  low, high = (number(metric, summary[bound]) for bound in ('low', 'high'))
  return f'{low} to {high}'


def write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes rows of one set of columns, whole."""
  with (
    files.whole(path) as temporary,
    temporary.open('w', newline='', encoding='utf-8') as file,
  ):
    table = csv.DictWriter(file, list(rows[0]))
    table.writeheader()
    table.writerows(map(printable, rows))


def read_csv(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads a per_image.csv."""
  with path.open(newline='', encoding='utf-8') as file:
    return [parsed(row) for row in csv.DictReader(file)]


def printable(row: Mapping[str, Any]) -> dict[str, Any]:
  """Rounds the floats of a CSV row; NaN becomes an empty cell."""

  def cell(value: Any) -> Any:
    if not isinstance(value, float):
      return value
    return '' if math.isnan(value) else f'{value:.6g}'

  return {key: cell(value) for key, value in row.items()}


def parsed(row: Mapping[str, str]) -> dict[str, Any]:
  """Reads a row of per_image.csv back; empty cells become NaN."""

  def cell(text: str) -> Any:
    try:
      return float(text) if text else math.nan
    except ValueError:
      return text

  # A picture may be called 7: names stay text.
  return {key: cell(text) for key, text in row.items()} | {
    'image': row['image']
  }


def even(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Gives all rows the columns of any of them; what is missing is NaN."""
  rows = list(rows)
  columns = dict.fromkeys(key for row in rows for key in row)
  return [{key: row.get(key, math.nan) for key in columns} for row in rows]
