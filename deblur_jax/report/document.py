"""A report as a list of blocks, written as Markdown or as one HTML page."""

import base64
import dataclasses
import importlib.resources
import pathlib
from collections.abc import Sequence

import jinja2

from deblur_jax.report import tables


class Bold(str):
  """A cell that stands out."""


@dataclasses.dataclass(frozen=True)
class Heading:
  """Opens a part; level 1 is the title."""

  text: str
  level: int = 2
  kind: str = 'heading'


@dataclasses.dataclass(frozen=True)
class Text:
  """One paragraph."""

  text: str
  kind: str = 'text'


@dataclasses.dataclass(frozen=True)
class Table:
  """Cells of text; the first column names the rows."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  kind: str = 'table'


@dataclasses.dataclass(frozen=True)
class Figure:
  """A PNG file."""

  path: pathlib.Path
  caption: str
  kind: str = 'figure'


@dataclasses.dataclass(frozen=True)
class Slider:
  """Two PNG files of one size, one uncovered by the other; page only."""

  before: pathlib.Path
  after: pathlib.Path
  caption: str
  kind: str = 'slider'


Block = Heading | Text | Table | Figure | Slider


def markdown(blocks: Sequence[Block], folder: pathlib.Path) -> str:
  """Returns the blocks as Markdown, but for what only a page can show.

  Args:
    blocks: of the report.
    folder: where it will lie, with all figures in it or below.
  """
  parts = []
  for block in blocks:
    if isinstance(block, Heading):
      parts.append(f'{"#" * block.level} {block.text}')
    elif isinstance(block, Text):
      parts.append(block.text)
    elif isinstance(block, Table):
      rows = [[_marked(cell) for cell in row] for row in block.rows]
      parts.append(tables.markdown(block.header, rows))
    elif isinstance(block, Figure):
      link = block.path.relative_to(folder).as_posix()
      parts.append(f'![{block.caption}]({link})')
  return '\n\n'.join(parts) + '\n'


def page(blocks: Sequence[Block]) -> str:
  """Returns the blocks as one HTML page that needs nothing beside it."""
  template = importlib.resources.files(__package__) / 'page.html'
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
  )
  environment.filters['data'] = _data
  environment.tests['bold'] = lambda cell: isinstance(cell, Bold)
  text = template.read_text(encoding='utf-8')
  return environment.from_string(text).render(blocks=blocks)


def _marked(cell: str) -> str:
  return f'**{cell}**' if isinstance(cell, Bold) else cell


def _data(path: pathlib.Path) -> str:
  """Returns a picture as the address of itself."""
  encoded = base64.b64encode(path.read_bytes()).decode('ascii')
  return f'data:image/png;base64,{encoded}'
