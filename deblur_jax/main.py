"""Trains one model and scores it on its test split.

python -m deblur_jax.main --config=configs/cnn_photos.py[:small]
  [--workdir=DIR] [--init_from=DIR] [--config.key=value] [--distributed]
  [--dry_run [--devices=N]]
"""

import pathlib
import sys

from ml_collections import config_flags

from deblur_jax import cli, dry_run, evaluate, options, train
from deblur_jax import config as config_lib
from deblur_jax.report import tables
from deblur_jax.train_lib import processes
from deblur_jax.types import InputError


def main() -> None:
  """The command; see the module docstring."""
  values = options.parse(sys.argv)
  if values.help:
    print(__doc__ + values.main_module_help())
    return
  if values.config is None:
    raise InputError('--config=configs/FILE.py is needed; see configs/')
  spec = config_flags.get_config_filename(values['config'])
  workdir = pathlib.Path(values.workdir or config_lib.default_workdir(spec))
  name = config_lib.short_name(spec)
  if values.dry_run:
    dry_run.use_virtual_devices(values.devices)
    print(dry_run.describe(name, dry_run.estimate(values.config)))
    return
  processes.join(values.distributed)
  train.train(values.config, workdir, name, values.init_from)
  record = evaluate.evaluate(workdir)
  if processes.is_first():
    print(tables.evaluation(record))
  processes.wait_for_all()  # the first one scores last


if __name__ == '__main__':
  cli.run(main)
