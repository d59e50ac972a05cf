"""Lists the models in the box, checking each, and makes folders like theirs.

python -m deblur_jax.zoo
python -m deblur_jax.zoo --export=WORKDIR --output=DIR [--step=N|best]
"""

import pathlib
from collections.abc import Sequence

from deblur_jax import cli, trained, zoo
from deblur_jax.report import tables
from deblur_jax.train_lib import exported, state
from deblur_jax.types import InputError


def table(names: Sequence[str]) -> str:
  """Returns what can be told of models in the box, as Markdown.

  Raises:
    InputError: one is damaged.
  """
  rows = []
  for name in names:
    folder = zoo.path(name)
    model = trained.load(folder)
    size = (folder / exported.FILE).stat().st_size
    rows.append(
      [
        name,
        model.config.family,
        model.config.model.name,
        f'{state.count(model.params) / 1e6:.2f} M',
        f'{size / 1e6:.1f} MB',
        f'{model.minutes:.0f}',
      ]
    )
  head = 'model', 'family', 'network', 'parameters', 'file', 'minutes trained'
  return tables.markdown(head, rows)


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(
    'python -m deblur_jax.zoo', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  add(
    '--export',
    type=pathlib.Path,
    metavar='WORKDIR',
    help='whose model is written',
  )
  add('--output', type=pathlib.Path, help='folder for what is exported')
  add('--step', default='', help='a checkpoint, or best; default: the last')
  flags = parser.parse_args()
  if bool(flags.export) != bool(flags.output):
    raise InputError('--export=WORKDIR and --output=DIR go together')
  if flags.export:
    trained.export(flags.export, flags.output, flags.step)
    print(f'python -m deblur_jax.restore --workdir={flags.output} photo.jpg')
    return
  print(table(zoo.names()))


if __name__ == '__main__':
  cli.run(main)
