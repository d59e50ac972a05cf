"""Losses of two networks against each other, on verdicts of real and made.

Verdicts are f32[...] of one size of patch; losses and accuracies are f32[].
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax.ops.devices import batch_mean
from deblur_jax.types import Array

Loss = Callable[[Array, Array], Array]
"""(verdicts on real pictures, verdicts on made ones) -> f32[]."""


class Game(NamedTuple):
  """What each side tries to make small, and how often the judge is right."""

  discriminator: Loss
  generator: Loss
  accuracy: Loss


def square(x: Array) -> Array:
  """Mean square."""
  return jnp.mean(x**2)


def right(real: Array, made: Array) -> Array:
  """Share of right verdicts, half of them on either side; 0 is undecided."""
  return (jnp.mean(real > 0) + jnp.mean(made < 0)) / 2


HINGE = Game(
  lambda real, made: jnp.mean(jax.nn.relu(1 - real) + jax.nn.relu(1 + made)),
  lambda real, made: -jnp.mean(made),
  right,
)
"""Lim & Ye 2017, 'Geometric GAN'."""

LSGAN = Game(
  lambda real, made: (square(real - 1) + square(made + 1)) / 2,
  lambda real, made: square(made - 1) / 2,
  right,
)
"""Mao et al. 2017, eq. 2 with labels -1 and 1."""

RAGAN_LS = Game(
  lambda real, made: (
    (square(real - batch_mean(made) - 1) + square(made - batch_mean(real) + 1))
    / 2
  ),
  lambda real, made: (
    (square(made - batch_mean(real) - 1) + square(real - batch_mean(made) + 1))
    / 2
  ),
  lambda real, made: right(real - batch_mean(made), made - batch_mean(real)),
)
"""Relativistic average least squares: Jolicoeur-Martineau 2018, as used by
Kupyn et al. 2019. Means are over the whole batch."""

GAMES: Mapping[str, Game] = {
  'hinge': HINGE,
  'lsgan': LSGAN,
  'ragan_ls': RAGAN_LS,
}
