"""What does the loop of a diffusion sampler cost beyond its network?

python benchmarks/sampler.py [--config=configs/diffusion_photos.py:small]

The time of one evaluation inside the loop is the slope between two numbers of
evaluations; the network alone is timed in turns with them, in the same form.
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import machine
from cases import Run

from deblur_jax import cli
from deblur_jax import config as config_lib
from deblur_jax.families import diffusion, make_family
from deblur_jax.report import tables

SIDE = 256
FEW, MANY = 4, 12
ROUNDS = 7
CALLS = 3

# As in every command of the product.
jax.monitoring.register_event_duration_secs_listener(cli.settle_after)


def measure(spec: str) -> dict[str, float]:
  """Returns `ms_per_evaluation`, `ms_network` and `overhead`, a share."""
  config = config_lib.load_file(spec)
  blur = jnp.full((1, SIDE, SIDE, 3), 0.5)
  params = make_family(config).init(jax.random.key(0), {'blur': blur})
  runs = {
    'network': network(config, params, blur),
    **{nfe: sampler(config, params, blur, nfe) for nfe in (FEW, MANY)},
  }
  turns = {name: [] for name in runs}
  for _ in range(ROUNDS):
    for name, run in runs.items():
      turns[name].append(machine.median_ms(run, CALLS))
  ms = {name: statistics.median(found) for name, found in turns.items()}
  inside = (ms[MANY] - ms[FEW]) / (MANY - FEW)
  return {
    'ms_per_evaluation': inside,
    'ms_network': ms['network'],
    'overhead': inside / ms['network'] - 1,
  }


def network(config: Any, params: Any, blur: jax.Array) -> Run:
  """Returns what evaluates the denoiser once, as the process calls it."""
  process = diffusion.PROCESSES[config.process.name](config, True)
  apply = waited(jax.jit(process.estimate))
  time = jnp.full((1, 1, 1, 1), 0.5)
  return lambda: apply(params['net'], blur, time, blur, blur)


def sampler(config: Any, params: Any, blur: jax.Array, nfe: int) -> Run:
  """Returns what draws one sample."""
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.sampler.nfe = nfe
  restore = waited(jax.jit(make_family(changed).restore))
  keys, origin = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, 2), int)
  return lambda: restore(params, blur, keys, origin)


def waited(function: Callable) -> Callable:
  """Returns a function that returns when its result is there."""
  return lambda *args: jax.block_until_ready(function(*args))


def table(found: dict[str, float]) -> str:
  """Returns what `measure` found, as Markdown."""
  row = [
    f'{found["ms_per_evaluation"]:.1f}',
    f'{found["ms_network"]:.1f}',
    f'{found["overhead"]:+.1%}',
  ]
  head = 'ms per evaluation in the loop', 'ms of the network alone', 'overhead'
  return tables.markdown(head, [row])


if __name__ == '__main__':
  machine.report(__doc__, 'configs/diffusion_photos.py:small', measure, table)
