"""Several processes that train one model: joining, leading, agreeing."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from deblur_jax.types import InputError, Metrics

T = TypeVar('T')

HEARTBEAT_SECONDS = 30
"""After so long without a sign of life, a process is lost, and all end."""

COUNTS = 'JAX_NUM_PROCESSES', 'SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE'
HOSTS = 'TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES'


def join(asked: bool, environment: Mapping[str, str] = os.environ) -> None:
  """Joins the other processes of this run, where there are some.

  Args:
    asked: whether the user says so. Otherwise the environment must, as that of
      launch/local.sh, a SLURM step, Open MPI or a Cloud TPU slice does.
    environment: of this process.

  Raises:
    InputError: others are expected, but nothing says how to reach them.
  """
  if not asked and not expects_others(environment):
    return
  # Ours; what is left None is found out by JAX.
  numbers = {
    name: int(environment[f'JAX_{name.upper()}'])
    for name in ('num_processes', 'process_id')
    if f'JAX_{name.upper()}' in environment
  }
  try:
    jax.distributed.initialize(
      **numbers,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=HEARTBEAT_SECONDS,
    )
  except (ValueError, RuntimeError) as error:
    reason = str(error).strip().splitlines()[0]
    raise InputError(
      f'--distributed: cannot join the other processes ({reason}); start them '
      'with srun, mpirun, launch/local.sh, or set JAX_COORDINATOR_ADDRESS, '
      'JAX_NUM_PROCESSES and JAX_PROCESS_ID'
    ) from None
  if jax.process_count() > 1:
    # The first process alone would find programs of an earlier run there. On
    # GPUs it then tells the others nothing of how it tuned them, and they wait.
    jax.config.update('jax_enable_compilation_cache', False)
  # On CPUs, gloo waits half a minute for a first meeting, and for ever later:
  # meet now, before one process compiles or reads longer than another.
  wait_for_all()
  agree(0.0)


def expects_others(environment: Mapping[str, str]) -> bool:
  """Returns whether the environment is that of one process of several."""
  counts = [environment.get(name, '') for name in COUNTS]
  return any(n.isdecimal() and int(n) > 1 for n in counts) or any(
    ',' in environment.get(name, '') for name in HOSTS
  )


def is_first() -> bool:
  """Returns whether this process is the one that writes and prints."""
  return jax.process_index() == 0


def first_alone(work: Callable[[], T], name: str) -> T:
  """Has the first process do what the others, after it, find done.

  Raises:
    InputError: in the others, when the first one failed.
  """
  if jax.process_count() == 1:
    return work()
  done, failure = None, None
  if is_first():
    try:
      done = work()
    except Exception as error:  # the others must not wait for ever
      failure = error
  failed = agree(failure is not None)
  if failure is not None:
    raise failure
  if failed:
    raise InputError(f'{name}: failed in process 0; see its message')
  return done if is_first() else work()


def wait_for_all() -> None:
  """Returns once all processes are here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('wait_for_all')


def agree(value: float) -> float:
  """Returns the first process's value, in all of them; an int stays one."""
  if jax.process_count() == 1:
    return value
  kind = np.int32 if isinstance(value, int) else np.float32
  return multihost_utils.broadcast_one_to_all(kind(value)).tolist()


def to_host(tree: Any) -> Any:
  """Returns all of a tree's arrays as numpy, in every process.

  It waits for the devices, as nothing else in training does but for the step
  before the last.
  """

  def gather(array: Any) -> Any:
    if isinstance(array, jax.Array) and not (
      array.is_fully_addressable or array.is_fully_replicated
    ):
      return multihost_utils.process_allgather(array, tiled=True)
    return array

  return jax.device_get(jax.tree.map(gather, tree))


def scalars(metrics: Metrics) -> dict[str, float]:
  """Returns scalars as plain numbers; see `to_host`."""
  return {name: value.tolist() for name, value in to_host(metrics).items()}
