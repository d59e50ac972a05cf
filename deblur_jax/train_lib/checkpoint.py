"""Checkpoints in workdir/checkpoints/STEP; the only place that knows orbax."""

import contextlib
import math
import pathlib
import re
from collections.abc import Iterator, Mapping

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from deblur_jax import files
from deblur_jax.train_lib.state import State
from deblur_jax.types import InputError, Params

FOLDER = 'checkpoints'

SLICE_BYTES = 2**20
"""Copies on several devices share the writing of arrays larger than this each.

To cut the hundreds of small ones takes longer than to write them.
"""

FULL = re.compile('no space left|read-only file system|quota', re.IGNORECASE)
"""In an error of orbax's own kinds: the disk is full or cannot be written."""


def validation_psnr(scores: Mapping[str, float]) -> float:
  """What the best checkpoint has most of."""
  return scores['psnr']


class Checkpoints:
  """The checkpoints of one workdir; use as a context manager.

  Saving runs in the background; leaving the context waits for it.
  """

  def __init__(
    self, workdir: pathlib.Path, keep: int = 2, read_only: bool = False
  ):
    self._folder = workdir / FOLDER
    policies = [
      preservation_policy.LatestN(keep),
      preservation_policy.BestN(
        get_metric_fn=validation_psnr,
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
    options = ocp.CheckpointManagerOptions(
      preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
      best_fn=validation_psnr,
      cleanup_tmp_directories=not read_only,
      read_only=read_only,
    )
    arrays = ocp.type_handlers.ArrayHandler(
      min_slice_bytes_for_replica_parallel=SLICE_BYTES
    )
    handlers = ocp.type_handlers.create_type_handler_registry(
      (jax.Array, arrays)
    )
    self._manager = ocp.CheckpointManager(
      self._folder.absolute(),
      item_handlers=ocp.PyTreeCheckpointHandler(type_handler_registry=handlers),
      options=options,
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception) -> None:
    with self._storage():
      self._manager.close()

  def latest(self) -> int | None:
    """The newest whole step, or None."""
    return self._manager.latest_step()

  def find(self, wanted: str) -> int:
    """Returns the step of 'N', 'best' (validation PSNR) or '' (the last).

    Raises:
      InputError: there is none.
    """
    known = {'': self.latest(), 'best': self._manager.best_step()}
    step = int(wanted) if wanted.isdecimal() else known.get(wanted)
    if step not in self._manager.all_steps():
      have = ', '.join(map(str, self._manager.all_steps())) or 'none yet'
      raise InputError(
        f'{self._folder}: no checkpoint {wanted or "at all"} (there: {have})'
      )
    return step

  def save(self, state: State, step: int, scores: Mapping | None) -> None:
    """Starts saving a step; `scores` are those of its validation, if any.

    Where the PSNR is NaN, it cannot be compared: the step is never the best.

    Raises:
      InputError: this one, or the one before, could not be written.
    """
    tree = ocp.args.PyTreeSave(vars(state))
    if scores and math.isnan(scores['psnr']):
      scores = None
    with self._storage():
      self._manager.save(step, args=tree, metrics=scores)

  def restore(self, step: int, like: State) -> State:
    """Restores a step onto the shapes and shardings of `like`.

    Raises:
      InputError: it holds other networks than `like`.
    """
    return State(**self._restore(step, vars(like)))

  def restore_weights(self, step: int, like: State) -> Params:
    """Restores the weights of all networks, averaged ones where there are some.

    Raises:
      InputError: it holds other networks than `like`.
    """
    params = {k: v for k, v in like.params.items() if k not in like.ema}
    wanted = {'params': params, 'ema': like.ema}
    found = self._restore(step, {k: v for k, v in wanted.items() if v})
    return {**found.get('params', {}), **found.get('ema', {})}

  @contextlib.contextmanager
  def _storage(self) -> Iterator[None]:
    """Tells of a full or read-only disk in one line."""
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:
      number = getattr(error, 'errno', None)
      if number not in files.UNWRITABLE and not FULL.search(str(error)):
        raise
      raise InputError(
        f'{files.unwritable(self._folder, error)}; the checkpoints there are '
        'whole: make room, and the same command goes on from the last one'
      ) from None

  def _restore(self, step: int, like: dict) -> dict:
    """Restores those parts of a step that `like` has."""
    wanted = ocp.args.PyTreeRestore(
      like,
      restore_args=ocp.checkpoint_utils.construct_restore_args(like),
      partial_restore=True,
    )
    try:
      return self._manager.restore(step, args=wanted)
    except (ValueError, KeyError, TypeError) as error:
      reason = str(error).strip().splitlines()[0]
      raise InputError(
        f'{self._folder}/{step}: holds another network than this config asks '
        f'for ({reason})'
      ) from None


def has_checkpoints(workdir: pathlib.Path) -> bool:
  """Returns whether a whole checkpoint lies in a workdir."""
  return bool(_steps(workdir))


def newest(workdir: pathlib.Path) -> int:
  """Returns the last step with a whole checkpoint in a workdir that has one."""
  return max(_steps(workdir))


def _steps(workdir: pathlib.Path) -> list[int]:
  names = (path.name for path in (workdir / FOLDER).glob('*'))
  return [int(name) for name in names if name.isdecimal()]
