"""What the training loop does not do: wait, and compile again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import cli, train
from deblur_jax.data import sources
from deblur_jax.families import make_family
from deblur_jax.train_lib import parallel, processes
from tests.runs import picture, tiny_config


@pytest.fixture
def compiled():
  """A list that grows with each program that is compiled, or found compiled."""
  events = []

  def listen(event, duration, **_):
    if event == cli.COMPILED:
      events.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield events
  jax.monitoring.unregister_event_duration_listener(listen)


def test_fifty_steps_wait_at_log_lines_and_compile_nothing_twice(
  compiled, monkeypatch, tmp_path
):
  config = tiny_config().unlock()
  config.steps = 50
  config.log.every_steps = 10
  config.eval.every_steps = 25
  config.checkpoint.every_steps = 25
  programs, reads = [], []
  scalars, to_host = processes.scalars, processes.to_host

  def counted_scalars(metrics):
    programs.append(len(compiled))
    return scalars(metrics)

  def counted_to_host(tree):
    reads.append(tree)
    return to_host(tree)

  monkeypatch.setattr(processes, 'scalars', counted_scalars)
  monkeypatch.setattr(processes, 'to_host', counted_to_host)
  train.train(config, tmp_path, 'tiny')
  # Five log lines; scores and pictures of two validations; the first batch.
  assert len(reads) == 5 + 2 * 2 + 1
  # Nothing after the first validation, which is the fourth to read scalars.
  assert len(programs) == 5 + 2
  assert programs[0] > 0
  assert programs[3] == programs[-1] == len(compiled)


def test_the_host_is_one_step_ahead_and_no_more(monkeypatch, tmp_path):
  """SIGTERM is heeded after what is queued, which could be minutes."""
  config = tiny_config().unlock()
  config.steps = 6
  config.log.every_steps = 100
  config.eval.every_steps = config.checkpoint.every_steps = 100
  make_step, finished, queued = train.make_step, [], []
  # Some work: no step would be done by chance.
  work = jax.jit(
    lambda x: jax.lax.fori_loop(0, 100, lambda _, a: a @ a, x)[0, 0]
  )

  def make_slow_step(*arguments):
    take_step = make_step(*arguments)

    def slow_step(now, batch):
      finished.append([metrics['slow'].is_ready() for metrics in queued])
      now, metrics = take_step(now, batch)
      queued.append({**metrics, 'slow': work(jnp.eye(400))})
      return now, queued[-1]

    return slow_step

  monkeypatch.setattr(train, 'make_step', make_slow_step)
  train.train(config, tmp_path, 'tiny')
  assert len(finished) == 6
  assert all(all(ready[:-1]) for ready in finished)
  assert not all(ready[-1] for ready in finished[2:])  # and one ahead it is


def test_the_record_stays_that_of_the_code_that_trained(tmp_path):
  config = tiny_config().unlock()
  config.steps = 1
  train.train(config, tmp_path, 'tiny')
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), 'versions': {}}))
  train.train(config, tmp_path, 'tiny')
  assert json.loads(path.read_text())['versions'] == {}
  config.steps = 2
  train.train(config, tmp_path, 'tiny')
  assert json.loads(path.read_text())['versions']


def test_a_picture_that_comes_back_exactly_is_left_out_of_the_mean():
  config = tiny_config().unlock()
  config.data.blur.noise = (0.0, 0.0)
  white = np.full((16, 16, 3), 255, np.uint8)
  pictures = [white, picture(16, 16)]
  source = sources.Examples(
    lambda i: {'name': str(i), 'sharp': pictures[i]}, 2, False
  )
  family = make_family(config)
  mesh = parallel.make_mesh()
  side = np.zeros((1, 16, 16, 3), np.float32)
  params = family.init(jax.random.key(0), {'blur': side, 'sharp': side})
  nothing = jax.tree.map(np.zeros_like, params)  # gives back its input
  scores, _ = train.make_validate(config, family, mesh, source)(nothing)
  assert 0 < scores['psnr'] < 60
