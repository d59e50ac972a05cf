"""Model families: each file makes a Family from a config."""

import importlib

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
    raise InputError(f'config.family={config.family}: no such family') from None
  return module.make(config)
