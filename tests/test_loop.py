"""What the training loop does not do: wait, and compile again."""

import jax
import pytest

from deblur_jax import cli, train
from deblur_jax.train_lib import processes
from tests.runs import tiny_config


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
