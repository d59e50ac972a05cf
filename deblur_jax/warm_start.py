"""Starts a training from the weights of another model: `--init_from`."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from deblur_jax import config as config_lib
from deblur_jax import trained
from deblur_jax.train_lib import parallel, processes, state
from deblur_jax.train_lib.checkpoint import has_checkpoints
from deblur_jax.types import InputError, Params


def load(
  config: ConfigDict, workdir: pathlib.Path, given: str
) -> trained.Model | None:
  """Returns the model whose weights a new run starts from, if any.

  Raises:
    InputError: none is given, and the predictor would stay untrained for ever;
      or one is given too late.
  """
  begun = has_checkpoints(workdir)
  late = given and begun and not config_lib.load_record(workdir).get('history')
  # Others' view of a shared folder may be older.
  if processes.agree(bool(late)):
    raise InputError(
      f'--init_from={given}: the training in {workdir} began without it; '
      'choose another --workdir, or delete this one'
    )
  if processes.agree(begun):
    return None
  if given:
    return trained.load(pathlib.Path(given))
  refines = config.family == 'diffusion' and config.process.name == 'refine'
  if refines and not config.process.joint:
    raise InputError(
      'config.process.joint=False leaves the predictor as it is: give a '
      'trained CNN with --init_from=DIR'
    )
  return None


def adopt(new: state.State, model: trained.Model) -> state.State:
  """Returns `new` with the weights of another model, for fine-tuning.

  A network takes those of the same name, or else of the same shapes: a CNN
  becomes the predictor of a diffusion model, or the generator of a GAN. One
  that has no like takes what it has in common with another, as `lend` says.

  Raises:
    InputError: a network that restores pictures there is not kept as a whole.
  """
  given = state.networks(model.params)
  kept = trained.restoring(model.family, model.params)
  needed = set(state.networks(kept))
  merged = {}
  for name, network in state.networks(new.params).items():
    alike = [other for other in given if is_like(given[other], network)]
    fitting = alike or [o for o in given if can_lend(given[o], network)]
    if not fitting:
      merged[name] = network
      continue
    source = name if name in fitting else fitting[0]
    if alike:
      merged[name] = given[source]
    else:
      merged[name] = lend(*processes.to_host((given[source], network)))
    if has_grown(given[source], network):
      needed.discard(source)
  if needed:
    raise InputError(
      f'--init_from={model.workdir}: its networks are not those of this config'
    )
  params = parallel.place(
    state.from_networks(merged), parallel.shardings(new.params)
  )
  ema = {name: jax.tree.map(jnp.copy, params[name]) for name in new.ema}
  return dataclasses.replace(new, params=params, ema=ema)


def can_lend(old: Params, new: Params) -> bool:
  """Whether flat networks have arrays in common, alike but for the first axis.

  That is the one of a stack's blocks.
  """
  common = old.keys() & new.keys()
  return bool(common) and all(
    old[key].shape[1:] == new[key].shape[1:] for key in common
  )


def lend(old: Params, new: Params) -> Params:
  """Returns `new` with the arrays that `old` has as well, by their paths.

  A stack of blocks may be shorter than the old one, and takes its first ones,
  or longer, and keeps its own last ones.

  Args:
    old: a flat network of numpy arrays.
    new: another, to which it `can_lend`.
  """
  lent = {
    key: np.concatenate([old[key][: len(new[key])], new[key][len(old[key]) :]])
    for key in old.keys() & new.keys()
  }
  return {**new, **lent}


def has_grown(old: Params, new: Params) -> bool:
  """Whether `new`, lent from `old`, is that with as many blocks or more.

  One that has other arrays besides does something else: a denoiser may hold all
  of a CNN, and does not restore as it did.
  """
  return old.keys() == new.keys() and all(
    len(old[key]) <= len(new[key]) for key in old
  )


def is_like(one: Params, other: Params) -> bool:
  """Whether two networks have the same arrays, in name and shape."""
  return jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, other)
