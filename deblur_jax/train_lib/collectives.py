"""What devices send each other in a compiled function, read from its HLO."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
BITS = {'pred': 8, 'bf16': 16, 'f8e4m3fn': 8, 'f8e5m2': 8}

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) .*\{$')
_COLLECTIVE = re.compile(rf'= (.*?) ({"|".join(KINDS)})(?:-start)?\(')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\]')
_CALLED = re.compile(
  r'(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
  """One operation that all devices take part in.

  Attributes:
    kind: one of `KINDS`.
    arrays: (type, shape) of each of its results on one device.
    times: how often it runs, loops counted.
  """

  kind: str
  arrays: tuple[tuple[str, tuple[int, ...]], ...]
  times: int = 1

  @property
  def bytes(self) -> int:
    """Of its results on one device, in all its runs."""
    sizes = (math.prod(shape) * _bits(kind) for kind, shape in self.arrays)
    return self.times * sum(sizes) // 8


def collectives(hlo: str) -> list[Collective]:
  """Lists the collectives of a compiled module.

  Args:
    hlo: its text, as of `jax.stages.Compiled.as_text()`.

  Raises:
    ValueError: a collective in a loop of unknown length.
  """
  lines, entry = _computations(hlo)
  return list(_walk(lines, entry, 1))


def total_bytes(found: list[Collective]) -> dict[str, int]:
  """Sums the bytes of collectives by kind."""
  totals = collections.Counter()
  for one in found:
    totals[one.kind] += one.bytes
  return dict(totals)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of each computation by name, and the entry's name."""
  found, entry, name = {}, '', ''
  for line in hlo.splitlines():
    header = _COMPUTATION.match(line)
    if header:
      name = header[2]
      entry = name if header[1] else entry
      found[name] = []
    elif name:
      found[name].append(line)
  return found, entry


def _walk(
  computations: dict[str, list[str]], name: str, times: int
) -> Iterator[Collective]:
  for line in computations.get(name, []):
    collective = _COLLECTIVE.search(line)
    if collective:
      arrays = tuple(
        (kind, tuple(int(n) for n in shape.split(',') if n))
        for kind, shape in _ARRAY.findall(collective[1])
      )
      yield Collective(collective[2], arrays, times)
      continue
    called = _CALLED.findall(line)
    for branches in _BRANCHES.findall(line):
      called += [branch.strip(' %') for branch in branches.split(',')]
    turns = _TURNS.search(line)
    for other in called:
      inside = list(_walk(computations, other, 1))
      if inside and ' while(' in line and not turns:
        raise ValueError(f'a loop of unknown length: {line.strip()[:80]}')
      factor = times * int(turns[1]) if turns else times
      for one in inside:
        yield dataclasses.replace(one, times=one.times * factor)


def _bits(kind: str) -> int:
  """Returns the bits of an element: of f32, s8, u64, ... by its name."""
  return BITS.get(kind) or int(re.sub(r'\D', '', kind))
