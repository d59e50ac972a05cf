"""Trains variants of the network in the box, each for the same time.

python docs/ablations.py --output=DIR [--minutes=4] [--only=NAME,...]

Each is scored on the whole validation pictures of configs/cnn_universal.py, so
that the test pictures choose nothing. A variant that is finished is not trained
again. The machine should do nothing else meanwhile.
"""

import json
import multiprocessing
import pathlib

from ml_collections import ConfigDict

from deblur_jax import cli, contenders, judge, train, trained
from deblur_jax import config as config_lib
from deblur_jax.data import sources
from deblur_jax.report import tables
from deblur_jax.train_lib import state, writer
from deblur_jax.types import InputError

SPEC = 'configs/cnn_universal.py:small'
NET = 'model.nafnet'
VARIANTS = {
  'base': {},
  'full size width 16': {f'{NET}.halved': False, f'{NET}.width': 16},
  'width 24': {f'{NET}.width': 24},
  'width 48': {f'{NET}.width': 48, f'{NET}.encoder': (1, 2, 4)},
  'four blocks at the lowest level': {f'{NET}.middle': 4},
  'deep': {
    f'{NET}.encoder': (1, 2, 12),
    f'{NET}.middle': 4,
    f'{NET}.decoder': (1, 1, 1),
  },
  'fewer blocks above': {
    f'{NET}.encoder': (1, 2, 8),
    f'{NET}.decoder': (1, 1, 1),
  },
  'half the blocks': {
    f'{NET}.encoder': (1, 2, 4),
    f'{NET}.decoder': (1, 1, 1),
  },
  'subpixel upsampling': {f'{NET}.upsampling': 'shuffle'},
  'crop 96': {'data.crop': 96},
  'crop 192': {'data.crop': 192, 'data.batch_size': 4},
  'batch 16': {'data.batch_size': 16},
  'loss charbonnier': {'loss': 'charbonnier'},
  'loss mse': {'loss': 'mse'},
  'learning rate 2e-3': {'optim.learning_rate': 2e-3},
  'no EMA': {'ema.decay': 0.0},
  'AdamW': {'optim.name': 'adamw'},
}
PROBE = 20, 60
"""Steps between which a variant's speed is measured."""
RESULT = 'validation.json'


def variant(name: str, steps: int) -> ConfigDict:
  """Returns the config of a variant."""
  config = config_lib.load_file(SPEC).unlock()
  config.update_from_flattened_dict(VARIANTS[name])
  config.steps = steps
  config.eval.every_steps = steps
  return config.lock()


def probe(name: str, workdir: pathlib.Path) -> None:
  """Trains a few steps, to learn what one takes."""
  train.train(variant(name, PROBE[1]), workdir, name)


def full(name: str, workdir: pathlib.Path, steps: int) -> None:
  """Trains and scores a variant."""
  config = variant(name, steps)
  train.train(config, workdir, name)
  model = trained.load(workdir)
  # Blur of the plain config: the same pictures for every variant.
  own = config_lib.load_file(SPEC)
  test = judge.Test(sources.open_split(own.data, 'val'), 'val', 'val', own)
  record = judge.judge(contenders.of_model(model), test, workdir / 'val')
  result = {
    'parameters': state.count(model.params),
    'steps': steps,
    'minutes': model.minutes,
    'metrics': record['metrics'],
  }
  (workdir / RESULT).write_text(json.dumps(result))


def alone(function, *arguments) -> None:
  """Runs a function in a process of its own: memory begins anew."""
  context = multiprocessing.get_context('spawn')
  child = context.Process(target=_as_command, args=(function, *arguments))
  child.start()
  child.join()
  if child.exitcode:
    raise InputError(f'{arguments[0]}: ended with {child.exitcode}')


def _as_command(function, *arguments) -> None:
  cli.run(lambda: function(*arguments))


def seconds_per_step(workdir: pathlib.Path) -> float:
  """Returns what a step of a probe took."""
  minutes = [writer.minutes(workdir, step) for step in PROBE]
  return 60 * (minutes[1] - minutes[0]) / (PROBE[1] - PROBE[0])


def main() -> None:
  """Trains what is missing, then prints the table."""
  parser = cli.Parser(description=__doc__.split('\n')[0])
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--minutes', type=float, default=4.0)
  parser.add_argument('--only', default=','.join(VARIANTS))
  flags = parser.parse_args()
  rows = []
  for name in flags.only.split(','):
    folder = flags.output / name.replace(' ', '_')
    path = folder / 'full' / RESULT
    if not path.is_file():
      alone(probe, name, folder / 'probe')
      steps = round(60 * flags.minutes / seconds_per_step(folder / 'probe'))
      alone(full, name, folder / 'full', steps)
    found = json.loads(path.read_text())
    psnr, ssim = (found['metrics'][name] for name in ('psnr', 'ssim'))
    rows.append(
      [
        name,
        f'{found["parameters"] / 1e6:.2f} M',
        str(found['steps']),
        tables.number('psnr', psnr['output']['mean']),
        tables.signed('psnr', psnr['gain']['mean']),
        tables.number('ssim', ssim['output']['mean']),
      ]
    )
  head = 'variant', 'parameters', 'steps', 'psnr', 'gain', 'ssim'
  print(tables.markdown(head, rows))


if __name__ == '__main__':
  cli.run(main)
