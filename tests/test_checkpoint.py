"""Which checkpoints stay."""

import jax.numpy as jnp

from deblur_jax.train_lib.checkpoint import Checkpoints
from deblur_jax.train_lib.state import State


def state(step):
  number = jnp.int32(step)
  return State(number, {'net': number}, {}, {}, jnp.zeros(2, jnp.int32))


def test_the_newest_and_the_best_stay(tmp_path):
  # Only every second one is validated, as with eval.every_steps.
  scores = {2: 20.0, 4: 30.0, 6: 25.0, 8: 26.0}
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in range(1, 10):
      psnr = scores.get(step)
      checkpoints.save(state(step), step, psnr and {'psnr': psnr})
  kept = {
    int(path.name)
    for path in (tmp_path / 'checkpoints').iterdir()
    if path.name.isdecimal()
  }
  assert kept == {4, 8, 9}
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.find('best') == 4
    assert checkpoints.find('') == 9
