"""Notices that the machine is about to be taken away."""

import signal
import threading


class Watch:
  """Turns SIGTERM into a question that the loop asks; a context manager."""

  def __init__(self):
    self._asked = False

  def __enter__(self) -> 'Watch':
    # Elsewhere Python refuses; whoever runs us in a thread gets the signal.
    if threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *exception) -> None:
    if threading.current_thread() is threading.main_thread():
      signal.signal(signal.SIGTERM, self._before)

  def asked_to_stop(self) -> bool:
    """Returns whether SIGTERM has come."""
    return self._asked

  def _note(self, number: int, frame: object) -> None:
    del number, frame
    self._asked = True
