"""The machine, and how to ask it. Imports neither JAX nor PyTorch."""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from cases import Run

from deblur_jax import heap


def median_ms(run: Run, calls: int) -> float:
  """Returns the median time of some calls, after one that is not timed."""
  run()
  times = []
  for _ in range(calls):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
  return 1e3 * statistics.median(times)


def apart(function: Callable, *args, kept: bool = True) -> Any:
  """Returns what a function returns in a process of its own; see `process`."""
  with process(kept) as pool:
    return pool.submit(function, *args).result()


def process(kept: bool = True) -> futures.ProcessPoolExecutor:
  """Returns a fresh process to submit calls to.

  Args:
    kept: whether memory stays with it, as with every command of the product.
  """
  return futures.ProcessPoolExecutor(
    1,
    multiprocessing.get_context('spawn'),
    initializer=heap.keep if kept else None,
  )


def peak_gib() -> float:
  """Returns the most memory that this process has held, on Linux."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('VmHWM:'):
      return int(line.split()[1]) / 2**20
  raise OSError('/proc/self/status does not tell VmHWM')


def report(doc: str, config: str, measure: Callable, table: Callable) -> None:
  """The command of a benchmark of one config.

  Args:
    doc: docstring of the script.
    config: unless `--config` names another.
    measure: takes the config's name; what it returns is printed as JSON,
    table: and as what this makes of it.
  """
  parser = argparse.ArgumentParser(description=doc.split('\n')[0])
  parser.add_argument('--config', default=config)
  spec = parser.parse_args().config
  heap.keep()
  found = measure(spec)
  print(json.dumps(found))
  print(table(found))


def describe() -> dict[str, Any]:
  """Returns what results hang on."""
  return {
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in ('jax', 'torch')},
  }


def _processor() -> str:
  for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
    if line.startswith('model name'):
      return line.split(':')[1].strip()
  return platform.processor()
