"""The networks that are timed, and on what."""

import dataclasses
from collections.abc import Callable

Run = Callable[[], object]
"""Does something once and waits for it to be done."""


@dataclasses.dataclass(frozen=True)
class Case:
  """A NAFNet and what goes through it.

  Attributes:
    width: channels of the first level.
    encoder: blocks of each level on the way down.
    shape: batch, height and width.
    trained: whether a training step is timed besides the forward pass.
    decoder: blocks of each level on the way up.
    middle: blocks of the lowest level.
  """

  width: int
  encoder: tuple[int, ...]
  shape: tuple[int, int, int]
  trained: bool = True
  decoder: tuple[int, ...] = (1, 1, 1, 1)
  middle: int = 1


CASES = {
  'a': Case(16, (1, 1, 1, 4), (8, 64, 64)),
  'b': Case(32, (1, 1, 1, 28), (4, 128, 128)),
  'c': Case(32, (1, 1, 1, 28), (1, 720, 1280), trained=False),
}
