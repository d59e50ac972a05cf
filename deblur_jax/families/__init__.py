"""Model families: each file makes a Family from a config."""

import functools
import importlib
from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from deblur_jax.types import Family, InputError


def make_family(config: ConfigDict) -> Family:
  """Makes the Family of deblur_jax/families/NAME.py for NAME=config.family.

  Raises:
    InputError: there is no such family, network or loss.
  """
  name = f'deblur_jax.families.{config.family}'
  try:
    module = importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name != name:
      raise
    raise InputError(
      f'config.family={config.family}: no such file in families/'
    ) from None
  return module.make(config)


def choose(key: str, config: ConfigDict, known: Mapping[str, Callable]):
  """Returns the entry of `known` that the config names under a dotted key.

  Raises:
    InputError: there is none.
  """
  name = functools.reduce(
    lambda group, part: group[part], key.split('.'), config
  )
  if name not in known:
    raise InputError(f'config.{key}={name}: choose one of {", ".join(known)}')
  return known[name]
