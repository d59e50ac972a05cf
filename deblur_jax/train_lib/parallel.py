"""Devices: one mesh, the batch split over it, the state on all of it."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from deblur_jax.train_lib.state import State
from deblur_jax.train_lib.step import TrainStep
from deblur_jax.types import Batch, InputError, Metrics

BATCH_AXIS = 'data'


def make_mesh() -> Mesh:
  """Returns a one-axis mesh over all devices of all processes."""
  devices = jax.device_count()
  return jax.make_mesh((devices,), (BATCH_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of the state: everything on every device."""
  return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: examples split over the devices."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def check_batch_size(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
  """Raises InputError unless all parts and devices get equal shares."""
  if accumulate < 1:
    raise InputError(f'config.accumulate={accumulate}: use 1 or more')
  if batch_size < 1 or batch_size % (mesh.size * accumulate):
    raise InputError(
      f'config.data.batch_size={batch_size} cannot be shared by {mesh.size} '
      f'devices with config.accumulate={accumulate}: use a multiple of '
      f'{mesh.size * accumulate}'
    )


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
  """Moves this process's rows to its devices, as part of the global batch."""
  sharding = over_batch(mesh)
  return {
    key: jax.make_array_from_process_local_data(sharding, rows)
    for key, rows in batch.items()
  }


def per_shard(function: Callable, mesh: Mesh) -> Callable:
  """Runs a function of per-example arrays on each device's own rows.

  Plain jit would gather the whole batch on every device for an FFT.
  """
  spec = PartitionSpec(BATCH_AXIS)
  return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)


def compile_init(init: Callable[[], State], mesh: Mesh) -> Callable[[], State]:
  """Returns init compiled so that the state is born on the mesh."""
  # It runs once: on a CPU, LLVM would spend 12 of 20 seconds on making it fast.
  quick = {'xla_backend_optimization_level': 0}
  return jax.jit(
    init,
    out_shardings=replicated(mesh),
    compiler_options=quick if jax.default_backend() == 'cpu' else None,
  )


def compile_step(step: TrainStep, mesh: Mesh) -> TrainStep:
  """Returns the step compiled for the mesh; the old state is given up."""
  whole = replicated(mesh)
  return jax.jit(
    step,
    in_shardings=(whole, over_batch(mesh)),
    out_shardings=(whole, whole),
    donate_argnums=0,
  )


def is_mapped(name: str) -> bool:
  """Returns whether config.parallel asks for `pmap_step`.

  Raises:
    InputError: neither that nor jit, or there are several processes.
  """
  if name not in ('jit', 'pmap'):
    raise InputError(f'config.parallel={name}: choose jit or pmap')
  if name == 'pmap' and jax.process_count() > 1:
    raise InputError('config.parallel=pmap is for one process: choose jit')
  return name == 'pmap'


def pmap_step(step: TrainStep, mesh: Mesh) -> TrainStep:
  """Returns the step, made for BATCH_AXIS, by the older `jax.pmap`.

  The same numbers as `compile_step`, slower: the state is handed out anew each
  time. For one process.
  """
  devices = list(mesh.devices.flat)
  mapped = jax.pmap(
    step, BATCH_AXIS, in_axes=(None, 0), out_axes=None, devices=devices
  )

  def run(state: State, batch: Batch) -> tuple[State, Metrics]:
    shares = jax.tree.map(
      lambda rows: rows.reshape(len(devices), -1, *rows.shape[1:]), batch
    )
    return mapped(state, shares)

  return run


def fetch(metrics: Metrics) -> dict[str, float]:
  """Reads scalars back to the host: waits for the device."""
  return {name: float(value) for name, value in jax.device_get(metrics).items()}


def abstract(init: Callable[[], State], mesh: Mesh) -> State:
  """Returns the shapes that `init` would make, with their shardings."""
  shapes = jax.eval_shape(init)
  sharding = replicated(mesh)
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
  )
