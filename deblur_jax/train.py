"""The one training loop: build, restore, step, log, validate, save."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deblur_jax import config as config_lib
from deblur_jax import keys as keys_lib
from deblur_jax import ranges, trained, warm_start
from deblur_jax.data import pipeline, sources
from deblur_jax.families import make_family
from deblur_jax.ops import metrics as metrics_lib
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.ops.psf import psf_size
from deblur_jax.report import figures
from deblur_jax.train_lib import (
  exported,
  optim,
  parallel,
  preemption,
  processes,
  state,
  step,
  writer,
)
from deblur_jax.train_lib.checkpoint import Checkpoints, has_checkpoints, newest
from deblur_jax.types import (
  Array,
  Batch,
  Family,
  InputError,
  Metrics,
  NonFiniteError,
  Params,
  PreemptedError,
)

SKIPS_IN_A_ROW = 10
"""Non-finite steps after which training stops."""

SAMPLES = 4
"""Pictures in each file of samples/."""

Validate = Callable[[Params], tuple[dict[str, float], np.ndarray]]
"""weights -> (mean scores, picture u8[H,W,3] of some examples)."""


def train(
  config: ConfigDict, workdir: pathlib.Path, name: str, init_from: str = ''
) -> None:
  """Trains until config.steps, going on from the newest checkpoint.

  Args:
    config: all settings; only `steps` may differ from those of an older run.
    workdir: where everything is kept.
    name: what reports call this config, e.g. 'cnn_photos:small'.
    init_from: a workdir whose weights a new run starts from; '' for none.

  Raises:
    InputError: something in the config, the data or the workdir is unusable.
    NonFiniteError: too many steps in a row came to NaN or infinity.
    PreemptedError: SIGTERM came; the state is saved.
  """
  ranges.check(config)
  mesh = parallel.make_mesh(config.mesh)
  parallel.check_batch_size(config.data.batch_size, mesh, config.accumulate)
  family = make_family(config)
  init = state.make_init(config, family)
  like = parallel.abstract(init, mesh)
  take_step = make_step(config, family, like, mesh)
  data = processes.first_alone(lambda: sources.open_splits(config.data), 'data')
  given = warm_start.load(config, workdir, init_from)
  validate = make_validate(config, family, mesh, data['val'])
  earlier = given.runs if given else ()
  with processes.first_alone(
    lambda: claim(config, workdir, name, earlier), 'workdir'
  ):
    checkpoints = Checkpoints(workdir, config.checkpoint.keep)
    now = start(init, like, checkpoints, given)
    del given  # or its weights would stay on the devices
    begin = int(now.step)
    batches = parallel.prefetch(
      open_batches(config, data['train'], begin), mesh
    )
    clock = Clock(workdir, begin)
    with (
      preemption.Watch() as watch,  # until the last checkpoint is written
      checkpoints,
      open_writer(workdir, begin) as log,
      progress(name, config, begin) as bar,
    ):
      saved = minutes = processes.agree(clock.minutes())
      before = ()
      for done in range(begin + 1, config.steps + 1):
        batch, placed = next(batches)
        if done == 1 and processes.is_first():
          save_first_batch(config, batch, workdir)
        now, metrics = take_step(now, placed)
        # One step ahead of the devices and no more: SIGTERM waits for them all.
        jax.block_until_ready(before)
        before, scores = metrics, None
        if due(done, config.log.every_steps, config.steps):
          values = processes.scalars(metrics)
          check_skips(values, done, batch['id'])
          minutes = processes.agree(clock.minutes())
          log.scalars(done, 'train', {**values, 'minutes': minutes})
          show(bar, config, done, values)
        if due(done, config.eval.every_steps, config.steps):
          scores, picture = validate(state.weights(now))
          log.scalars(done, 'val', scores)
          log.picture(done, 'val', picture)
          if processes.is_first():
            figures.save(picture, workdir / 'samples' / f'{done:07d}.png')
        stop = watch.asked_to_stop(done)
        late = minutes - saved >= config.checkpoint.every_minutes > 0
        every = config.checkpoint.every_steps
        if stop or late or due(done, every, config.steps):
          checkpoints.save(now, done, scores)
          saved = minutes
        if stop:
          raise PreemptedError(
            f'asked to stop: saved step {done}; the same command goes on there'
          )


def open_writer(
  workdir: pathlib.Path, done: int
) -> writer.Writer | writer.NoWriter:
  """Returns the writer of the run; the first process alone has one."""
  if processes.is_first():
    return writer.Writer(workdir, done)
  return writer.NoWriter()


def due(done: int, every: int, last: int) -> bool:
  """Returns whether a step is one of every so many (0: none), or the last."""
  return done == last or bool(every and done % every == 0)


def claim(
  config: ConfigDict,
  workdir: pathlib.Path,
  name: str,
  earlier: Sequence[trained.Run],
) -> contextlib.AbstractContextManager:
  """Makes the workdir this config's, or checks that it is.

  Args:
    config: all settings.
    workdir: to be claimed.
    name: of the config.
    earlier: trainings of the weights that a new run starts from.

  Returns:
    The lock on it; the first process's holds for all.

  Raises:
    InputError: another run uses it, it holds checkpoints of another config, or
      an exported model.
  """
  if not processes.is_first():
    return contextlib.nullcontext()
  if exported.is_exported(workdir):
    raise InputError(
      f'{workdir}: holds an exported model; choose another --workdir'
    )
  history = [dataclasses.asdict(run) for run in earlier]
  with contextlib.ExitStack() as held:
    held.enter_context(writer.lock(workdir))
    if has_checkpoints(workdir):
      changed = changes(config_lib.load(workdir), config)
      if changed:
        raise InputError(
          f'{workdir} was made with another config ({"; ".join(changed)}): '
          'choose another --workdir, or delete this one'
        )
      if newest(workdir) >= config.steps:
        return held.pop_all()  # the record is of the code that trained it
      history = config_lib.load_record(workdir).get('history', ())
    config_lib.save(config, workdir, name, history)
    return held.pop_all()


def changes(old: ConfigDict, new: ConfigDict) -> list[str]:
  """Returns the differences that make it another experiment.

  A run may grow longer, and go on with other devices or less memory.
  """
  free = ('mesh.', *(f'{key}:' for key in ('parallel', 'accumulate', 'remat')))
  if new.steps >= old.steps:
    free = (*free, 'steps:')
  return [
    line
    for line in config_lib.differences(old, new)
    if not line.startswith(free)
  ]


def start(
  init: Callable[[], state.State],
  like: state.State,
  checkpoints: Checkpoints,
  given: trained.Model | None,
) -> state.State:
  """Returns the newest saved state, or a new one, where `like` has it."""
  latest = checkpoints.latest()
  # Others' view of a shared folder may be older.
  latest = int(processes.agree(-1 if latest is None else latest))
  if latest >= 0:
    return checkpoints.restore(latest, like)
  new = parallel.compile_init(init, like)()
  return warm_start.adopt(new, given) if given else new


def make_step(
  config: ConfigDict, family: Family, like: state.State, mesh: Mesh
) -> step.TrainStep:
  """Returns the compiled train step on raw uint8 batches.

  Args:
    config: all settings.
    family: made of the config.
    like: the abstract state on the mesh.
    mesh: of devices.

  Raises:
    InputError: config.parallel is unknown, or does not fit the mesh.
  """
  take_step = make_uncompiled_step(config, family, mesh)
  if parallel.is_mapped(config.parallel, mesh):
    return parallel.pmap_step(take_step, mesh)
  return parallel.compile_step(take_step, like, mesh)


def make_uncompiled_step(
  config: ConfigDict, family: Family, mesh: Mesh
) -> step.TrainStep:
  """Returns the train step as `make_step` compiles it."""
  prepare = make_prepare(
    ranges.blur_ranges(config),
    config.data.crop,
    lambda function: parallel.per_shard(function, mesh),
    config.data.plain_probability,
  )
  return step.make_train_step(
    family,
    optim.make_txs(config, family),
    prepare,
    config.seed,
    config.ema.decay,
    config.accumulate,
    parallel.spread(mesh),
  )


def open_batches(
  config: ConfigDict, source: sources.Examples, done: int
) -> Iterator[pipeline.NumpyBatch]:
  """Returns this process's training batches after `done` steps."""
  shard = pipeline.Shard(jax.process_index(), jax.process_count())
  return pipeline.train_batches(
    source, config.data, config.seed, done, shard, margin(config, source.real)
  )


def margin(config: ConfigDict, real: bool) -> int:
  """Returns the pixels around a crop that blurring is given to draw from."""
  return 0 if real else psf_size(ranges.blur_ranges(config)) // 2


def make_validate(
  config: ConfigDict, family: Family, mesh: Mesh, source: sources.Examples
) -> Validate:
  """Returns validate(weights), on the centres of pictures of a source."""
  raw = pipeline.centre_batch(
    source, config.data.crop, config.eval.images, mesh.size
  )
  raw = parallel.put_whole_batch(raw, mesh)
  degrade = trained.make_degrade(config, mesh)
  restore = trained.make_restore(config, family)

  @functools.partial(jax.jit, out_shardings=parallel.whole(mesh))
  def compute(params: Params, raw: Batch) -> tuple[list[Array], Metrics]:
    batch = degrade(raw)
    params = parallel.gathered(mesh)(params)
    restored = restore(params, batch['blur'], batch['id'])
    levels = metrics_lib.to_uint8_levels(restored)
    values = {
      name: metric(levels, batch['sharp'])
      for name, metric in metrics_lib.METRICS.items()
    }
    # The PSNR of a picture that came back exactly, all white as of a scan, is
    # infinite. NaN is left to show.
    scores = {
      name: jnp.mean(value, where=batch['mask'] & ~jnp.isinf(value))
      for name, value in values.items()
    }
    shown = [batch['blur'], restored, batch['sharp']]
    return [side[:SAMPLES] for side in shown], scores

  def validate(params: Params) -> tuple[dict[str, float], np.ndarray]:
    shown, scores = compute(params, raw)
    rows = zip(*processes.to_host(shown), strict=True)
    return processes.scalars(scores), figures.grid(list(rows))

  return validate


def save_first_batch(
  config: ConfigDict, raw: pipeline.NumpyBatch, workdir: pathlib.Path
) -> None:
  """Shows what training sees: blur and sharp of the first batch."""
  prepare = make_prepare(
    ranges.blur_ranges(config),
    config.data.crop,
    plain_probability=config.data.plain_probability,
  )
  some = {key: rows[:SAMPLES] for key, rows in raw.items()}
  keys = keys_lib.of_slots(config.seed, 0, len(some['id']))
  batch = jax.jit(prepare)(some, keys_lib.fold_all(keys, 0))
  rows = zip(*processes.to_host([batch['blur'], batch['sharp']]), strict=True)
  picture = figures.grid(list(rows))
  figures.save(picture, workdir / 'samples' / 'first_batch.png')


def check_skips(
  values: Mapping[str, float], done: int, ids: np.ndarray
) -> None:
  """Raises NonFiniteError after too many skipped steps in a row."""
  if values['skipped_in_a_row'] >= SKIPS_IN_A_ROW:
    raise NonFiniteError(
      f'step {done}: {values["skipped_in_a_row"]:.0f} steps in a row came to '
      'NaN or infinity and were skipped; the last one saw the examples with '
      f'ids {", ".join(map(str, ids))}; try a smaller '
      'config.optim.learning_rate or config.optim.clip'
    )


class Clock:
  """Minutes of training over all runs on one workdir."""

  def __init__(self, workdir: pathlib.Path, done: int):
    self._earlier = writer.minutes(workdir, done)
    self._begin = time.perf_counter()

  def minutes(self) -> float:
    """Minutes so far."""
    return self._earlier + (time.perf_counter() - self._begin) / 60


def progress(name: str, config: ConfigDict, done: int) -> tqdm.tqdm:
  """Returns a bar that counts images, for process 0."""
  batch_size = config.data.batch_size
  return tqdm.tqdm(
    desc=name,
    initial=done * batch_size,
    total=config.steps * batch_size,
    unit=' images',
    disable=not processes.is_first(),
    dynamic_ncols=True,
  )


def show(
  bar: tqdm.tqdm, config: ConfigDict, done: int, values: Mapping[str, float]
) -> None:
  """Moves the bar to this step, with losses and PSNR."""
  shown = {'step': f'{done}/{config.steps}'}
  for name, value in values.items():
    network, _, part = name.partition('/')
    if part in ('loss', 'psnr'):
      shown[part if network == 'net' else name] = f'{value:.3f}'
  bar.set_postfix(shown, refresh=False)
  bar.update(done * config.data.batch_size - bar.n)
