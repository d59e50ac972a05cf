"""Memory that stays with the process: on a CPU, steps take half the time.

XLA takes the memory of each run of a compiled function from malloc, and gives
it back afterwards. By its defaults glibc hands large pieces back to Linux at
once, which has to fill every page of 4 KiB with zeros when it is asked again: a
step that needs a gigabyte waits for 250,000 of them, each time.
"""

import contextlib
import ctypes
import math
import mmap
import pathlib
import threading

import psutil

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_HUGE_PAGE = 2**21
_SHARE = 0.5
"""Of the machine's memory; what lies beyond comes in small pages."""
_LARGEST, _SMALLEST = 2**20, 2**10
"""Bytes. Of what is smaller, each thread has some of its own at hand."""
_WHOLE = 2**28
"""Bytes: more than any gap."""
_RESERVE = 2**24
"""Bytes, for what is small and comes afterwards."""
_kept = threading.Event()
_CGROUPS = pathlib.Path('/sys/fs/cgroup')
_OWN_CGROUP = pathlib.Path('/proc/self/cgroup')


def keep() -> None:
  """Has malloc keep what it was given, in pages of 2 MiB.

  To be called before threads begin. Does nothing where there is no glibc.
  """
  libc = _glibc()
  if not libc:
    return
  libc.mallopt(_ARENA_MAX, 1)
  libc.mallopt(_MMAP_MAX, 0)
  libc.mallopt(_TRIM_THRESHOLD, -1)
  # The heap grows by this once and stays so large, but takes up no memory yet.
  size = int(psutil.virtual_memory().total * _SHARE)
  begin = libc.malloc(size)
  if begin:
    _kept.set()
    first = -(-begin // _HUGE_PAGE) * _HUGE_PAGE
    length = (begin + size - first) // _HUGE_PAGE * _HUGE_PAGE
    libc.madvise(first, length, mmap.MADV_HUGEPAGE)
    # This stays above it, too large for a gap below. Protobuf trims the heap
    # now and then: that would cut off its end, and with it the pages' size.
    libc.malloc(_HUGE_PAGE)
    libc.free(begin)


def free() -> int:
  """Returns the bytes that are to be had: of the machine, or of a container.

  Docker and SLURM limit a control group (v2) or one that it lies in.
  """
  least = psutil.virtual_memory().available
  with contextlib.suppress(OSError):  # no Linux
    for line in _OWN_CGROUP.read_text().splitlines():
      if line.startswith('0::'):
        own = _CGROUPS / line.removeprefix('0::/')
        least = min(least, *map(_left, (own, *own.parents)))
  return max(0, least)


def _left(group: pathlib.Path) -> float:
  """Returns what a control group may still take; inf where it has no limit."""
  try:
    limit, used, stat = (
      (group / f'memory.{name}').read_text()
      for name in ('max', 'current', 'stat')
    )
    kept = dict(line.split() for line in stat.splitlines())
    # Files that were read stay in memory until it is wanted.
    return float(limit) - int(used) + int(kept['inactive_file'])
  except (OSError, ValueError):  # not there, or 'max'
    return math.inf


def release() -> None:
  """Gives back all memory that is not in use: before work of another size."""
  libc = _glibc()
  if libc:
    libc.malloc_trim(0)


def settle() -> None:
  """Has malloc forget the gaps that compiling leaves between what stays.

  There are some 80,000 after a train step. Threads that run it would wait for
  each other while malloc looks through them, and a step would take an eighth
  to a half longer. The gaps' pages are given back; they are never free again.
  Does nothing without `keep` before: gaps would have no end.
  """
  libc = _glibc()
  if not libc or not _kept.is_set():
    return
  libc.malloc_trim(0)
  whole = libc.malloc(_WHOLE)
  libc.free(whole)
  if not whole:
    return
  size = _LARGEST
  while size >= _SMALLEST:
    gap = libc.malloc(size)
    while gap and gap < whole:
      gap = libc.malloc(size)
    libc.free(gap)
    # By little, so that each gap is taken whole: its pages stay untouched.
    size = size * 31 // 32
  # What is small would else begin where a run has given its large buffers back:
  # the next run would not fit there, and take new memory. What parts the
  # reserve from all else is too large for a piece that the thread has at hand.
  reserve = libc.malloc(_RESERVE)
  libc.malloc(_LARGEST)
  libc.free(reserve)


def _glibc() -> ctypes.CDLL | None:
  libc = ctypes.CDLL(None)
  if not hasattr(libc, 'mallopt'):
    return None
  libc.malloc.restype = ctypes.c_void_p
  libc.malloc.argtypes = libc.malloc_trim.argtypes = [ctypes.c_size_t]
  libc.free.argtypes = [ctypes.c_void_p]
  libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
  return libc
