"""Memory that stays with the process."""

import platform
import subprocess
import sys

import jax
import pytest

from deblur_jax import cli, heap

FAULTS = """
import resource, sys
import numpy as np
from deblur_jax import heap
if sys.argv[1] == 'keep':
  heap.keep()
def work():
  np.ones(2**24, np.float32)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
  work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(script, *arguments):
  """What a script prints in a process of its own."""
  return subprocess.run(
    [sys.executable, '-c', script, *arguments],
    check=True,
    capture_output=True,
    text=True,
  ).stdout


def faults(how):
  """Pages that Linux had to fill for five times the same 64 MiB."""
  return int(run(FAULTS, how))


pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='no glibc'
)


def test_memory_is_taken_once():
  without, kept = faults('leave'), faults('keep')
  assert without > 100  # else there is nothing to be won here
  assert kept < 20


RESIDENT = """
import numpy as np, psutil
from deblur_jax import heap
heap.keep()
process = psutil.Process()
start = process.memory_info().rss
np.ones(2**24, np.float32)
kept = process.memory_info().rss
heap.release()
print(kept - start, process.memory_info().rss - start)
"""


def test_memory_is_given_back_when_asked():
  kept, released = map(int, run(RESIDENT).split())
  assert kept > 2**26 - 2**21
  assert released < 2**23


TRIMMED = """
import ctypes, psutil
from deblur_jax import heap
heap.keep()
process = psutil.Process()
before = process.memory_info().vms
ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
print(before - process.memory_info().vms)
"""


def test_what_libraries_trim_leaves_the_end_of_the_heap():
  assert int(run(TRIMMED)) < 2**21


LIBC = """
import ctypes
from deblur_jax import heap
heap.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
"""

GAPS = """
import psutil
process = psutil.Process()
for size in (2000, 50_000):
  blocks = [libc.malloc(size) for _ in range(1000)]
  for gap in blocks[::2]:
    libc.free(gap)
  before = process.memory_info().rss
  heap.settle()
  grown = process.memory_info().rss - before
  new = [libc.malloc(size) for _ in range(400)]
  print(sum(block > blocks[-1] for block in new), grown)
"""


def test_settled_memory_is_taken_from_above_the_gaps():
  for line in run(LIBC + GAPS).splitlines():
    above, grown = map(int, line.split())
    assert above > 390  # each thread keeps seven pieces of a size at hand
    assert grown < 2**23  # what the gaps take of pages would be 25 MB


REUSED = """
heap.settle()
for _ in range(3):
  large = libc.malloc(2**29)
  libc.malloc(50_000)
  print(large)
  libc.free(large)
  libc.malloc(50_000)
"""


def test_what_is_small_leaves_large_buffers_their_place():
  assert len(set(run(LIBC + REUSED).split())) == 1


def test_memory_that_is_not_kept_does_not_settle():
  """Gaps have no end there."""
  script = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
from deblur_jax import heap
heap.settle()
print(bytearray(2**28)[0])
"""
  assert run(script) == '0\n'


def test_memory_settles_after_what_took_long_to_compile(monkeypatch):
  settled = []
  monkeypatch.setattr(heap, 'settle', lambda: settled.append(True))
  tell = jax.monitoring.record_event_duration_secs

  def command():
    tell(cli.COMPILED, 0.5)
    tell('/another', 2.0)
    assert not settled
    tell(cli.COMPILED, 2.0)

  with pytest.raises(SystemExit) as end:
    cli.run(command)
  tell(cli.COMPILED, 2.0)  # nobody listens any more
  assert (end.value.code, len(settled)) == (0, 1)


def test_a_container_has_what_its_limit_leaves(monkeypatch, tmp_path):
  job = tmp_path / 'cgroup' / 'job' / 'task'
  job.mkdir(parents=True)
  own = tmp_path / 'own'
  own.write_text('4:memory:/old\n0::/job/task\n')
  monkeypatch.setattr(heap, '_OWN_CGROUP', own)
  monkeypatch.setattr(heap, '_CGROUPS', tmp_path / 'cgroup')
  unlimited = heap.free()
  assert unlimited > 2**20

  def limit(folder, most):
    (folder / 'memory.max').write_text(most)
    (folder / 'memory.current').write_text('700000\n')
    (folder / 'memory.stat').write_text('anon 5\ninactive_file 200000\n')

  limit(job, 'max\n')
  assert heap.free() > 2**20
  limit(job.parent, '1000000\n')
  assert heap.free() == 500000
  limit(job.parent, '400000\n')
  assert heap.free() == 0
