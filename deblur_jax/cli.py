"""How every command ends: one clear line and the documented exit status."""

import sys
from collections.abc import Callable

from absl import logging

from deblur_jax.types import CommandError

INTERRUPTED = 130


def run(command: Callable[[], int | None]) -> None:
  """Runs `command` and leaves the process with its exit status.

  Raises:
    SystemExit: always; after a `CommandError` with one line on stderr.
  """
  # tfds and orbax warn about what we do on purpose; errors are exceptions.
  logging.set_verbosity(logging.ERROR)
  try:
    status = command() or 0
  except CommandError as error:
    print(f'error: {error}', file=sys.stderr)
    status = error.status
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    status = INTERRUPTED
  sys.exit(status)
