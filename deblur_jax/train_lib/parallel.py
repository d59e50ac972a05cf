"""Devices: one mesh, the batch split over it, the state whole or in shares."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from deblur_jax.devices import split_axes
from deblur_jax.train_lib.state import State
from deblur_jax.train_lib.step import Spread, TrainStep, unchanged
from deblur_jax.types import Batch, InputError, Metrics

DATA, FSDP = 'data', 'fsdp'
BATCH_AXES = DATA, FSDP
"""A batch is split over all devices, a state over those of `fsdp` alone."""


def make_mesh(sizes: ConfigDict | None = None) -> Mesh:
  """Returns a mesh over all devices of all processes.

  Devices are in the order of their processes, so that each process's rows are
  contiguous slots of the batch: the order of data is that of any other mesh.

  Args:
    sizes: `config.mesh`: devices along `data` and `fsdp`, -1 being the rest;
      None for all along `data`.

  Raises:
    InputError: the devices cannot be laid out so.
  """
  devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
  shape = (len(devices), 1)
  if sizes is not None:
    shape = mesh_shape((sizes.data, sizes.fsdp), len(devices))
  axis_types = (AxisType.Auto,) * len(BATCH_AXES)
  return Mesh(np.reshape(devices, shape), BATCH_AXES, axis_types=axis_types)


def mesh_shape(sizes: tuple[int, int], devices: int) -> tuple[int, int]:
  """Returns the sizes with -1 replaced, so that they multiply to `devices`.

  Raises:
    InputError: they cannot.
  """
  data, fsdp = sizes
  if data == -1 and fsdp > 0:
    data = devices // fsdp
  elif fsdp == -1 and data > 0:
    fsdp = devices // data
  if data < 1 or fsdp < 1 or data * fsdp != devices:
    raise InputError(
      f'config.mesh=(data {sizes[0]}, fsdp {sizes[1]}) does not fit {devices} '
      'devices: both multiply to that, and one of them may be -1, the rest'
    )
  return data, fsdp


def whole(mesh: Mesh) -> NamedSharding:
  """The sharding of what every device holds all of."""
  return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: examples split over the devices."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def in_shares(mesh: Mesh, leaf: Any) -> NamedSharding:
  """The sharding of a part of the state.

  Its longest axis that `fsdp` divides is split; it stays whole without one.
  """
  size = mesh.shape[FSDP]
  axes = [i for i, n in enumerate(leaf.shape) if n and n % size == 0]
  if size == 1 or not axes:
    return whole(mesh)
  longest = max(axes, key=lambda i: leaf.shape[i])
  return NamedSharding(mesh, PartitionSpec(*[None] * longest, FSDP))


def abstract(init: Callable[[], State], mesh: Mesh) -> State:
  """Returns the shapes that `init` would make, with their shardings."""

  def shape(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = in_shares(mesh, leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(shape, jax.eval_shape(init))


def shardings(like: Any) -> Any:
  """Returns the shardings of a tree of arrays, abstract or not."""
  return jax.tree.map(lambda leaf: leaf.sharding, like)


def place(tree: Any, places: Any) -> Any:
  """Moves a tree of global arrays to other shardings, of the same devices."""
  return jax.jit(unchanged, out_shardings=places)(tree)


def gathered(mesh: Mesh) -> Callable[[Any], Any]:
  """Returns what has every device hold all of a tree, inside jit."""

  def constrain(tree: Any) -> Any:
    return jax.lax.with_sharding_constraint(tree, whole(mesh))

  return constrain


def spread(mesh: Mesh) -> Spread:
  """Returns how the state is spread: parameters are gathered for use.

  The compiler, left alone, would rather move activations.
  """
  if mesh.shape[FSDP] == 1:
    return Spread()

  def scatter(tree: Any) -> Any:
    return jax.tree.map(
      lambda leaf: jax.lax.with_sharding_constraint(
        leaf, in_shares(mesh, leaf)
      ),
      tree,
    )

  return Spread(gather=gathered(mesh), scatter=scatter)


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


def prefetch(
  batches: Iterator[dict[str, np.ndarray]], mesh: Mesh
) -> Iterator[tuple[dict[str, np.ndarray], Batch]]:
  """Yields each batch of an endless stream, as it is and on the devices.

  The one after it is sent before: while the devices are still busy.
  """
  placed = ((batch, put_batch(batch, mesh)) for batch in batches)
  for pair, _ in itertools.pairwise(placed):
    yield pair


def put_whole_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
  """Splits a batch that all processes have in whole over all devices."""
  sharding = over_batch(mesh)
  return {
    key: jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
    for key, rows in batch.items()
  }


def per_shard(function: Callable, mesh: Mesh) -> Callable:
  """Runs a function of per-example arrays on each device's own rows.

  Plain jit would gather the whole batch on every device for an FFT.
  """
  spec = PartitionSpec(BATCH_AXES)
  split = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)

  def run(*args: Any) -> Any:
    return function(*args) if split_axes() else split(*args)

  return run


def compile_init(init: Callable[[], State], like: State) -> Callable[[], State]:
  """Returns init compiled so that the state is born where it belongs."""
  # It runs once: on a CPU, LLVM would spend 12 of 20 seconds on making it fast.
  return jax.jit(
    init, out_shardings=shardings(like), compiler_options=_cpu_options(0)
  )


def data_parallel(step: TrainStep, mesh: Mesh) -> TrainStep:
  """Has each device take the step on its own rows, with means between them.

  Each network's gradient is then reduced once, when all of it is there. The
  compiler, left alone, reduces that of blocks in a loop turn by turn, as would
  shard_map with `check_vma`.
  """
  return jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(BATCH_AXES)),
    out_specs=PartitionSpec(),
    check_vma=False,
  )


def compile_step(step: TrainStep, like: State, mesh: Mesh) -> TrainStep:
  """Returns the step compiled for the mesh; the old state is given up."""
  places = shardings(like)
  is_whole = mesh.shape[FSDP] == 1
  return jax.jit(
    data_parallel(step, mesh) if is_whole and mesh.size > 1 else step,
    in_shardings=(places, over_batch(mesh)),
    out_shardings=(places, whole(mesh)),
    donate_argnums=0,
    # Compiled a fifth sooner than with LLVM's full effort, and no slower.
    compiler_options=_cpu_options(1),
  )


def _cpu_options(level: int) -> dict[str, int] | None:
  """Returns compiler options for a CPU: how hard LLVM tries, and for what."""
  if jax.default_backend() != 'cpu':
    return None
  at_most = 0 if jax.config.read('jax_disable_most_optimizations') else 1
  return {
    'xla_backend_optimization_level': min(level, at_most),
    'xla_cpu_prefer_vector_width': 512,  # bits, where the CPU has them
  }


def is_mapped(name: str, mesh: Mesh) -> bool:
  """Returns whether config.parallel asks for `pmap_step`.

  Raises:
    InputError: neither that nor jit, or pmap cannot do what is asked.
  """
  if name not in ('jit', 'pmap'):
    raise InputError(f'config.parallel={name}: choose jit or pmap')
  if name == 'pmap' and (jax.process_count() > 1 or mesh.shape[FSDP] > 1):
    raise InputError(
      'config.parallel=pmap is for one process and whole states: choose jit'
    )
  return name == 'pmap'


def pmap_step(step: TrainStep, mesh: Mesh) -> TrainStep:
  """Returns the step, made for DATA as a mapped axis, by `jax.pmap`.

  The same numbers as `compile_step`, slower: the state is handed out anew each
  time. For one process.
  """
  devices = list(mesh.devices.flat)
  mapped = jax.pmap(
    step, DATA, in_axes=(None, 0), out_axes=None, devices=devices
  )

  def run(state: State, batch: Batch) -> tuple[State, Metrics]:
    shares = jax.tree.map(
      lambda rows: rows.reshape(len(devices), -1, *rows.shape[1:]), batch
    )
    return mapped(state, shares)

  return run
