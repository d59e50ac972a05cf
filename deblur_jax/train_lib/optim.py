"""Optimisers from config.optim: AdamW on a cosine, clipped if asked."""

import optax
from ml_collections import ConfigDict

from deblur_jax.types import Family

Transforms = dict[str, optax.GradientTransformation]
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


def make_tx(optim: ConfigDict, steps: int) -> optax.GradientTransformation:
  """Returns AdamW, its gradient clipped to a global norm unless that is 0."""
  adamw = optax.adamw(
    make_schedule(optim, steps),
    b1=optim.b1,
    b2=optim.b2,
    weight_decay=optim.weight_decay,
  )
  if not optim.clip:
    return adamw
  return optax.chain(optax.clip_by_global_norm(optim.clip), adamw)
