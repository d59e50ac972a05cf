"""PRNG keys: one for each example, so that none hangs on its batch-mates."""

import jax
import jax.numpy as jnp

from deblur_jax.types import Array, Key


def of_slots(seed: int, step: Array, count: int, first: Array | int = 0) -> Key:
  """Returns key[count]: one per slot of the global batch, from slot `first`."""
  key = jax.random.fold_in(jax.random.key(seed), step)
  slots = first + jnp.arange(count)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, slots)


def of_ids(seed: int, ids: Array) -> Key:
  """Returns key[B] of evaluation: an example's randomness hangs on its id."""
  return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), ids)


def fold_all(keys: Key, number: Array | int) -> Key:
  """Returns key[B]: each key folded with the same number."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
