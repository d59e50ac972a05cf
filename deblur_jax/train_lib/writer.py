"""What a run leaves behind: metrics.jsonl, TensorBoard events, a lock."""

import contextlib
import json
import math
import pathlib
from collections.abc import Iterator, Mapping

import filelock
import numpy as np

from deblur_jax import files
from deblur_jax.types import InputError

METRICS = 'metrics.jsonl'


class Writer:
  """Writes scalars and pictures by step; use as a context manager.

  Lines past `step` are dropped first: a resumed run writes them again.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    # It imports PyTorch where there is one: seconds, for training alone.
    import tensorboardX

    self._path = workdir / METRICS
    kept = [line for line in read_metrics(workdir) if line['step'] <= step]
    text = ''.join(json.dumps(line) + '\n' for line in kept)
    files.write_text(self._path, text)
    self._file = self._path.open('a')
    self._events = tensorboardX.SummaryWriter(
      str(workdir / 'tensorboard'), purge_step=step + 1
    )

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *exception) -> None:
    self._file.close()
    self._events.close()

  def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Appends one line; non-finite values become null, as JSON has none."""
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    line = {'step': step, 'split': split, **finite}
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(f'{split}/{name}', value, step)

  def picture(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows u8[H,W,3] in TensorBoard."""
    self._events.add_image(name, image, step, dataformats='HWC')


class NoWriter:
  """Stands in for a `Writer` in all processes but the first."""

  def __enter__(self) -> 'NoWriter':
    return self

  def __exit__(self, *exception) -> None:
    pass

  def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Leaves it to the first process."""

  def picture(self, step: int, name: str, image: np.ndarray) -> None:
    """Leaves it to the first process."""


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """Returns the lines of metrics.jsonl; a half-written last one is dropped."""
  path = workdir / METRICS
  if not path.is_file():
    return []
  lines = []
  for line in path.read_text().splitlines():
    try:
      lines.append(json.loads(line))
    except ValueError:
      break
  return lines


def minutes(workdir: pathlib.Path, step: int) -> float:
  """Returns how long training took up to a step, over all its runs."""
  logged = [m for m in read_metrics(workdir) if m['step'] <= step]
  return next((m['minutes'] for m in reversed(logged) if 'minutes' in m), 0.0)


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
  """Takes the workdir for this process; released when it ends, even if killed.

  Raises:
    InputError: another process holds it, or it cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(workdir / '.lock')
    held.acquire(timeout=0)
  except filelock.Timeout:
    raise InputError(
      f'{workdir}: in use by another process; wait for it, or choose another '
      '--workdir'
    ) from None
  except OSError as error:
    raise InputError(f'{workdir}: cannot be written ({error})') from None
  try:
    yield
  finally:
    held.release()
