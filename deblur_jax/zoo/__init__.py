"""Models in the box: folders of model.safetensors, config.json and card.md.

Such a folder is taken wherever a workdir is.
"""

import pathlib

from deblur_jax.train_lib import exported
from deblur_jax.types import InputError

FOLDER = pathlib.Path(__file__).parent
CARD = 'card.md'
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
