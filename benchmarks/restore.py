"""How fast is a photograph restored, and in how much memory?

python benchmarks/restore.py [--config=configs/cnn_photos.py:small]

Each size in a process of its own, as the command would take it: whole or in
tiles as memory says. The weights are those of an untrained network.
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np

from deblur_jax import cli, trained
from deblur_jax import config as config_lib
from deblur_jax.families import make_family
from deblur_jax.report import tables
from deblur_jax.restorer import Restorer

MEGAPIXELS = {1: (800, 1200), 12: (2832, 4256), 24: (4000, 6000)}
"""Heights and widths of usual photographs."""

# As in every command of the product.
jax.monitoring.register_event_duration_secs_listener(cli.settle_after)


def measure(spec: str) -> dict[int, dict[str, float]]:
  """Returns `tiles`, `compile_s`, `mpx_per_s` and `peak_gib` by size."""
  return {size: machine.apart(restore, spec, size) for size in MEGAPIXELS}


def restore(spec: str, size: int) -> dict[str, float]:
  """Restores one picture twice; the first time, code is compiled."""
  config = config_lib.load_file(spec)
  family = make_family(config)
  blank = {'blur': jnp.zeros((1, 64, 64, 3))}
  params = jax.jit(family.init)(jax.random.key(0), blank)
  model = trained.Model(pathlib.Path(), config, family, params, runs=())
  restorer = Restorer([model])
  height, width = MEGAPIXELS[size]
  rng = np.random.default_rng(0)
  photograph = rng.integers(0, 255, (height, width, 3), np.uint8)
  seconds = []
  for _ in range(2):
    start = time.perf_counter()
    tiles = restorer.restore(photograph).tiles
    seconds.append(time.perf_counter() - start)
  return {
    'tiles': tiles,
    'compile_s': seconds[0] - seconds[1],
    'mpx_per_s': height * width / 1e6 / seconds[1],
    'peak_gib': machine.peak_gib(),
  }


def table(found: dict[int, dict[str, Any]]) -> str:
  """Returns what `measure` found, as Markdown."""
  head = 'megapixels', 'tiles', 'compile s', 'Mpx/s', 'peak GiB'
  rows = [
    [
      str(size),
      str(one['tiles']),
      f'{one["compile_s"]:.1f}',
      f'{one["mpx_per_s"]:.2f}',
      f'{one["peak_gib"]:.2f}',
    ]
    for size, one in found.items()
  ]
  return tables.markdown(head, rows)


if __name__ == '__main__':
  machine.report(__doc__, 'configs/cnn_photos.py:small', measure, table)
