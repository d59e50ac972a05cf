"""What the name of an example says: its id, and the photograph it shows."""

import re
import zlib
from collections.abc import Sequence


def example_id(name: str) -> int:
  """Returns the id that keys an example's randomness in evaluation."""
  return zlib.crc32(name.encode(errors='surrogateescape')) & 0x7FFFFFFF


def variants(name: str, repeats: int) -> list[str]:
  """Returns the names of a picture under `repeats` synthetic blurs."""
  return [f'{name}@{i}' for i in range(repeats)] if repeats > 1 else [name]


def photographs(names: Sequence[str]) -> list[str]:
  """Returns the picture that each example of a test was made from.

  Where names are not just all `variants`, each is a picture of its own: users'
  pictures may be called IMG@2, too.
  """
  stems = [re.sub(r'@\d+$', '', name) for name in names]
  pictures = set(stems)
  repeats = len(names) // max(len(pictures), 1)
  made = {name for stem in pictures for name in variants(stem, repeats)}
  return stems if made == set(names) else list(names)
