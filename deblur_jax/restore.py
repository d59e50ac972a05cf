"""Deblurs picture files, or all pictures in folders.

python -m deblur_jax.restore [--workdir=DIR] [--output=PATH] [--uncertainty]
  [--sampler.nfe=N ...] INPUT...
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from deblur_jax import cli, evaluate, trained
from deblur_jax.data import pictures, sources
from deblur_jax.imaging import picture as picture_lib
from deblur_jax.types import InputError

SUFFIX = '_deblurred'
UNCERTAINTY = '_uncertainty.png'
UNCERTAIN_SAMPLES = 8
UNCERTAIN_GAIN = 10
"""Levels of an uncertainty picture for one grey level of deviation."""
SOME_FAILED = 1
RUNS = pathlib.Path('runs')


def restore(
  inputs: Sequence[pathlib.Path],
  workdir: pathlib.Path | None = None,
  output: pathlib.Path | None = None,
  sampler: trained.Sampler = trained.NO_CHANGES,
  uncertainty: bool = False,
) -> list[str]:
  """Deblurs files and folders; a file that fails does not stop the others.

  Args:
    inputs: picture files, or folders searched for pictures.
    workdir: of the model; None for the newest finished one below runs/.
    output: a file for one input, else a folder; None puts NAME_deblurred.EXT
      beside each input.
    sampler: what to change in `config.sampler`.
    uncertainty: also writes RESULT_uncertainty.png, ten times the standard
      deviation over samples; the result is then their mean.

  Returns:
    One line for each file that failed.

  Raises:
    InputError: nothing could start.
  """
  jobs = plan(inputs, output)
  workdir = workdir or newest_workdir()
  samples = 1
  if uncertainty:
    samples = sampler.get('samples', UNCERTAIN_SAMPLES)
    sampler = {**sampler, 'samples': 1}
  model = trained.load(workdir, sampler=sampler)
  if uncertainty and (model.config.family != 'diffusion' or samples < 2):
    raise InputError(
      f'--uncertainty: {workdir} draws no samples; use a diffusion model, and '
      'at least 2 samples'
    )
  draw = make_draw(model, samples)
  failures = []
  bar = tqdm.tqdm(jobs, 'deblurring', unit=' pictures', dynamic_ncols=True)
  for source, target in bar:
    try:
      deblur(source, target, draw, uncertainty)
    except InputError as error:
      failures.append(str(error))
      bar.write(f'failed: {error}', file=sys.stderr)
  return failures


Draw = Callable[[np.ndarray, str], list[np.ndarray]]
"""(blur u8[H,W,3], name) -> samples f32[H,W,3]."""


def make_draw(model: trained.Model, samples: int) -> Draw:
  """Returns what draws so many samples of the sharp picture."""
  restore_batch = jax.jit(trained.make_restore(model.config, model.family))

  def draw(pixels: np.ndarray, name: str) -> list[np.ndarray]:
    ids = jnp.array([sources.example_id(name)], jnp.int32)
    blur = jnp.asarray(pixels[None] / np.float32(255))
    return [
      np.asarray(restore_batch(model.params, blur, ids, jnp.int32(sample))[0])
      for sample in range(samples)
    ]

  return draw


def deblur(
  source: pathlib.Path, target: pathlib.Path, draw: Draw, uncertainty: bool
) -> None:
  """Deblurs one file: the mean of the samples, and how they differ."""
  picture = picture_lib.read(source)
  drawn = draw(picture.pixels, source.name)
  mean = trained.to_uint8(np.mean(drawn, axis=0))
  picture_lib.write(dataclasses.replace(picture, pixels=mean), target)
  if uncertainty:
    write_uncertainty(drawn, target)


def write_uncertainty(
  drawn: Sequence[np.ndarray], target: pathlib.Path
) -> None:
  """Writes the deviation of samples f32[H,W,3], averaged over the colours."""
  deviation = UNCERTAIN_GAIN * np.std(drawn, axis=0, ddof=1).mean(-1)
  grey = np.repeat(trained.to_uint8(deviation)[..., None], 3, axis=-1)
  path = target.with_name(f'{target.stem}{UNCERTAINTY}')
  picture_lib.write(picture_lib.Picture(grey, grey=True), path)


def plan(
  inputs: Sequence[pathlib.Path], output: pathlib.Path | None
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Returns (source, target) for every picture.

  Raises:
    InputError: an input is missing or empty, or a target cannot be right.
  """
  found = [pair for path in inputs for pair in expand(path)]
  single = len(found) == 1 and inputs[0].is_file()
  if output is None:
    jobs = [(file, with_suffix(file)) for file, _ in found]
  elif output.suffix.lower() in pictures.EXTENSIONS:
    if not single:
      raise InputError(f'{output}: a file cannot hold {len(found)} pictures')
    jobs = [(found[0][0], output)]
  else:
    jobs = [(file, output / name) for file, name in found]
  check_targets(jobs)
  return jobs


def expand(path: pathlib.Path) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Returns (file, name below the output folder) of a file or a folder.

  Results of an earlier run are not deblurred again.
  """
  if path.is_file():
    return [(path, pathlib.Path(path.name))]
  if not path.is_dir():
    raise InputError(f'{path}: no such file or folder')
  files = [
    file
    for file in pictures.list_pictures(path)
    if not file.stem.endswith((SUFFIX, pathlib.Path(UNCERTAINTY).stem))
  ]
  if not files:
    raise InputError(f'{path}: no pictures in this folder')
  return [(file, file.relative_to(path)) for file in files]


def with_suffix(path: pathlib.Path) -> pathlib.Path:
  """Returns NAME_deblurred.EXT beside the file."""
  return path.with_name(f'{path.stem}{SUFFIX}{path.suffix}')


def check_targets(jobs: Sequence[tuple[pathlib.Path, pathlib.Path]]) -> None:
  """Raises InputError if a result would replace an input or another result."""
  taken = {source.resolve(): source for source, _ in jobs}
  for source, target in jobs:
    own = target.resolve()
    if own in taken:
      raise InputError(
        f'{target}: the result of {source} would overwrite {taken[own]}; '
        'choose another --output'
      )
    taken[own] = target


def newest_workdir() -> pathlib.Path:
  """Returns the workdir below runs/ that was evaluated last.

  Raises:
    InputError: there is none.
  """
  finished = sorted(
    RUNS.glob(f'*/{evaluate.JSON}'), key=lambda path: path.stat().st_mtime
  )
  if not finished:
    raise InputError(
      f'no finished model below {RUNS}/: give --workdir=DIR, or train one: '
      'python -m deblur_jax.main --config=configs/cnn_photos.py:small'
    )
  return finished[-1].parent


def main() -> int:
  """The command; see the module docstring."""
  parser = argparse.ArgumentParser(
    prog='deblur-jax', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  add('inputs', nargs='+', type=pathlib.Path, metavar='INPUT')
  add('--workdir', type=pathlib.Path, help='model; default: newest in runs/')
  add(
    '--output',
    type=pathlib.Path,
    help='file or folder; default: NAME_deblurred.EXT beside each input',
  )
  add(
    '--uncertainty',
    action='store_true',
    help='also write the deviation over samples (diffusion)',
  )
  trained.add_sampler_flags(parser)
  flags = parser.parse_args()
  sampler = trained.sampler_of(flags)
  failures = restore(
    flags.inputs, flags.workdir, flags.output, sampler, flags.uncertainty
  )
  return SOME_FAILED if failures else 0


def run() -> None:
  """Entry point of the console script."""
  cli.run(main)


if __name__ == '__main__':
  run()
