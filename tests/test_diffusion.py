"""Schedules and samplers against closed forms; noise that knows its place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.ops import diffusion

MEAN = np.array([0.4, -0.7])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])
COUNT = 20_000


def column(*values):
  return jnp.array(values)[:, None, None, None]


@pytest.mark.parametrize('schedule', diffusion.SCHEDULES.values())
def test_schedules_go_from_the_picture_to_noise(schedule):
  angle = np.asarray(schedule(jnp.linspace(0, 1, 101)), np.float64)
  assert angle[0] == 0
  assert (np.diff(angle) > 0).all()
  assert 0 < np.cos(angle[-1]) <= diffusion.SMALLEST_ALPHA * 1.001


def test_the_linear_schedule_is_that_of_ddpm():
  beta = np.linspace(1e-4, 0.02, 1000)
  alpha = np.sqrt(np.cumprod(1 - beta))
  angle = diffusion.linear(jnp.arange(1, 1001) / 1000)
  np.testing.assert_allclose(np.cos(np.float64(angle)), alpha, atol=2e-3)


def test_the_cosine_schedule_is_that_of_improved_ddpm():
  time = np.linspace(0, 0.98, 50)
  s = 0.008
  bar = np.cos((time + s) / (1 + s) * np.pi / 2) ** 2
  alpha = np.cos(np.float64(diffusion.cosine(jnp.asarray(time))))
  np.testing.assert_allclose(alpha, np.sqrt(bar / bar[0]), atol=0.02)


def test_predictions_imply_the_same_picture():
  keys = jax.random.split(jax.random.key(0))
  clean, noise = (jax.random.normal(key, (5, 4, 4, 3)) for key in keys)
  angle = column(0.1, 0.5, 0.8, 1.2, 1.5)
  state = diffusion.add_noise(clean, noise, angle)
  v = jnp.cos(angle) * noise - jnp.sin(angle) * clean
  for name, output in {'eps': noise, 'x0': clean, 'v': v}.items():
    found = diffusion.PREDICTIONS[name](output, state, angle)
    np.testing.assert_allclose(found, clean, atol=2e-5)


def test_weights_are_bounded():
  angle = jnp.arctan(1 / jnp.sqrt(jnp.array([0.01, 1.0, 4.0, 100.0])))
  weight = diffusion.loss_weight(angle, 5.0, 1.0)
  np.testing.assert_allclose(weight, [1.0, 1.0, 4.0, 5.0], rtol=1e-5)


@pytest.mark.parametrize('schedule', diffusion.SCHEDULES.values())
@pytest.mark.parametrize('name', diffusion.PREDICTIONS)
def test_no_time_is_all_of_the_loss(schedule, name):
  """However off the network's output is, evenly over the times."""
  time = jnp.linspace(0, 1, 501)[1:]
  angle, off = schedule(time), jnp.ones(500)
  predict = diffusion.PREDICTIONS[name]
  error = predict(off, off, angle) - predict(0 * off, off, angle)
  weight = diffusion.loss_weight(angle, 5.0, diffusion.LEAST_WEIGHT[name])
  shares = weight * error**2
  assert shares[-50:].sum() < 0.3 * shares.sum()


def exact_estimate(schedule):
  """E[x0 | state] of a Gaussian, in closed form."""

  def estimate(state, time):
    angle = schedule(time)
    alpha, sigma = jnp.cos(angle), jnp.sin(angle)
    spread = alpha**2 * COVARIANCE + sigma**2 * jnp.eye(2)
    gain = alpha * COVARIANCE @ jnp.linalg.inv(spread)
    shift = MEAN[None, None, None]
    return shift + (state - alpha * shift) @ gain.T

  return estimate


@pytest.mark.parametrize('schedule', diffusion.SCHEDULES.values())
@pytest.mark.parametrize(
  ('name', 'nfe', 'spacing', 'eta'),
  [
    ('ddpm', 1000, 1.0, 0.0),
    ('ddim', 200, 1.0, 0.0),
    ('ddim', 200, 2.5, 0.0),
    ('ddim', 500, 1.0, 0.6),
    ('dpm_solver', 200, 1.0, 0.0),
  ],
)
def test_samplers_land_on_a_gaussian(name, nfe, spacing, eta, schedule):
  key = jax.random.key(1)
  shape = (COUNT, 1, 1, 2)

  def draw(number):
    return jax.random.normal(jax.random.fold_in(key, number), shape)

  drawn = jax.jit(
    lambda: diffusion.sample(
      exact_estimate(schedule),
      diffusion.SAMPLERS[name](schedule, nfe, spacing, eta),
      draw(10**6),
      draw(10**6),
      draw,
    )
  )()
  found = np.asarray(drawn, np.float64).reshape(COUNT, 2)
  variance = np.diag(COVARIANCE)
  error = 3 * np.sqrt(variance / COUNT) + 0.01 * np.abs(MEAN)
  assert (np.abs(found.mean(0) - MEAN) < error).all()
  spread = np.sqrt((np.outer(variance, variance) + COVARIANCE**2) / COUNT)
  error = 3 * spread + 0.01 * np.abs(COVARIANCE)
  assert (np.abs(np.cov(found.T) - COVARIANCE) < error).all()


@pytest.mark.parametrize('name', diffusion.SAMPLERS)
def test_spacing_moves_evaluations_to_low_noise(name):
  sampler = diffusion.SAMPLERS[name]
  times = [sampler(diffusion.cosine, 8, spacing).time for spacing in (1, 2)]
  np.testing.assert_allclose(times[0] ** 2, times[1], rtol=1e-6)


def test_the_second_order_is_closer_where_steps_are_few():
  schedule = diffusion.cosine
  start = jax.random.normal(jax.random.key(2), (1000, 1, 1, 2))

  def run(name, nfe):
    steps = diffusion.SAMPLERS[name](schedule, nfe)
    estimate = exact_estimate(schedule)
    return diffusion.sample(estimate, steps, start, start, None)

  truth = run('ddim', 2000)
  error = {
    name: float(jnp.abs(run(name, 20) - truth).mean())
    for name in ('ddim', 'dpm_solver')
  }
  assert error['dpm_solver'] < 0.2 * error['ddim']


def test_fresh_noise_is_that_of_the_posterior():
  """Against Ho et al. 2020, eq. 7, written with alphas and betas."""
  steps = diffusion.ddpm(diffusion.linear, 10)
  angle = diffusion.linear(jnp.linspace(1, 0, 11))
  bars = np.cos(np.float64(angle)) ** 2
  before, after = bars[1:], bars[:-1]
  beta = 1 - after / before
  scale = beta / (1 - after)
  np.testing.assert_allclose(steps.clean, np.sqrt(before) * scale, rtol=1e-4)
  kept = np.sqrt(1 - beta) * (1 - before) / (1 - after)
  np.testing.assert_allclose(steps.state, kept, rtol=1e-3, atol=1e-6)
  variance = (1 - before) / (1 - after) * beta
  np.testing.assert_allclose(steps.noise**2, variance, rtol=1e-3, atol=1e-9)
  part = diffusion.ddim(diffusion.linear, 10, eta=0.5)
  np.testing.assert_allclose(part.noise, 0.5 * steps.noise, rtol=1e-6)
  # Whatever is renewed, the state keeps its spread: the noise of the one
  # before, what of it the estimate explains, and the fresh.
  for one in (steps, part):
    old = one.state * np.sqrt(1 - after)
    np.testing.assert_allclose(
      old**2 + one.noise**2, 1 - before, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize('name', diffusion.SAMPLERS)
def test_one_evaluation_is_the_estimate_itself(name):
  start = jax.random.normal(jax.random.key(3), (2, 4, 4, 3))
  steps = diffusion.SAMPLERS[name](diffusion.cosine, 1)
  seen = []

  def estimate(state, time):
    seen.append((state, time))
    return 0.3 * state

  result = diffusion.sample(estimate, steps, start, start, jnp.zeros_like)
  np.testing.assert_allclose(result, 0.3 * start, atol=1e-6)


def test_the_first_evaluation_alone_sees_what_is_shown():
  start, shown = jax.random.normal(jax.random.key(3), (2, 1, 4, 4, 3))
  steps = diffusion.ddim(diffusion.cosine, 2)

  def run(shown):
    return diffusion.sample(
      lambda state, time: 0.3 * state, steps, start, shown, jnp.zeros_like
    )

  after = steps.state[0] * start + steps.clean[0] * 0.3 * shown
  np.testing.assert_allclose(run(shown), 0.3 * after, atol=1e-6)


def test_indi_walks_a_straight_line():
  sharp, blur = jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))
  steps = diffusion.indi(4)
  states = []
  state = blur
  for row in range(4):
    states.append(float(state.mean()))
    assert float(steps.time[row]) == pytest.approx(states[-1])
    state = steps.state[row] * state + steps.clean[row] * sharp
  np.testing.assert_allclose(states, [1, 0.75, 0.5, 0.25], atol=1e-6)
  np.testing.assert_allclose(state, sharp, atol=1e-6)


@pytest.mark.parametrize('top_left', [(0, 0), (5, 70), (64, 64), (63, 127)])
def test_a_tile_sees_the_noise_of_the_whole(top_left):
  keys = jax.random.split(jax.random.key(4), 2)
  whole = diffusion.noise_field(keys, jnp.zeros((2, 2), int), (150, 200, 3))
  origin = jnp.array([top_left, (0, 0)])
  tile = diffusion.noise_field(keys, origin, (40, 50, 3))
  top, left = top_left
  np.testing.assert_array_equal(
    tile[0], whole[0, top : top + 40, left : left + 50]
  )
  np.testing.assert_array_equal(tile[1], whole[1, :40, :50])


def test_noise_is_white():
  keys = jax.random.split(jax.random.key(5), 1)
  noise = diffusion.noise_field(keys, jnp.zeros((1, 2), int), (256, 256, 3))
  noise = np.asarray(noise[0], np.float64)
  assert abs(noise.mean()) < 0.01
  assert abs(noise.std() - 1) < 0.01
  for lag in (1, 64):  # neither pixels nor squares repeat
    assert abs((noise[lag:] * noise[:-lag]).mean()) < 0.01
    assert abs((noise[:, lag:] * noise[:, :-lag]).mean()) < 0.01
  assert abs((noise[..., 0] * noise[..., 1]).mean()) < 0.01
