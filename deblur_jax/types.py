"""The types shared by every room of the house."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

Array = jax.Array
Key = jax.Array
"""A typed PRNG key, or key[B]: one key per example."""

Params = dict[str, Any]
"""Parameter trees by network: {'net': tree} or {'generator': tree, ...}."""

Batch = dict[str, jax.Array]
"""blur, sharp f32[B,H,W,3] in [0,1]; id i32[B]; mask bool[B]."""

Metrics = dict[str, jax.Array]
"""Scalars f32[] by name."""

LossFn = Callable[[Params, Batch, Key, Array], tuple[Array, Metrics]]
"""(params, batch, key[B], step i32[]) -> (mean loss over examples, metrics).

A device sees its own examples; what is returned is averaged over all of them.
Anything but a mean needs `devices.mean_over_devices` on the way.
"""


@dataclasses.dataclass(frozen=True)
class Family:
  """A model family as pure functions; all that the train step knows of it.

  Attributes:
    init: (key, batch) -> params, one tree per network.
    losses: the loss that trains each network, keyed by the network's name.
    schedule: names of the networks in the order of their updates in one step.
    restore: (params, blur f32[B,H,W,3] in [0,1], key[B], origin i32[B,2]) ->
      restored f32[B,H,W,3]; `origin` is the top-left pixel (row, column) of
      each picture inside the whole image that it was cut from.
    ema: names of the networks whose parameters are averaged.
    helpers: names of the networks that `restore` does not use.
    draws: whether `restore` draws a sample, as `config.sampler` says.
  """

  init: Callable[[Key, Batch], Params]
  losses: Mapping[str, LossFn]
  schedule: tuple[str, ...]
  restore: Callable[[Params, Array, Key, Array], Array]
  ema: tuple[str, ...] = ()
  helpers: tuple[str, ...] = ()
  draws: bool = False


class CommandError(Exception):
  """Ends a command with `status` and its message, one line, on stderr."""

  status = 1


class InputError(CommandError):
  """What the user gave cannot be used.

  The message says what is wrong, where, and the way out.
  """

  status = 2


class PreemptedError(CommandError):
  """The machine is taken away; the same command goes on elsewhere."""

  status = 75


class NonFiniteError(CommandError):
  """Training came to NaN or infinity and cannot go on."""

  status = 3
