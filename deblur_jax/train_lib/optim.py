"""Optimisers from config.optim: AdamW or Muon on a cosine, clipped if asked."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict
from optax import contrib

from deblur_jax.types import Array, Family, InputError, Params

Transforms = dict[str, optax.GradientTransformationExtraArgs]
"""Optimisers by network."""


def make_schedule(optim: ConfigDict, steps: int) -> optax.Schedule:
  """Returns the learning rate by step: linear warm-up, then a cosine."""
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0 if optim.warmup_steps else optim.learning_rate,
    peak_value=optim.learning_rate,
    warmup_steps=optim.warmup_steps,
    decay_steps=max(steps, optim.warmup_steps + 1),
    end_value=optim.final_learning_rate,
  )


def make_txs(config: ConfigDict, family: Family) -> Transforms:
  """Returns one optimiser per network that the family trains.

  `config.NAME_optim` is the network's own; `config.optim` is for all others.
  """
  return {
    name: make_tx(config.get(f'{name}_optim', config.optim), config.steps)
    for name in family.losses
  }


def make_tx(
  optim: ConfigDict, steps: int
) -> optax.GradientTransformationExtraArgs:
  """Returns an optimiser, the gradient clipped to a global norm unless 0.

  Its update takes `step`, that of the training: a network may be updated more
  than once in a step, or not at all.

  Args:
    optim: its settings.
    steps: of the training.

  Raises:
    InputError: there is none of that name.
  """
  if optim.name not in OPTIMISERS:
    known = ', '.join(OPTIMISERS)
    raise InputError(f'config.optim.name={optim.name}: use one of {known}')
  clip = (
    optax.clip_by_global_norm(optim.clip) if optim.clip else optax.identity()
  )
  tx = OPTIMISERS[optim.name](optim)
  return optax.chain(clip, tx, by_step(make_schedule(optim, steps)))


def by_step(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
  """Multiplies updates by a schedule's value at the `step` given to them."""

  def update(updates, state, params=None, *, step, **_):
    del params
    rate = schedule(step)
    return jax.tree.map(lambda leaf: rate * leaf, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def adamw(optim: ConfigDict) -> optax.GradientTransformation:
  """Loshchilov and Hutter 2019, at a learning rate of 1."""
  return optax.adamw(
    1.0, b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay
  )


def muon(optim: ConfigDict) -> optax.GradientTransformation:
  """Jordan 2024 for kernels, NAdam without weight decay for all else, at 1.

  Steps are scaled as in Liu et al. 2025, so that learning rates of AdamW
  serve. Four turns of Newton-Schulz, the first one scaled as in Boissin et
  al. 2025, do for the five of the original.
  """
  return contrib.muon(
    1.0,
    ns_steps=4,
    preconditioning='aol',
    weight_decay=optim.weight_decay,
    adam_b1=optim.b1,
    adam_b2=optim.b2,
    consistent_rms=0.2,
    muon_weight_dimension_numbers=matrices,
  )


def matrices(params: Params) -> Any:
  """Returns which axes of each parameter are those of a matrix; None: none.

  A kernel maps all inputs of its window to its outputs; axes before these,
  of blocks in a loop, count them. A depthwise kernel mixes nothing.
  """

  def axes(
    path: tuple[Any, ...], leaf: Array
  ) -> contrib.MuonDimensionNumbers | None:
    if path[-1].key != 'kernel' or leaf.shape[-2] == 1:
      return None
    window = 3 if leaf.ndim > 3 else 1  # a convolution's, or of a dense layer
    return contrib.MuonDimensionNumbers(tuple(range(-1 - window, -1)), -1)

  return jax.tree_util.tree_map_with_path(axes, params)


OPTIMISERS = {'adamw': adamw, 'muon': muon}
