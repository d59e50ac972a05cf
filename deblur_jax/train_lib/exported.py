"""Models as two small files: config.json, and arrays of 16 bits.

That is what models in the box are, and what one gives to others. Nothing in
them is code, and a model whose bytes are not the ones that were written is
refused.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy

from deblur_jax import config as config_lib
from deblur_jax import files
from deblur_jax.train_lib import processes
from deblur_jax.types import InputError, Params

FILE = 'model.safetensors'
SEPARATOR = '/'


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where weights come from.

  Attributes:
    step: of the checkpoint.
    minutes: that training took up to there.
    sha256: of the file of weights.
  """

  step: int
  minutes: float
  sha256: str


def is_exported(folder: pathlib.Path) -> bool:
  """Returns whether a folder holds a model of this form."""
  return (folder / FILE).is_file()


def write(
  folder: pathlib.Path, record: dict[str, Any], params: Params, origin: Origin
) -> None:
  """Writes both files; the hash of the weights is put in.

  Args:
    folder: that takes them.
    record: what the config.json of the workdir holds.
    params: that restore pictures.
    origin: of these; its hash is not looked at.

  Raises:
    InputError: a file cannot be written, or 16 bits cannot hold the weights.
  """
  flat = {
    name: leaf.astype(np.float16)
    for name, leaf in flatten(processes.to_host(params)).items()
  }
  broken = [name for name, leaf in flat.items() if not np.isfinite(leaf).all()]
  if broken:
    raise InputError(f'{folder}: {broken[0]} is too large for 16 bits')
  data = safetensors.numpy.save(flat)
  with files.whole(folder / FILE) as path:
    path.write_bytes(data)
  signed = dataclasses.replace(origin, sha256=hashlib.sha256(data).hexdigest())
  text = json.dumps({**record, 'origin': vars(signed)}, indent=2)
  files.write_text(folder / config_lib.FILE, text + '\n')


def read(folder: pathlib.Path, like: Params) -> tuple[Params, Origin]:
  """Reads what `write` wrote, as arrays of 32 bits.

  Args:
    folder: that holds the files.
    like: abstract parameters of the network that the config asks for.

  Raises:
    InputError: the file is damaged, or its weights are of another network.
  """
  path = folder / FILE
  origin = read_origin(folder)
  data = path.read_bytes()
  if hashlib.sha256(data).hexdigest() != origin.sha256:
    raise InputError(
      f'{path}: damaged (its SHA-256 is not that of config.json)'
    )
  try:
    flat = safetensors.numpy.load(data)
  except safetensors.SafetensorError as error:
    raise InputError(f'{path}: no weights ({error})') from None
  wanted = flatten(like)
  if shapes(flat) != shapes(wanted):
    raise InputError(f'{path}: holds another network than config.json asks for')
  params = {
    name: jax.device_put(flat[name].astype(np.float32), leaf.sharding)
    for name, leaf in wanted.items()
  }
  return flax.traverse_util.unflatten_dict(params, sep=SEPARATOR), origin


def read_origin(folder: pathlib.Path) -> Origin:
  """Reads where the weights of a folder come from.

  Raises:
    InputError: its config.json does not tell.
  """
  path = folder / config_lib.FILE
  try:
    return Origin(**json.loads(path.read_text())['origin'])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise InputError(
      f'{path}: does not tell of {FILE} ({type(error).__name__})'
    ) from None


def flatten(params: Params) -> dict[str, Any]:
  """Returns {'net/params/intro/kernel': array, ...}."""
  return flax.traverse_util.flatten_dict(params, sep=SEPARATOR)


def shapes(flat: dict[str, Any]) -> dict[str, tuple[int, ...]]:
  """Returns the shape of each array."""
  return {name: tuple(leaf.shape) for name, leaf in flat.items()}
