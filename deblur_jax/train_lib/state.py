"""The training state: arrays only, so that it shards, saves and compares."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from deblur_jax.train_lib import optim
from deblur_jax.types import Array, Batch, Family, Key, Params

INIT_SLOT = 0x7FFFFFFF
"""Folded into the seed's key for initialisation: no step is that late."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """All that a checkpoint holds.

  Attributes:
    step: i32[], batches consumed, skipped ones included.
    params: parameter trees by network.
    opt: optimiser states by network.
    ema: averaged parameter trees of the networks named in `Family.ema`.
    skipped: i32[2], steps skipped in a row and in all.
  """

  step: Array
  params: Params
  opt: dict[str, Any]
  ema: Params
  skipped: Array


def make_init(config: ConfigDict, family: Family) -> Callable[[], State]:
  """Returns init() -> the state at step 0; pure."""
  txs = optim.make_txs(config, family)

  def init() -> State:
    key = jax.random.fold_in(jax.random.key(config.seed), INIT_SLOT)
    picture = jnp.zeros((1, config.data.crop, config.data.crop, 3))
    return init_state(family, txs, key, {'blur': picture, 'sharp': picture})

  return init


def init_state(
  family: Family, txs: optim.Transforms, key: Key, batch: Batch
) -> State:
  """Builds the state at step 0; EMA starts as a copy of the parameters."""
  params = family.init(key, batch)
  return State(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt={name: txs[name].init(params[name]) for name in params},
    # A copy: donating an alias would donate one buffer twice.
    ema={name: jax.tree.map(jnp.copy, params[name]) for name in family.ema},
    skipped=jnp.zeros((2,), jnp.int32),
  )


def weights(state: State) -> Params:
  """Returns the parameters to restore with: EMA where there is one."""
  return {**state.params, **state.ema}


def networks(params: Params) -> dict[tuple[str, ...], Params]:
  """Takes parameters apart, into the flat ones of each network by its place.

  A network is what lies below a name 'params', as Flax has it.
  """
  found = {}
  for path, leaf in flax.traverse_util.flatten_dict(params).items():
    at = path.index('params')
    found.setdefault(path[:at], {})[path[at:]] = leaf
  return found


def from_networks(found: dict[tuple[str, ...], Params]) -> Params:
  """Puts together what `networks` took apart."""
  return flax.traverse_util.unflatten_dict(
    {
      (*place, *path): leaf
      for place, network in found.items()
      for path, leaf in network.items()
    }
  )


def count(params: Params) -> int:
  """Returns the number of parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
