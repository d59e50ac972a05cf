"""What a training would need: compiled for virtual devices, never run."""

import collections
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from deblur_jax import ranges, train
from deblur_jax.families import make_family
from deblur_jax.models import cpu
from deblur_jax.ops import cost
from deblur_jax.train_lib import collectives, parallel, state
from deblur_jax.types import Batch, InputError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Of one train step.

  Attributes:
    devices: along data and fsdp.
    batch_size: over all devices.
    parameters: of each network.
    state_bytes: on one device: of params, opt and ema.
    temporary_bytes: on one device, as XLA's CPU compiler lays them out.
    flops: of matrix products and convolutions, over all devices.
    collectives: of the compiled step.
  """

  devices: tuple[int, int]
  batch_size: int
  parameters: dict[str, int]
  state_bytes: dict[str, int]
  temporary_bytes: int
  flops: int
  collectives: list[collectives.Collective]

  @property
  def bytes(self) -> int:
    """On one device."""
    return sum(self.state_bytes.values()) + self.temporary_bytes


def use_virtual_devices(count: int) -> None:
  """Makes JAX see so many CPU devices, where count is not 0.

  To be called before it sees any.
  """
  if not count:
    return
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', count)


def estimate(config: ConfigDict) -> Estimate:
  """Compiles the step of a config for all devices; needs no data.

  The forms are those for accelerators; the compiler is that for CPUs.

  Raises:
    InputError: the config, or how it is to be spread, makes no sense.
  """
  ranges.check(config)
  mesh = parallel.make_mesh(config.mesh)
  parallel.check_batch_size(config.data.batch_size, mesh, config.accumulate)
  if parallel.is_mapped(config.parallel, mesh):
    raise InputError('--dry_run knows config.parallel=jit only')
  family = make_family(config)
  like = parallel.abstract(state.make_init(config, family), mesh)
  raw = raw_batch(config)
  step = train.make_uncompiled_step(config, family, mesh)
  with cpu.plain():
    traced = parallel.compile_step(step, like, mesh).trace(like, raw)
    lowered = traced.lower()
  # Of the code nothing is used: LLVM need not make it fast.
  compiled = lowered.compile({'xla_backend_optimization_level': 0})
  parts = {name: getattr(like, name) for name in ('params', 'opt', 'ema')}
  return Estimate(
    devices=tuple(mesh.devices.shape),
    batch_size=config.data.batch_size,
    parameters={name: state.count(tree) for name, tree in like.params.items()},
    state_bytes={name: bytes_of(tree) for name, tree in parts.items()},
    temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    flops=2 * cost.macs_of(traced.jaxpr.jaxpr),
    collectives=collectives.collectives(compiled.as_text()),
  )


def raw_batch(config: ConfigDict) -> Batch:
  """Returns the shapes of a training batch."""
  kind = config.data.pairs
  rows = config.data.batch_size
  side = config.data.crop + 2 * train.margin(config, kind == 'real')
  sides = ('sharp',) if kind == 'synthetic' else ('blur', 'sharp')
  flags = ('mask', 'real') if kind == 'mixed' else ('mask',)
  shape = rows, side, side, 3
  return {
    **{name: jax.ShapeDtypeStruct(shape, jnp.uint8) for name in sides},
    'id': jax.ShapeDtypeStruct((rows,), jnp.int32),
    **{name: jax.ShapeDtypeStruct((rows,), jnp.bool_) for name in flags},
  }


def bytes_of(tree: Any) -> int:
  """Returns what an abstract tree takes on one device."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def describe(name: str, found: Estimate) -> str:
  """Returns an estimate as lines of text."""
  data, fsdp = found.devices
  held = ', '.join(
    f'{part} {_gib(size)}' for part, size in found.state_bytes.items()
  )
  networks = ', '.join(
    f'{net} {count / 1e6:.2f} M' for net, count in found.parameters.items()
  )
  counts = collections.Counter(one.kind for one in found.collectives)
  moved = collectives.total_bytes(found.collectives)
  sent = [
    f'{count} {kind} of {_gib(moved[kind])}' for kind, count in counts.items()
  ]
  flops = 'unknown: a loop ends when it runs'
  if found.flops:
    one, whole = found.flops / data / fsdp, found.flops
    flops = f'{whole / 1e9:.1f}, {one / 1e9:.1f} on a device'
  return '\n'.join(
    [
      f'{name}: compiled, not run',
      f'devices        {data * fsdp}: {data} data x {fsdp} fsdp',
      f'global batch   {found.batch_size}',
      f'parameters     {networks}',
      f'on a device    {_gib(found.bytes)}: {held}, temporary '
      f"{_gib(found.temporary_bytes)} (the CPU compiler's estimate)",
      f'GFLOPs a step  {flops}',
      f'collectives    {", ".join(sent) or "none"}',
    ]
  )


def _gib(size: int) -> str:
  return f'{size / GIB:.3f} GiB'
