"""Diffusion as pure functions; knows no network.

A state is x = cos(a) x0 + sin(a) noise, with the angle a in [0, pi/2) growing
with the time t in [0,1]: alpha = cos(a) and sigma = sin(a) are then exact at
both ends, and alpha^2 + sigma^2 = 1 (variance preserving). Arrays of images are
f32[B,H,W,C]; angles of a batch are f32[B,1,1,1].

Every sampler here makes each state out of the one before, the current estimate
of x0, the estimate before that, and fresh noise, with numbers known beforehand.
So a sampler is a table of these numbers, `Steps`, and one loop runs them all.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax.types import Array, Key

SMALLEST_ALPHA = 0.01
"""alpha at t = 1: what little of the picture is left there."""

BLOCK = 64
"""Side, in pixels, of the squares that noise is drawn in."""


def cosine(time: Array) -> Array:
  """Angle that grows evenly (Nichol & Dhariwal 2021, eq. 17, without s)."""
  return time * jnp.arccos(SMALLEST_ALPHA)


def linear(time: Array) -> Array:
  """Angle of a linear beta from 0.1 to 20 (Ho et al. 2020, Song et al. 2021).

  alpha^2 = exp(-integral of beta); the values of DDPM's 1000 steps, as t -> 1.
  """
  spent = 0.1 * time + (20 - 0.1) * time**2 / 2
  return jnp.arctan2(jnp.sqrt(-jnp.expm1(-spent)), jnp.exp(-spent / 2))


SCHEDULES: Mapping[str, Callable[[Array], Array]] = {
  'cosine': cosine,
  'linear': linear,
}


def add_noise(clean: Array, noise: Array, angle: Array) -> Array:
  """Returns the state at an angle, x0 and noise given (Ho et al. 2020)."""
  return jnp.cos(angle) * clean + jnp.sin(angle) * noise


def eps_to_clean(output: Array, state: Array, angle: Array) -> Array:
  """Estimate of x0 from one of the noise (Ho et al. 2020)."""
  return (state - jnp.sin(angle) * output) / jnp.cos(angle)


def x0_to_clean(output: Array, state: Array, angle: Array) -> Array:
  """Estimate of x0 from itself."""
  del state, angle
  return output


def v_to_clean(output: Array, state: Array, angle: Array) -> Array:
  """Estimate of x0 from v = alpha eps - sigma x0 (Salimans & Ho 2022)."""
  return jnp.cos(angle) * state - jnp.sin(angle) * output


PREDICTIONS: Mapping[str, Callable[[Array, Array, Array], Array]] = {
  'eps': eps_to_clean,
  'x0': x0_to_clean,
  'v': v_to_clean,
}


LEAST_WEIGHT: Mapping[str, float] = {'eps': 0.0, 'x0': 1.0, 'v': 1.0}
"""By what the network predicts: the least weight of the error of x0.

Noise that is off by 1 makes an x0 that is off by 1 / sqrt(SNR): held up to 1,
the last few times, where next to nothing is left of x0, would be all the loss.
"""


def loss_weight(angle: Array, gamma: float, least: float) -> Array:
  """Weight of the squared error of x0: the SNR, held between least and gamma.

  From above it is min-SNR (Hang et al. 2023), from below, at 1, the truncated
  SNR of Salimans & Ho 2022: a single evaluation starts where the SNR is near 0,
  and would not be trained there. Whatever the network predicts, its loss is
  that of the x0 which it implies.
  """
  return jnp.clip(1 / jnp.tan(angle) ** 2, least, gamma)


class Steps(NamedTuple):
  """A sampler: one row for each evaluation, f32[N] each.

  Attributes:
    time: of the state that the estimate is made from.
    state: factor of that state in the next one.
    clean: factor of the estimate.
    previous: factor of the estimate before.
    noise: factor of fresh noise; None where there is none.
  """

  time: Array
  state: Array
  clean: Array
  previous: Array
  noise: Array | None = None


def ddim(
  schedule: Callable[[Array], Array],
  nfe: int,
  spacing: float = 1.0,
  eta: float = 0.0,
) -> Steps:
  """Deterministic, or with fresh noise (Song et al. 2021, 'DDIM', eq. 12, 16).

  Noise that is renewed covers up earlier estimates' mistakes, which otherwise
  grow; all of it, eta 1, is `ddpm`.
  """
  time, a, b = _angles(schedule, nfe, spacing)
  if not eta:
    return Steps(time, *_first_order(a, b), jnp.zeros(nfe))
  # sigma^2 of the state given the next one, written without cancellation.
  between = jnp.sin(a - b) * jnp.sin(a + b) / jnp.cos(b) ** 2
  spread = eta * jnp.sqrt(between) / jnp.sin(a) * jnp.sin(b)
  kept = jnp.sqrt(jnp.sin(b) ** 2 - spread**2) / jnp.sin(a)
  clean = jnp.cos(b) - kept * jnp.cos(a)
  return Steps(time, kept, clean, jnp.zeros(nfe), spread)


def ddpm(
  schedule: Callable[[Array], Array],
  nfe: int,
  spacing: float = 1.0,
  eta: float = 0.0,
) -> Steps:
  """Ancestral, with the posterior's variance (Ho et al. 2020, eq. 7)."""
  del eta
  return ddim(schedule, nfe, spacing, eta=1.0)


def dpm_solver(
  schedule: Callable[[Array], Array],
  nfe: int,
  spacing: float = 1.0,
  eta: float = 0.0,
) -> Steps:
  """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

  The first and the last evaluation are of first order: there is no estimate
  before the one, and the other's step in log-SNR has no end.
  """
  del eta
  time, a, b = _angles(schedule, nfe, spacing)
  kept, clean = _first_order(a, b)
  lengths = jnp.log(jnp.tan(a[:-1]) / jnp.tan(b[:-1]))
  extra = lengths[1:] / lengths[:-1] / 2
  extra = jnp.pad(extra, (1, 1))[:nfe]
  return Steps(time, kept, clean * (1 + extra), -clean * extra)


def indi(nfe: int) -> Steps:
  """Inversion by direct iteration (Delbracio & Milanfar 2023, eq. 8).

  For states (1 - t) sharp + t (blur + constant noise), none of it renewed.
  """
  time = jnp.linspace(1, 0, nfe + 1)
  clean = 1 - time[1:] / time[:-1]
  return Steps(time[:-1], 1 - clean, clean, jnp.zeros(nfe))


STARTS: Mapping[str, Callable[[Array], Array]] = {
  'noise': lambda noise: noise,
  'mean': jnp.zeros_like,
}
"""What the first evaluation sees of the noise that the process starts from.

At t = 1 next to nothing else is in the state. A network that finds a picture in
it nevertheless draws what is not there; from the mean it finds nothing.
"""


SAMPLERS: Mapping[str, Callable[..., Steps]] = {
  'ddpm': ddpm,
  'ddim': ddim,
  'dpm_solver': dpm_solver,
}


def _angles(
  schedule: Callable[[Array], Array], nfe: int, spacing: float
) -> tuple[Array, Array, Array]:
  """Returns times f32[N] and the angles before and after each step.

  Times are even ones to the power of `spacing`: 2 is the quadratic choice of
  Song et al. 2021 (appendix D.2), with more of the steps where noise is low.
  """
  time = jnp.linspace(1, 0, nfe + 1) ** spacing
  angle = schedule(time)
  return time[:-1], angle[:-1], angle[1:]


def _first_order(a: Array, b: Array) -> tuple[Array, Array]:
  """Factors of state and estimate of a step from angle a to b < a."""
  return jnp.sin(b) / jnp.sin(a), jnp.sin(a - b) / jnp.sin(a)


def sample(
  estimate: Callable[[Array, Array], Array],
  steps: Steps,
  start: Array,
  shown: Array,
  draw: Callable[[Array], Array],
) -> Array:
  """Runs a sampler: one evaluation of `estimate` for each of its rows.

  Args:
    estimate: (state, time f32[]) -> estimate of x0.
    steps: the sampler.
    start: the state at t = 1.
    shown: what the first evaluation is given for it.
    draw: (number of the step i32[]) -> fresh noise of the state's shape.

  Returns:
    x0, the state at t = 0.
  """

  def move(carry, row):
    number, step = row
    state, before = carry
    given = jnp.where(number == 0, shown, state)
    clean = estimate(given, step.time)
    after = step.state * state + step.clean * clean + step.previous * before
    if step.noise is not None:
      after += step.noise * draw(number)
    return (after, clean), None

  (clean, _), _ = jax.lax.scan(
    move,
    (start, jnp.zeros_like(start)),
    (jnp.arange(len(steps.time)), steps),
  )
  return clean


def noise_field(key: Key, origin: Array, shape: tuple[int, int, int]) -> Array:
  """Draws normal noise that hangs on the place in the whole picture.

  Noise comes in squares of 64 pixels, each from its own key: a tile sees just
  what the whole picture shows at its place.

  Args:
    key: key[B].
    origin: i32[B,2], row and column of the top-left pixel.
    shape: height, width and channels.

  Returns:
    f32[B,H,W,C].
  """
  height, width, channels = shape
  counts = [(side + BLOCK - 2) // BLOCK + 1 for side in (height, width)]

  def block(key: Key, row: Array, column: Array) -> Array:
    key = jax.random.fold_in(jax.random.fold_in(key, row), column)
    return jax.random.normal(key, (BLOCK, BLOCK, channels))

  def one(key: Key, origin: Array) -> Array:
    first = origin // BLOCK
    rows, columns = (
      first[axis] + jnp.arange(count) for axis, count in enumerate(counts)
    )
    of_row = jax.vmap(block, (None, None, 0))
    blocks = jax.vmap(of_row, (None, 0, None))(key, rows, columns)
    whole = blocks.swapaxes(1, 2).reshape(
      counts[0] * BLOCK, counts[1] * BLOCK, channels
    )
    start = origin - first * BLOCK
    return jax.lax.dynamic_slice(whole, (*start, 0), shape)

  return jax.vmap(one)(key, origin)
