"""From names and fields to networks: deblur_jax/models/NAME.py's `Model`."""

import importlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from deblur_jax.types import InputError


def build(name: str, fields: Mapping[str, Any], dtype: str) -> nn.Module:
  """Builds the network of models/NAME.py with its plain fields.

  Raises:
    InputError: there is no such network.
  """
  try:
    module = importlib.import_module(f'deblur_jax.models.{name}')
    model = module.Model
  except (ModuleNotFoundError, AttributeError):
    raise InputError(f'config.model.name={name}: no such network') from None
  return model(**fields, dtype=jnp.dtype(dtype))


def for_whole_pictures(net: nn.Module, crop: int) -> nn.Module:
  """Returns the network as it restores pictures larger than its crops.

  Global pools become local ones of 1.5 training crops (TLC, Chu et al. 2022),
  so that a pixel's surroundings look as they did in training.
  """
  has_pool = 'pool' in type(net).__dataclass_fields__
  return net.clone(pool=crop * 3 // 2) if has_pool else net
