"""What is compared: models, several models together, and methods that are told.

A contender makes restored pictures out of a prepared batch; what it is made of
is nobody else's business. None of them trains anything.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import trained
from deblur_jax.imaging import turns
from deblur_jax.models import cpu
from deblur_jax.ops import classical, cost
from deblur_jax.train_lib import state
from deblur_jax.types import Array, Batch, Params

Restore = Callable[[Params, Array, Array], Array]
"""(params, blur f32[B,H,W,3], id i32[B]) -> restored; pure."""


class Duration(NamedTuple):
  """Of one call: seconds, and whether it was the first one of its kind."""

  seconds: float
  first: bool = False


Run = Callable[[Batch], tuple[np.ndarray, Duration]]
"""Batch of whole pictures -> restored u8[B,H,W,3], what it took."""

MEGAPIXEL = (1, 1000, 1000, 3)


@dataclasses.dataclass(frozen=True)
class Contender:
  """One row of the comparison.

  Attributes:
    name: what tables call it.
    family: cnn, diffusion, gan; cascade, ensemble; or classical.
    network: what it is made of.
    run: restores a batch.
    made_of: (config, step, mark of the weights) of each model in it.
    sampler: how samples are drawn, or how each of several models draws them.
    parameters: how many it restores with.
    macs: () -> multiply-accumulates for one megapixel; 0 where it has none,
      or where they are unknown.
    training_images: that its models were trained on; 0 where that is unknown.
    training_minutes: that its models were trained for.
  """

  name: str
  family: str
  network: str
  run: Run
  made_of: tuple[tuple[str, int, str], ...] = ()
  sampler: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  parameters: int = 0
  macs: Callable[[], int] = lambda: 0
  training_images: int = 0
  training_minutes: float = 0.0


def of_model(model: trained.Model) -> Contender:
  """A trained model by itself."""
  restore = trained.make_restore(model.config, model.family)
  return _trained([model], restore, model.params, model.name)


def sampler_of(model: trained.Model) -> dict[str, Any]:
  """Returns how a model draws samples; {} of one that draws none."""
  if not model.family.draws:
    return {}
  return json.loads(model.config.sampler.to_json())


def cascade(first: trained.Model, second: trained.Model) -> Contender:
  """One model's result is given to another one as its blurred picture."""
  steps = [trained.make_restore(m.config, m.family) for m in (first, second)]

  def restore(params: Params, blur: Array, ids: Array) -> Array:
    passed = steps[0](params['first'], blur, ids).clip(0, 1)
    return steps[1](params['second'], passed, ids)

  return _trained(
    [first, second],
    restore,
    {'first': first.params, 'second': second.params},
    f'{first.name} > {second.name}',
    'cascade',
  )


def self_ensemble(model: trained.Model) -> Contender:
  """Mean over the eight flips and turns of a picture."""
  alone = of_model(model)
  restore = Timed(trained.make_restore(model.config, model.family))

  def run(batch: Batch) -> tuple[np.ndarray, Duration]:
    took = []

    def timed(blur: Array) -> Array:
      made, duration = restore(model.params, blur, batch['id'])
      took.append(duration)
      return made

    restored = trained.to_uint8(turns.mean(timed, batch['blur']))
    seconds = sum(duration.seconds for duration in took)
    return restored, Duration(seconds, any(one.first for one in took))

  return dataclasses.replace(
    alone,
    name=f'{model.name} x8',
    family='ensemble',
    run=run,
    macs=lambda: len(turns.TURNS) * alone.macs(),
  )


def average(models: Sequence[trained.Model]) -> Contender:
  """Mean of several models' results."""
  alone = [trained.make_restore(m.config, m.family) for m in models]

  def restore(params: Params, blur: Array, ids: Array) -> Array:
    made = [f(own, blur, ids) for f, own in zip(alone, params, strict=True)]
    return sum(made) / len(made)

  return _trained(
    models,
    restore,
    [model.params for model in models],
    'mean of all models',
    'ensemble',
  )


def oracle(method: str) -> Contender:
  """A classical method that is told the true PSF and the noise."""
  deconvolve = classical.METHODS[method]

  def run(batch: Batch) -> tuple[np.ndarray, Duration]:
    pictures = trained.to_uint8(batch['blur'])
    told = [np.asarray(batch[name]) for name in ('psf', 'noise')]
    begin = time.perf_counter()
    with futures.ThreadPoolExecutor() as pool:
      restored = np.stack(list(pool.map(deconvolve, pictures, *told)))
    return restored, Duration(time.perf_counter() - begin)

  return Contender(f'{method} (true PSF)', 'classical', method, run)


def _trained(
  models: Sequence[trained.Model],
  restore: Restore,
  params: Any,
  name: str,
  family: str = '',
) -> Contender:
  """A contender that is one jitted function of parameters and pictures."""
  samplers = {model.name: sampler_of(model) for model in models}
  runs = {run for model in models for run in model.runs}  # what two share, once
  return Contender(
    name=name,
    family=family or models[0].config.family,
    network=' + '.join(dict.fromkeys(m.config.model.name for m in models)),
    run=functools.partial(_run, Timed(restore), params),
    made_of=tuple((model.name, model.step, model.mark) for model in models),
    parameters=sum(map(count_parameters, models)),
    macs=functools.partial(_macs, restore, params),
    # Of what was converted, none can tell.
    training_images=sum(run.images for run in runs)
    if all(run.images for run in runs)
    else 0,
    training_minutes=sum(run.minutes for run in runs),
    sampler=samplers if len(models) > 1 else sampler_of(models[0]),
  )


def _run(
  restore: 'Timed', params: Params, batch: Batch
) -> tuple[np.ndarray, Duration]:
  restored, duration = restore(params, batch['blur'], batch['id'])
  return trained.to_uint8(restored), duration


def _macs(restore: Restore, params: Params) -> int:
  blur = jax.ShapeDtypeStruct(MEGAPIXEL, jnp.float32)
  ids = jax.ShapeDtypeStruct(MEGAPIXEL[:1], jnp.int32)
  with cpu.plain():
    return cost.macs(restore, params, blur, ids)


def count_parameters(model: trained.Model) -> int:
  """Returns how many parameters restore a picture."""
  return state.count(trained.restoring(model.family, model.params))


class Timed:
  """Runs a function compiled ahead for each shape, and times it alone."""

  def __init__(self, function: Restore):
    self._jitted = jax.jit(function)
    self._compiled = {}

  def __call__(self, *args) -> tuple[Array, Duration]:
    """Returns the result and what it took, compilation left out."""
    shape = args[1].shape
    first = shape not in self._compiled
    if first:
      self._compiled[shape] = self._jitted.lower(*args).compile()
    jax.block_until_ready(args)
    begin = time.perf_counter()
    result = jax.block_until_ready(self._compiled[shape](*args))
    return result, Duration(time.perf_counter() - begin, first)
