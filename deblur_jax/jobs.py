"""Which picture files are to be deblurred, and where each result goes."""

import glob
import pathlib
from collections.abc import Sequence

from PIL import Image

from deblur_jax.data import pictures
from deblur_jax.imaging import picture as picture_lib
from deblur_jax.types import InputError

SUFFIX = '_deblurred'
UNCERTAINTY = '_uncertainty.png'

Job = tuple[pathlib.Path, pathlib.Path]
"""A picture file and where its result goes."""


def uncertainty_path(target: pathlib.Path) -> pathlib.Path:
  """Returns NAME_uncertainty.png beside a result."""
  return target.with_name(f'{target.stem}{UNCERTAINTY}')


def results(target: pathlib.Path, uncertainty: bool) -> list[pathlib.Path]:
  """Returns all files that restoring into `target` makes."""
  return [target, uncertainty_path(target)] if uncertainty else [target]


def plan(
  inputs: Sequence[pathlib.Path],
  output: pathlib.Path | None = None,
  uncertainty: bool = False,
) -> list[Job]:
  """Finds the pictures and says where each result goes.

  Args:
    inputs: picture files, folders searched for pictures, or globs.
    output: a file for one input, else a folder; None puts NAME_deblurred.EXT
      beside each input.
    uncertainty: whether a picture of it lies beside each result.

  Raises:
    InputError: an input is missing or empty, or a target cannot be right.
  """
  paths = [found for path in inputs for found in matches(path)]
  found = [pair for path in paths for pair in expand(path, output)]
  if output is None:
    jobs = beside([file for file, _ in found])
  elif picture_lib.is_writable(output) and not output.is_dir():
    if len(found) > 1 or paths[0].is_dir():
      raise InputError(f'{output}: a file cannot hold {len(found)} pictures')
    jobs = [(found[0][0], output)]
  elif output.is_file():
    raise InputError(f'{output}: neither a folder nor a name of a picture')
  elif is_picture_name(output) and not output.is_dir():
    raise InputError(f'{output}: no format that can be written')
  else:
    jobs = [(file, output / name) for file, name in found]
  jobs = list(dict.fromkeys(jobs))  # a file may be named, and in a folder too
  check_targets(jobs, uncertainty)
  return jobs


def beside(files: Sequence[pathlib.Path]) -> list[Job]:
  """Returns jobs whose results lie beside their inputs.

  A shell's *.jpg names results of an earlier run too: they are left out.
  """
  earlier = {
    made for file in files for made in results(with_suffix(file), True)
  }
  return [(file, with_suffix(file)) for file in files if file not in earlier]


def is_picture_name(path: pathlib.Path) -> bool:
  """Whether a path is named as pictures are."""
  known = pictures.EXTENSIONS | Image.registered_extensions().keys()
  return path.suffix.lower() in known


def matches(path: pathlib.Path) -> list[pathlib.Path]:
  """Returns a path itself, or, of a glob, the paths that it names."""
  if path.exists() or not glob.has_magic(str(path)):
    return [path]
  found = sorted(map(pathlib.Path, glob.glob(str(path), recursive=True)))
  found = [path for path in found if not is_result(path)]
  if not found:
    raise InputError(f'{path}: no file has such a name')
  return found


def is_result(path: pathlib.Path) -> bool:
  """Whether a file is named as those of an earlier run are."""
  return path.stem.endswith((SUFFIX, pathlib.Path(UNCERTAINTY).stem))


def expand(
  path: pathlib.Path, output: pathlib.Path | None
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Returns (file, name below the output folder) of a file or a folder.

  Results of an earlier run are not deblurred again: those beside their inputs,
  nor those in an output folder that lies within the folder.
  """
  if path.is_file():
    return [(path, pathlib.Path(path.name))]
  if not path.is_dir():
    raise InputError(f'{path}: no such file or folder')
  files = [file for file in pictures.list_pictures(path) if not is_result(file)]
  if output and path.resolve() in output.resolve().parents:
    made = output.resolve()
    files = [file for file in files if made not in file.resolve().parents]
  if not files:
    raise InputError(f'{path}: no pictures in this folder')
  return [(file, file.relative_to(path)) for file in files]


def with_suffix(path: pathlib.Path) -> pathlib.Path:
  """Returns NAME_deblurred.EXT beside the file."""
  return path.with_name(f'{path.stem}{SUFFIX}{path.suffix}')


def check_targets(jobs: Sequence[Job], uncertainty: bool) -> None:
  """Raises InputError if a result would replace an input or another result."""
  taken = {source.resolve(): str(source) for source, _ in jobs}
  for source, target in jobs:
    for made in results(target, uncertainty):
      own = made.resolve()
      if own in taken:
        raise InputError(
          f'{made}: the result of {source} would overwrite {taken[own]}; '
          'choose another --output, or one for each of several folders'
        )
      taken[own] = f'that of {source}'
