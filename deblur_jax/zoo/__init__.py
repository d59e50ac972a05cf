"""Models in the box: folders of model.safetensors, config.json and card.md.

Such a folder is taken wherever a workdir is.
"""

import argparse
import pathlib

from deblur_jax.train_lib import exported
from deblur_jax.types import InputError

FOLDER = pathlib.Path(__file__).parent
DEFAULT = 'cnn'


def names() -> list[str]:
  """Returns the names of the models in the box."""
  return sorted(
    path.name for path in FOLDER.iterdir() if exported.is_exported(path)
  )


def path(name: str) -> pathlib.Path:
  """Returns the folder of a model in the box.

  Raises:
    InputError: there is none of that name.
  """
  if name not in names():
    have = ', '.join(names()) or 'none yet'
    raise InputError(
      f'--model={name}: no such model in the box (there: {have})'
    )
  return FOLDER / name


def find(text: str) -> pathlib.Path:
  """Returns the folder of a model: one in the box by its name, or a workdir.

  Raises:
    InputError: it is neither.
  """
  if text in names():
    return FOLDER / text
  if not pathlib.Path(text).is_dir():
    have = ', '.join(names())
    raise InputError(
      f'{text}: neither a model in the box ({have}) nor a folder'
    )
  return pathlib.Path(text)


def home(workdir: pathlib.Path) -> pathlib.Path:
  """Returns where evaluations of a model go: the box itself is not written."""
  inside = workdir.resolve().parent == FOLDER.resolve()
  return pathlib.Path('runs') / workdir.name if inside else workdir


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds --model and --workdir, of which one at most may be given."""
  add = parser.add_mutually_exclusive_group().add_argument
  add('--model', help=f'of the box: {", ".join(names())}; default: {DEFAULT}')
  add('--workdir', type=pathlib.Path, help='a model of your own')


def chosen(flags: argparse.Namespace) -> pathlib.Path:
  """Returns the folder of the model that the flags ask for.

  Raises:
    InputError: the box holds no such model.
  """
  if str(flags.workdir) in names() and not flags.workdir.is_dir():
    raise InputError(
      f'--workdir={flags.workdir}: no such folder; a model in the box is asked '
      f'for by --model={flags.workdir}'
    )
  return flags.workdir or path(flags.model or DEFAULT)
