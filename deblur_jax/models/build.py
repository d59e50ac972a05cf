"""From names and fields to networks: deblur_jax/models/NAME.py's `Model`."""

import importlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from deblur_jax.types import InputError

DTYPES = 'float32', 'bfloat16'
"""Of the computation; parameters stay float32.

float16 holds no gradient of a mean over a batch of pictures: it comes to zero.
"""


def build(
  model: Mapping[str, Any],
  dtype: str,
  remat: bool = False,
  key: str = 'model',
) -> nn.Module:
  """Builds the network of models/NAME.py for NAME=model['name'].

  Args:
    model: `name`, and under each network's name its plain fields.
    dtype: of the computation.
    remat: whether the gradient computes its blocks anew, to save memory.
    key: of the config that `model` stands under.

  Raises:
    InputError: there is no such network or dtype, or the network has no blocks
      to compute anew.
  """
  name = model['name']
  path = f'deblur_jax.models.{name}'
  try:
    network = getattr(importlib.import_module(path), 'Model', None)
  except ModuleNotFoundError as error:
    if error.name != path:
      raise
    network = None
  if network is None:
    raise InputError(f'config.{key}.name={name}: no such file in models/')
  if dtype not in DTYPES:
    raise InputError(f'config.dtype={dtype}: use one of {", ".join(DTYPES)}')
  net = network(**model.get(name, {}), dtype=jnp.dtype(dtype))
  if not remat:
    return net
  if not _has_field(net, 'remat'):
    raise InputError(f'config.remat: {name} has no blocks to compute anew')
  return net.clone(remat=True)


def for_whole_pictures(net: nn.Module, crop: int) -> nn.Module:
  """Returns the network as it restores pictures larger than its crops.

  Global pools become local ones of 1.5 training crops (TLC, Chu et al. 2022),
  so that a pixel's surroundings look as they did in training.
  """
  return net.clone(pool=window(crop)) if _has_field(net, 'pool') else net


def window(crop: int) -> int:
  """Returns the side of the local pools of a network trained on crops."""
  return crop * 3 // 2


def _has_field(net: nn.Module, name: str) -> bool:
  return name in type(net).__dataclass_fields__
