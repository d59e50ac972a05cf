"""Runs all benchmarks, one after the other, and writes RESULTS.md.

python benchmarks/results.py                     needs: pip install '.[bench]'

Nothing else should run meanwhile.
"""

import pathlib
import re
import subprocess
import sys

import machine

FOLDER = pathlib.Path(__file__).parent
TITLES = {
  'step': 'A NAFNet against PyTorch',
  'sampler': 'The loop of a diffusion sampler',
  'restore': 'Restoring photographs',
  'pipeline': 'The input pipeline against PyTorch',
}
HEAD = """# Results

Written by `python benchmarks/results.py`. Times are of one machine; ratios mean
more. What is measured, and how, is at the top of each script.
"""


def main() -> None:
  """The command; see the module docstring."""
  sections = {'Machine': list_of(machine.describe())}
  for name, title in TITLES.items():
    sections[f'{title} (`{name}.py`)'] = tables_of(run(name))
    # After each: half an hour's numbers shall not hang on the last script.
    body = '\n\n'.join(
      f'## {title}\n\n{text}' for title, text in sections.items()
    )
    (FOLDER / 'RESULTS.md').write_text(f'{HEAD}\n{body}\n')


def tables_of(printed: str) -> str:
  """Returns what follows a script's JSON; a library may have its say before."""
  return re.split('(?m)^{.*$', printed, maxsplit=1)[1].strip()


def run(name: str) -> str:
  """Runs one script; returns what it printed."""
  print(f'{name} ...', flush=True)
  return subprocess.run(
    [sys.executable, FOLDER / f'{name}.py'],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
    cwd=FOLDER.parent,
  ).stdout


def list_of(record: dict) -> str:
  """Returns a record as a Markdown list."""
  return '\n'.join(f'- {key}: {value}' for key, value in record.items())


if __name__ == '__main__':
  main()
