"""How every command begins and ends: a compilation cache; one clear line."""

import argparse
import io
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import jax
from absl import logging

from deblur_jax import files, heap
from deblur_jax.types import CommandError, InputError

INTERRUPTED = 130

CACHE = pathlib.Path('~/.cache/deblur_jax/compiled')
CACHE_BYTES = 2 * 1024**3

COMPILED = '/jax/core/compile/backend_compile_duration'
"""What JAX calls the event of a program that has been compiled, or found so."""


class Parser(argparse.ArgumentParser):
  """Tells of a wrong command line in one line, as of any other input."""

  def error(self, message: str) -> NoReturn:
    """Raises InputError with what argparse found."""
    raise InputError(f'{message} (see --help)')


def run(command: Callable[[], int | None]) -> None:
  """Runs `command` and leaves the process with its exit status.

  Raises:
    SystemExit: always; after a `CommandError` with one line on stderr.
  """
  if isinstance(sys.stdout, io.TextIOWrapper):
    # Names of files may be of bytes that are no text.
    sys.stdout.reconfigure(errors='backslashreplace')
  # tfds and orbax warn about what we do on purpose; what they log as errors is
  # raised as well, and told in one line.
  logging.set_verbosity(logging.FATAL)
  warnings.filterwarnings('ignore', module=r'PIL\.')  # of damaged metadata
  # Of the compilation cache, that another process tidied up meanwhile.
  warnings.filterwarnings('ignore', '.* persistent compilation cache')
  heap.keep()
  jax.monitoring.register_event_duration_secs_listener(settle_after)
  keep_compiled()
  try:
    status = command() or 0
  except CommandError as error:
    print(f'error: {error}', file=sys.stderr)
    status = error.status
  except PermissionError as error:  # to read or to write: it does not say
    reason = error.strerror or error
    print(f'error: {error.filename or "a file"}: {reason}', file=sys.stderr)
    status = InputError.status
  except OSError as error:
    if error.errno not in files.UNWRITABLE:
      raise
    print(f'error: {files.unwritable(error.filename, error)}', file=sys.stderr)
    status = InputError.status
  except UnicodeEncodeError as error:
    name = ascii(error.object)
    print(
      f'error: {name}: a name that is not UTF-8; rename it', file=sys.stderr
    )
    status = InputError.status
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    status = INTERRUPTED
  finally:
    jax.monitoring.unregister_event_duration_listener(settle_after)
  sys.exit(status)


def settle_after(event: str, seconds: float, **_) -> None:
  """Has memory settle after an event of JAX: a program that is not a small one.

  Args:
    event: its name.
    seconds: that it took.
    **_: what else JAX tells of it.
  """
  if event == COMPILED and seconds > 1:
    heap.settle()


def keep_compiled() -> None:
  """Lets later commands find what this one compiles.

  $JAX_COMPILATION_CACHE_DIR chooses another place.
  """
  if not jax.config.jax_compilation_cache_dir:
    folder = str(CACHE.expanduser())
    jax.config.update('jax_compilation_cache_dir', folder)
    jax.config.update('jax_compilation_cache_max_size', CACHE_BYTES)
