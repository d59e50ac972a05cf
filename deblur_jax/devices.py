"""Means of a batch that is split over devices, inside shard_map or pmap."""

from typing import Any

import jax


def split_axes() -> tuple[str, ...]:
  """Returns the mesh axes that split the examples; () where all are seen."""
  return jax.sharding.get_abstract_mesh().manual_axes


def mean_over_devices(tree: Any) -> Any:
  """Returns a tree's mean over the devices; as it is where all is seen."""
  axes = split_axes()
  return jax.lax.pmean(tree, axes) if axes else tree
