"""The one train step: each loss trains its own network, in order."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from deblur_jax import keys as keys_lib
from deblur_jax.devices import mean_over_devices, split_axes
from deblur_jax.train_lib.optim import Transforms
from deblur_jax.train_lib.state import State
from deblur_jax.types import Array, Batch, Family, Key, LossFn, Metrics

Prepare = Callable[[Batch, Key], Batch]
"""(raw batch u8, key[B]) -> batch with blur and sharp f32 in [0,1]."""

TrainStep = Callable[[State, Batch], tuple[State, Metrics]]


def unchanged(tree: Any) -> Any:
  """Returns what it is given."""
  return tree


@dataclasses.dataclass(frozen=True)
class Spread:
  """How the state lies on several devices; no matter where all have it whole.

  Attributes:
    gather: has every device hold all of a tree of parameters.
    scatter: leaves every device its share of a tree of parameters or gradients.
  """

  gather: Callable[[Any], Any] = unchanged
  scatter: Callable[[Any], Any] = unchanged


NO_SPREAD = Spread()


def make_train_step(
  family: Family,
  txs: Transforms,
  prepare: Prepare,
  seed: int,
  ema_decay: float = 0.0,
  accumulate: int = 1,
  spread: Spread = NO_SPREAD,
) -> TrainStep:
  """Returns step(state, raw batch) -> (state, metrics); pure, uncompiled.

  With `accumulate`, each gradient is the mean over so many parts of the batch,
  taken one after the other: activations of one part only are in memory.

  A non-finite loss or gradient of any network leaves all of them, their
  optimisers and averages as they were; the step is counted as skipped.
  """

  def step(state: State, raw: Batch) -> tuple[State, Metrics]:
    count = len(raw['id'])
    axes = split_axes()
    first = jax.lax.axis_index(axes) * count if axes else 0
    keys = keys_lib.of_slots(seed, state.step, count, first)
    batch = prepare(raw, keys_lib.fold_all(keys, 0))
    new, metrics = state, {}
    for i, name in enumerate(family.schedule):
      update = make_update(
        name, family.losses[name], txs[name], accumulate, spread
      )
      new, own = update(new, batch, keys_lib.fold_all(keys, i + 1))
      metrics |= own
    new = average(new, state.step, ema_decay)
    new = keep_finite(state, new, metrics)
    in_a_row, total = new.skipped
    return new, {**metrics, 'skipped': total, 'skipped_in_a_row': in_a_row}

  return step


def make_update(
  name: str,
  loss_fn: LossFn,
  tx: optax.GradientTransformationExtraArgs,
  accumulate: int = 1,
  spread: Spread = NO_SPREAD,
) -> Callable[[State, Batch, Key], tuple[State, Metrics]]:
  """Returns one optimiser step on params[name]; the others are constants.

  A gradient of nothing but zeros is no step: Adam would count it, take its
  means for long ones, and make the first real step many times too large.
  """

  def update(state: State, batch: Batch, keys: Key) -> tuple[State, Metrics]:
    params = spread.gather(state.params)

    def differentiate(batch, keys):
      def own_loss(own):
        return loss_fn({**params, name: own}, batch, keys, state.step)

      values, grads = jax.value_and_grad(own_loss, has_aux=True)(params[name])
      return values, spread.scatter(grads)

    means = mean_over_parts(differentiate, accumulate)(batch, keys)
    (loss, metrics), grads = mean_over_devices(means)
    own, norm = state.params[name], optax.tree.norm(grads)
    updates, opt = tx.update(grads, state.opt[name], own, step=state.step)
    own, opt = choose(
      norm != 0,
      (optax.apply_updates(own, updates), opt),
      (own, state.opt[name]),
    )
    metrics = {'loss': loss, 'grad_norm': norm, **metrics}
    state = dataclasses.replace(
      state,
      params={**state.params, name: own},
      opt={**state.opt, name: opt},
    )
    return state, {f'{name}/{key}': value for key, value in metrics.items()}

  return update


def mean_over_parts(
  function: Callable[[Batch, Key], Any], count: int
) -> Callable[[Batch, Key], Any]:
  """Returns a function's mean over `count` parts of its batch, in a loop.

  Each part holds every count-th example, so that all devices share it.
  """
  if count == 1:
    return function

  def mean(batch: Batch, keys: Key) -> Any:
    parts = jax.tree.map(
      lambda rows: rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1),
      (batch, keys),
    )
    shapes = jax.eval_shape(
      function, *jax.tree.map(lambda part: part[0], parts)
    )
    # All turns are in the loop: one outside would be alive beside another.
    total, _ = jax.lax.scan(
      lambda total, part: (jax.tree.map(jnp.add, total, function(*part)), None),
      jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes),
      parts,
    )
    return jax.tree.map(lambda value: value / count, total)

  return mean


def average(state: State, step: Array, decay: float) -> State:
  """Moves the EMA towards the parameters.

  The decay warms up as min(decay, (1 + n) / (10 + n)), so that early averages
  do not remember the initialisation.
  """
  rate = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
  ema = {
    name: optax.incremental_update(state.params[name], old, rate)
    for name, old in state.ema.items()
  }
  return dataclasses.replace(state, ema=ema)


def keep_finite(old: State, new: State, metrics: Metrics) -> State:
  """Returns the new state where losses and gradients are finite, else the old.

  Either way the step counts: data order stays a function of the step alone.
  Other metrics may be infinite, as the PSNR of a black crop that came back so.
  """
  telling = [
    value
    for name, value in metrics.items()
    if name.endswith(('/loss', '/grad_norm'))
  ]
  finite = jnp.all(jnp.isfinite(jnp.stack(telling)))
  in_a_row, total = old.skipped
  skipped = jnp.stack(
    [jnp.where(finite, 0, in_a_row + 1), jnp.where(finite, total, total + 1)]
  )

  kept = choose(finite, *((s.params, s.opt, s.ema) for s in (new, old)))
  return State(old.step + 1, *kept, skipped=skipped)


def choose(which: Array, this: Any, other: Any) -> Any:
  """Returns one of two trees: `this` where `which` b[] is true."""
  return jax.tree.map(lambda a, b: jnp.where(which, a, b), this, other)
