"""How fast is a NAFNet here, against PyTorch's on the same machine?

python benchmarks/step.py [--cases=a,b,c]        needs: pip install '.[bench]'

Peer and ours do the same: one network, one batch, the squared error, AdamW, in
float32. Each has a process of its own; they take turns for several rounds.
Medians are compared, and only ratios mean anything elsewhere. Ours is the train
step of the product, with all that it counts and checks, and memory stays with
its process, as with every command of the product. The peer is timed as it
comes, and with memory that stays. What each takes of memory is measured in a
fresh process, and so is each compilation.

Prints one JSON object, then tables.
"""

import argparse
import contextlib
import functools
import importlib
import json
import statistics
import tempfile
import time
from typing import Any

import machine
from cases import CASES

SIDES = {
  'peer': ('peer', False),
  'kept': ('peer', True),
  'ours': ('ours', True),
}
"""Module of each, and whether its process keeps memory."""
ROUNDS = 5
CALLS = 3
"""Of one side in a row; memory is the peak of as many, with pauses."""
PAUSE = 0.3
"""Seconds after which threads lie still, and memory has been given back."""
COMPILES = 3


def measure(names: list[str]) -> dict[str, Any]:
  """Returns all that is measured of some cases.

  Each has `ms`, `gflops`, `peak_gib` and, where it is trained, `compile_s`; a
  time and a peak is under what is done and by which side.
  """
  return {
    name: {
      'ms': times(name),
      'gflops': ask_ours('gflops', name),
      'peak_gib': {
        what: {
          side: machine.apart(peak, module, name, what, kept=kept)
          for side, (module, kept) in SIDES.items()
        }
        for what in whats(name)
      },
      **({'compile_s': compiles(name)} if CASES[name].trained else {}),
    }
    for name in names
  }


def whats(name: str) -> list[str]:
  """Returns what is timed of a case."""
  return ['forward', 'step'] if CASES[name].trained else ['forward']


def times(name: str) -> dict[str, dict[str, float]]:
  """Returns median ms by what is done and by which side."""
  found = {}
  with contextlib.ExitStack() as stack:
    pools = {
      side: stack.enter_context(machine.process(kept))
      for side, (_, kept) in SIDES.items()
    }
    for what in whats(name):
      turns = {side: [] for side in SIDES}
      for _ in range(ROUNDS):
        for side, pool in pools.items():
          module, _ = SIDES[side]
          time.sleep(PAUSE)
          turns[side].append(pool.submit(turn, module, name, what).result())
      found[what] = {side: statistics.median(ms) for side, ms in turns.items()}
  return found


def turn(module: str, name: str, what: str) -> float:
  """Returns the median ms of some runs in a row."""
  return machine.median_ms(make_runs(module, name)[what], CALLS)


@functools.cache
def make_runs(module: str, name: str) -> dict[str, Any]:
  """Returns one side's runs, the same in all turns; imports that side alone."""
  return importlib.import_module(module).make_runs(name)


def peak(module: str, name: str, what: str) -> float:
  """Returns the GiB that a process takes that does one thing."""
  run = make_runs(module, name)[what]
  for _ in range(CALLS):
    run()
    # XLA gives a run's memory back some milliseconds after its result is
    # there; one that begins before takes as much again.
    time.sleep(PAUSE)
  return machine.peak_gib()


def compiles(name: str) -> dict[str, float]:
  """Returns the best times to the compiled step, without and with a cache."""
  cold, cached = [], []
  for _ in range(COMPILES):
    with tempfile.TemporaryDirectory() as cache:
      for seconds in (cold, cached):
        seconds.append(ask_ours('compile_seconds', name, cache))
  return {'cold': min(cold), 'cached': min(cached)}


def ask_ours(function: str, *args) -> Any:
  """Calls a function of `ours` in a process of its own."""
  return machine.apart(_call, 'ours', function, *args)


def _call(module: str, function: str, *args) -> Any:
  return getattr(importlib.import_module(module), function)(*args)


def table(found: dict[str, Any], product_gflops: float) -> str:
  """Returns what `measure` found, as Markdown."""
  # Not above: the peer's processes import this module, and would hold JAX.
  from deblur_jax.report import tables

  rows = []
  for name, case in found.items():
    for what, ms in case['ms'].items():
      gib = case['peak_gib'][what]
      rate = case['gflops'][what] / ms['ours'] * 1e3
      rows.append(
        [
          f'({name}) {what}',
          *(f'{ms[side]:.1f}' for side in SIDES),
          *(f'{ms[side] / ms["ours"]:.2f}' for side in ('peer', 'kept')),
          *(f'{gib[side]:.2f}' for side in SIDES),
          f'{case["gflops"][what]:.1f}',
          f'{rate:.0f}',
          f'{rate / product_gflops:.0%}',
        ]
      )
  head = (
    '',
    *('PyTorch ms', 'keeping memory', 'ours'),
    *('ratio', 'to the one keeping memory'),
    *('PyTorch GiB', 'keeping memory', 'ours'),
    *('GFLOPs', 'GFLOP/s', "of a product's"),
  )
  lines = [tables.markdown(head, rows)]
  compiled = [
    [f'({name}) step', *(f'{s:.1f}' for s in case['compile_s'].values())]
    for name, case in found.items()
    if 'compile_s' in case
  ]
  if compiled:
    head = '', 'compile s, cold', 'compile s, cached'
    lines.append(tables.markdown(head, compiled))
  lines.append(f'A large float32 product runs at {product_gflops:.0f} GFLOP/s.')
  return '\n\n'.join(lines)


def main() -> None:
  """The command; see the module docstring."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--cases', default=','.join(CASES))
  names = parser.parse_args().cases.split(',')
  unknown = set(names) - set(CASES)
  if unknown:
    parser.error(f'--cases: no {", ".join(unknown)}: choose of a, b, c')
  rate = ask_ours('product_gflops')
  found = measure(names)
  record = {**machine.describe(), 'product_gflops': rate, 'cases': found}
  print(json.dumps(record))
  print(table(found, rate))


if __name__ == '__main__':
  main()
