"""Losses of two networks against each other, on verdicts of real and made.

Verdicts are f32[...] of one scale; losses and accuracies are f32[].
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax.devices import mean_over_devices
from deblur_jax.types import Array

Loss = Callable[[Array, Array], Array]
"""(verdicts on real pictures, verdicts on made ones) -> f32[]."""


Sides = tuple[list[Array], list[Array]]
"""Verdicts on real pictures and on made ones, by scale."""


def as_given(real: list[Array], made: list[Array]) -> Sides:
  """Returns the verdicts as they are."""
  return real, made


def relative(real: list[Array], made: list[Array]) -> Sides:
  """Returns how far each verdict lies above the mean on the other side.

  Means are over the batch, or the part of it that goes through at once, on all
  devices, each scale by itself.
  """
  # All at once: else the gradient of one scale waits for the mean of another,
  # and is sent by itself.
  means = mean_over_devices(jnp.stack([v.mean() for v in (*made, *real)]))
  above = [v - mean for v, mean in zip((*real, *made), means, strict=True)]
  return above[: len(real)], above[len(real) :]


class Game(NamedTuple):
  """What each side tries to make small, and how often the judge is right.

  All three are given verdicts of one scale, as `seen` returns them.
  """

  discriminator: Loss
  generator: Loss
  accuracy: Loss
  seen: Callable[[list[Array], list[Array]], Sides] = as_given


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
  LSGAN.discriminator,
  lambda real, made: LSGAN.discriminator(made, real),
  right,
  relative,
)
"""Relativistic average least squares: Jolicoeur-Martineau 2018, as used by
Kupyn et al. 2019."""

GAMES: Mapping[str, Game] = {
  'hinge': HINGE,
  'lsgan': LSGAN,
  'ragan_ls': RAGAN_LS,
}
