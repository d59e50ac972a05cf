"""Notices that the machine is about to be taken away."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Watch:
  """Turns SIGTERM into a question that the loop asks; a context manager.

  With several processes, JAX itself listens in each (also to what else its
  runtime is told, such as maintenance of a TPU), and they agree on a step.
  """

  def __init__(self):
    self._asked = False
    # Elsewhere Python refuses; whoever runs us in a thread gets the signal.
    self._main = threading.current_thread() is threading.main_thread()
    self._alone = self._main and jax.process_count() == 1

  def __enter__(self) -> 'Watch':
    if self._alone:
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *exception) -> None:
    if self._alone:
      signal.signal(signal.SIGTERM, self._before)
    elif self._main:
      # JAX would go on listening, and nobody asks it any more.
      signal.signal(signal.SIGTERM, signal.SIG_DFL)

  def asked_to_stop(self, step: int) -> bool:
    """Returns whether to save and stop; to be asked after every step."""
    return self._asked or multihost_utils.reached_preemption_sync_point(step)

  def _note(self, number: int, frame: object) -> None:
    del number, frame
    self._asked = True
