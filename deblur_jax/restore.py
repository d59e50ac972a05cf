"""Deblurs picture files, or all pictures in folders.

python -m deblur_jax.restore [--model=NAME | --workdir=DIR]
  [--output=PATH] INPUT... [--cascade=MODEL,MODEL] [--ensemble] [--strength=S]
  [--uncertainty] [--sampler.nfe=N ...] [--device=cpu|gpu|tpu] [--tile=auto|N]
  [--memory=GIB] [--quality=Q] [--overwrite] [--max_pixels=N] [--json]
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from deblur_jax import cli, jobs, trained, zoo
from deblur_jax import files as files_lib
from deblur_jax.data import pictures
from deblur_jax.imaging import levels
from deblur_jax.imaging import picture as picture_lib
from deblur_jax.restorer import Restorer
from deblur_jax.runner import Result
from deblur_jax.types import InputError

UNCERTAIN_SAMPLES = 8
UNCERTAIN_GAIN = 10
"""Levels of an uncertainty picture for one grey level of deviation."""
SOME_FAILED = 1

Draw = Callable[[np.ndarray, str], Iterable[Result]]
"""(pixels, name) -> samples of the sharp picture, drawn one by one."""


@dataclasses.dataclass(frozen=True)
class Files:
  """How picture files are read and written.

  Attributes:
    quality: of JPEG, WebP and HEIC results, 1 to 100.
    overwrite: whether results may replace files.
    max_pixels: of an input.
    uncertainty: whether a picture of it lies beside each result.
  """

  quality: int = picture_lib.QUALITY
  overwrite: bool = False
  max_pixels: int = pictures.MAX_PIXELS
  uncertainty: bool = False


@dataclasses.dataclass(frozen=True)
class Done:
  """What became of one file; `error` is empty if all went well."""

  input: str
  output: str
  width: int = 0
  height: int = 0
  ms: int = 0
  tiles: int = 0
  warnings: tuple[str, ...] = ()
  error: str = ''

  def __str__(self) -> str:
    if self.error:
      return f'failed: {self.error}'
    facts = [f'{self.width}x{self.height}', f'{self.ms / 1000:.1f} s']
    if self.tiles > 1:
      facts.append(f'{self.tiles} tiles')
    return (
      f'{self.input} -> {self.output} ({"; ".join([*facts, *self.warnings])})'
    )


class Samples(NamedTuple):
  """What is kept of the samples of a picture: all would be gigabytes.

  Attributes:
    mean: f32[H,W,3].
    deviation: f32[H,W], averaged over the colours; None of a single one.
    tiles: that one was made of, at most.
  """

  mean: np.ndarray
  deviation: np.ndarray | None
  tiles: int


def restore(
  planned: Sequence[jobs.Job], draw: Draw, files: Files = Files()
) -> Iterator[Done]:
  """Deblurs files one by one; one that fails does not stop the others."""
  for source, target in planned:
    begin = time.perf_counter()
    try:
      done = deblur(source, target, draw, files)
    except InputError as error:
      done = Done(str(source), str(target), error=str(error))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
      if not is_memory(error):
        raise
      reason = f'{source}: out of memory; try --memory or --tile=256'
      done = Done(str(source), str(target), error=reason)
    except OSError as error:  # to look for the result: no name, or no entry
      reason = str(files_lib.unwritable(target, error))
      done = Done(str(source), str(target), error=reason)
    ms = round(1e3 * (time.perf_counter() - begin))
    yield dataclasses.replace(done, ms=ms)


def is_memory(error: Exception) -> bool:
  """Whether an error says that memory ran out."""
  return isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)


def deblur(
  source: pathlib.Path, target: pathlib.Path, draw: Draw, files: Files
) -> Done:
  """Deblurs one file: the mean of the samples, and how they differ.

  Raises:
    InputError: it cannot be read or written.
  """
  for made in jobs.results(target, files.uncertainty):
    if made.exists() and not files.overwrite:
      raise InputError(f'{made}: is there already; --overwrite replaces it')
  picture = picture_lib.read(source, files.max_pixels)
  if not picture_lib.is_writable(target):
    raise InputError(
      f'{target}: no format that can be written; name the result, as in '
      '--output=NAME.png'
    )
  made = gather(draw(picture.pixels, source.name))
  restored = levels.from_float(made.mean, picture.pixels.dtype)
  result = dataclasses.replace(picture, pixels=restored)
  lost = picture_lib.write(result, target, files.quality)
  if files.uncertainty:
    write_uncertainty(made.deviation, jobs.uncertainty_path(target))
  height, width = restored.shape[:2]
  return Done(
    str(source),
    str(target),
    width,
    height,
    tiles=made.tiles,
    warnings=(*picture.notes, *lost),
  )


def without_done(planned: Sequence[jobs.Job], files: Files) -> list[jobs.Job]:
  """Leaves out, and tells, those of several whose results are there already."""
  todo = [
    (source, target)
    for source, target in planned
    if not all(map(os.path.exists, jobs.results(target, files.uncertainty)))
  ]
  if len(todo) < len(planned):
    print(
      f'{len(planned) - len(todo)} of {len(planned)} results are there already '
      'and stay as they are; --overwrite makes them anew',
      file=sys.stderr,
    )
  return todo


def gather(drawn: Iterable[Result]) -> Samples:
  """Takes samples together as they come (Welford 1962)."""
  count = tiles = 0
  mean = squares = deviation = None
  for result in drawn:
    count, tiles = count + 1, max(tiles, result.tiles)
    if count == 1:
      mean = result.pixels
    elif count == 2:
      mean, squares = mean.copy(), np.zeros_like(mean)
    if count > 1:
      add(result.pixels, count, mean, squares)
    del result  # or it would be kept while the next one is drawn
  if count > 1:
    squares /= count - 1
    deviation = np.sqrt(squares, out=squares).mean(-1)
  return Samples(mean, deviation, tiles)


def add(
  pixels: np.ndarray, count: int, mean: np.ndarray, squares: np.ndarray
) -> None:
  """Adds sample number `count` to the mean and to the squares, in place.

  Args:
    pixels: of the sample: f32[H,W,3].
    count: of samples, with this one.
    mean: of those before.
    squares: of their deviations from it, summed.
  """
  for row in range(0, len(pixels), levels.ROWS):
    some = slice(row, row + levels.ROWS)
    change = pixels[some] - mean[some]
    mean[some] += change / count
    squares[some] += change * (pixels[some] - mean[some])


def write_uncertainty(deviation: np.ndarray, path: pathlib.Path) -> None:
  """Writes the deviation f32[H,W] of samples as a picture."""
  grey = np.repeat(
    levels.from_float(UNCERTAIN_GAIN * deviation, np.uint8)[..., None], 3, -1
  )
  picture_lib.write(picture_lib.Picture(grey, grey=True), path)


def choose_device(name: str) -> None:
  """Has JAX run on a kind of device; to be called before it runs at all.

  Raises:
    InputError: there is none here.
  """
  if name != 'gpu':  # CUDA and others: JAX would want all, and takes one itself
    jax.config.update('jax_platforms', name)
  try:
    jax.devices(name)
  except RuntimeError:
    # JAX's own reason is of the last backend that it tried, whichever it was.
    raise InputError(
      f'--device={name}: none here that JAX can use; see Install in the README'
    ) from None


def make_draw(flags: argparse.Namespace) -> Draw:
  """Loads what the flags ask for.

  Raises:
    InputError: no such model, or one that cannot do it.
  """
  if flags.cascade and (flags.model or flags.workdir):
    raise InputError('--cascade names all models: drop --model and --workdir')
  workdirs = flags.cascade or [zoo.chosen(flags)]
  sampler, samples = trained.sampler_of(flags), 1
  if flags.uncertainty:
    samples = sampler.get('samples', UNCERTAIN_SAMPLES)
    sampler = {**sampler, 'samples': 1}
  models = [trained.load(workdir, sampler=sampler) for workdir in workdirs]
  if flags.uncertainty:
    check_uncertainty(models, samples)
  trained.check_sampler(sampler, models)
  options = ('strength', 'ensemble', 'memory', 'tile')
  run = Restorer(models, **{name: getattr(flags, name) for name in options})
  return lambda pixels, name: (
    run.restore(pixels, name, sample) for sample in range(samples)
  )


def check_uncertainty(models: Sequence[trained.Model], samples: int) -> None:
  """Raises InputError where samples could not differ, or are too few."""
  drawing = [model for model in models if model.family.draws]
  if not drawing:
    names = ', '.join(model.name for model in models)
    raise InputError(
      f'--uncertainty: {names} draws no samples; use a diffusion model'
    )
  if not any(model.config.sampler.nfe for model in drawing):
    raise InputError('--uncertainty: without evaluations (nfe 0) none differ')
  if samples < 2:
    raise InputError('--uncertainty takes at least 2 samples')


def percent(text: str) -> int:
  """Parses 1 to 100."""
  if not text.isdecimal() or not 1 <= int(text) <= 100:
    raise argparse.ArgumentTypeError(f'{text} is not 1 to 100')
  return int(text)


def tile_side(text: str) -> int:
  """Parses px, or 'auto' to 0."""
  if text != 'auto' and not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text} is neither auto nor a side in px')
  return 0 if text == 'auto' else int(text)


def parse() -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.Parser(prog='deblur-jax', description=__doc__.split('\n')[0])
  parser.add_argument('inputs', nargs='+', type=pathlib.Path, metavar='INPUT')
  zoo.add_flags(parser)
  add_method_flags(parser)
  add_file_flags(parser)
  trained.add_sampler_flags(parser)
  return parser.parse_args()


def add_method_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that say how pictures are restored."""
  add = parser.add_argument
  add(
    '--cascade',
    type=lambda text: [zoo.find(part) for part in text.split(',')],
    metavar='MODEL,MODEL',
    help='names or workdirs, each given the result of the one before',
  )
  add(
    '--ensemble',
    action='store_true',
    help='mean over eight flips and turns: more PSNR, eight times slower',
  )
  add('--strength', type=float, default=1.0, help='0 (input) to 1 (result)')
  add(
    '--uncertainty',
    action='store_true',
    help='restore to the mean of 8 samples, and write their deviation too',
  )
  add('--device', choices=('cpu', 'gpu', 'tpu'), help='default: the fastest')
  add(
    '--tile',
    type=tile_side,
    default=0,
    metavar='auto|N',
    help='side of the tiles of large pictures; default: as memory allows',
  )
  add(
    '--memory',
    type=float,
    default=0.0,
    metavar='GIB',
    help='that may be taken; default: 60 %% of what is free',
  )


def add_file_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that say how files are read and written."""
  add = parser.add_argument
  add(
    '--output',
    type=pathlib.Path,
    help='file or folder; default: NAME_deblurred.EXT beside each input',
  )
  add(
    '--quality',
    type=percent,
    default=picture_lib.QUALITY,
    metavar='1-100',
    help=f'of JPEG, WebP and HEIC; default: {picture_lib.QUALITY}',
  )
  add('--overwrite', action='store_true', help='results may replace files')
  add(
    '--max_pixels',
    type=int,
    default=pictures.MAX_PIXELS,
    help='refuse larger pictures; default: %(default)s',
  )
  add('--json', action='store_true', help='print a line of JSON for each file')


def main() -> int:
  """The command; see the module docstring."""
  flags = parse()
  planned = jobs.plan(flags.inputs, flags.output, flags.uncertainty)
  if flags.device:
    choose_device(flags.device)
  files = Files(
    flags.quality, flags.overwrite, flags.max_pixels, flags.uncertainty
  )
  draw, failed = make_draw(flags), 0
  if len(planned) > 1 and not flags.overwrite:
    planned = without_done(planned, files)
  bar = tqdm.tqdm(
    restore(planned, draw, files),
    'deblurring',
    total=len(planned),
    unit=' pictures',
    dynamic_ncols=True,
  )
  for done in bar:
    failed += bool(done.error)
    if flags.json:
      bar.write(json.dumps(dataclasses.asdict(done)))
    else:
      bar.write(str(done), file=sys.stderr if done.error else sys.stdout)
  if failed and len(planned) > 1:
    bar.write(f'{failed} of {len(planned)} failed', file=sys.stderr)
  return SOME_FAILED if failed else 0


def run() -> None:
  """Entry point of the console script."""
  cli.run(main)


if __name__ == '__main__':
  run()
