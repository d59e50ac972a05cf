"""Checkpoints in workdir/checkpoints/STEP; the only place that knows orbax."""

import pathlib
from collections.abc import Mapping

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from deblur_jax.train_lib.state import State
from deblur_jax.types import InputError

FOLDER = 'checkpoints'


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
    self._manager = ocp.CheckpointManager(
      self._folder.absolute(), options=options
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception) -> None:
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
    """Starts saving a step; `scores` are those of its validation, if any."""
    tree = ocp.args.StandardSave(vars(state))
    self._manager.save(step, args=tree, metrics=scores)

  def restore(self, step: int, like: State) -> State:
    """Restores a step onto the shapes and shardings of `like`.

    Raises:
      InputError: it holds other networks than `like`.
    """
    wanted = ocp.args.StandardRestore(vars(like))
    try:
      return State(**self._manager.restore(step, args=wanted))
    except (ValueError, KeyError, TypeError) as error:
      reason = str(error).strip().splitlines()[0]
      raise InputError(
        f'{self._folder}/{step}: holds another network than this config asks '
        f'for ({reason})'
      ) from None


def has_checkpoints(workdir: pathlib.Path) -> bool:
  """Returns whether a whole checkpoint lies in a workdir."""
  return any(path.name.isdecimal() for path in (workdir / FOLDER).glob('*'))
