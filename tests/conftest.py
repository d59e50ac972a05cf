"""One place for what all tests share: devices, cache, tiny runs."""

import os
import pathlib
import subprocess
import tempfile

CACHE = pathlib.Path(tempfile.gettempdir()) / 'deblur_jax_test_cache'
PREPARED = tempfile.TemporaryDirectory(prefix='deblur_jax_tfds_')
# Child processes inherit these; set before JAX and tfds are imported.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = 'true'  # compiles sooner
os.environ['TFDS_DATA_DIR'] = PREPARED.name

import jax  # noqa: E402
import pytest  # noqa: E402

from tests import runs  # noqa: E402

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
runs.save_pictures()


@pytest.fixture
def small_disk(tmp_path):
  """A file system of ten megabytes that can be made read-only."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=10m', 'tmpfs', disk],
    capture_output=True,
    text=True,
    check=False,
  )
  if mounted.returncode:
    pytest.skip(f'mounting is not allowed here: {mounted.stderr.strip()}')
  yield disk
  subprocess.run(['umount', '-l', disk], check=True)
