"""Whole files or none: written under a temporary name, then renamed."""

import contextlib
import errno
import os
import pathlib
import zlib
from collections.abc import Iterator

from deblur_jax.types import InputError

UNWRITABLE = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES
"""Errors of a disk that is full or that must not be written."""


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path` that takes its name at the end.

  The extension is kept, since libraries choose a format by it. After an error
  nothing is left behind, and an older file at `path` is as it was.

  Raises:
    InputError: the file cannot be written.
  """
  # Not of the name itself, which may be as long as names can be.
  mark = f'{zlib.crc32(os.fsencode(path.name)):08x}'
  temporary = path.with_name(f'.{mark}.{os.getpid()}{path.suffix}')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
    temporary.replace(path)
  except OSError as error:
    raise unwritable(path, error) from error
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)


def unwritable(path: object, error: Exception) -> InputError:
  """Returns what to raise where a file could not be written."""
  reason = getattr(error, 'strerror', None) or str(error)
  line = (reason.strip() or type(error).__name__).splitlines()[0]
  return InputError(f'{path or "a file"}: cannot be written ({line})')


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file whole."""
  with whole(path) as temporary:
    temporary.write_text(text, encoding='utf-8')
