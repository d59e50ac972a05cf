"""Several real processes that train one model, and what ends them."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from deblur_jax.train_lib import processes, writer
from tests.runs import (
  ROOT,
  command,
  finish,
  process,
  saved_state,
  saved_steps,
  scalars,
  tiny_file,
)

LAUNCH = ROOT / 'launch'
MINUTE = 60


def local(count, devices, *flags):
  """Starts launch/local.sh; returns the Popen."""
  return subprocess.Popen(
    [LAUNCH / 'local.sh', str(count), *map(str, flags)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={
      **os.environ,
      'PYTHON': sys.executable,
      'PYTHONPATH': str(ROOT),
      'JAX_NUM_CPU_DEVICES': str(devices),
    },
  )


def by_step(workdir):
  """What was logged, by step and split."""
  return {(m.pop('step'), m.pop('split')): m for m in scalars(workdir)}


def wait_for_step(workdir, step):
  deadline = time.monotonic() + 5 * MINUTE
  while not any(m['step'] >= step for m in writer.read_metrics(workdir)):
    assert time.monotonic() < deadline
    time.sleep(0.02)


def assert_same_run(workdir, expected):
  """Same parameters and log within float32 round-off."""
  logged, wanted = by_step(workdir), by_step(expected)
  assert logged.keys() == wanted.keys()
  for key, values in wanted.items():
    for name, value in values.items():
      assert logged[key][name] == pytest.approx(value, rel=2e-3, abs=1e-5), name
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=5e-5),
    saved_state(workdir).params,
    saved_state(expected).params,
  )


def train_both_ways(folder, count, devices, **changes):
  changes |= {'steps': 5, 'checkpoint__every_steps': 5}
  config = tiny_file(folder / 'tiny.py', **changes)
  many, one = folder / 'many', folder / 'one'
  finish(local(count, devices, f'--config={config}', f'--workdir={many}'))
  done = command('main', f'--config={config}', f'--workdir={one}')
  assert done.returncode == 0, done.stderr
  return many, one


def test_two_processes_train_as_one(tmp_path):
  many, one = train_both_ways(tmp_path, 2, 2)
  assert_same_run(many, one)
  results = [
    json.loads((workdir / 'evaluation.json').read_text())['metrics']['psnr']
    for workdir in (many, one)
  ]
  assert results[0]['output']['mean'] == pytest.approx(
    results[1]['output']['mean'], abs=0.02
  )
  assert results[0]['input'] == results[1]['input']


@pytest.mark.slow
@pytest.mark.parametrize(('count', 'devices'), [(2, 2), (4, 1)])
@pytest.mark.parametrize('family', ['cnn', 'diffusion', 'gan'])
def test_processes_train_each_family_as_one(family, count, devices, tmp_path):
  changes = {'family': family, 'gan__loss': 'hinge'}
  if family == 'diffusion':
    changes['model__name'] = 'unet'
  assert_same_run(*train_both_ways(tmp_path, count, devices, **changes))


@pytest.mark.slow
def test_sigterm_saves_in_all_processes_and_one_process_goes_on(tmp_path):
  config = tiny_file(
    tmp_path / 'tiny.py', steps=200, checkpoint__every_steps=1000
  )
  flags = f'--config={config}', f'--workdir={tmp_path / "cut"}'
  child = local(2, 2, *flags)
  wait_for_step(tmp_path / 'cut', 20)
  before = max(line['step'] for line in scalars(tmp_path / 'cut'))
  child.send_signal(signal.SIGTERM)
  _, stderr = finish(child, 75)
  saved = int(saved_state(tmp_path / 'cut').step)
  assert stderr.count(f'saved step {saved};') == 2
  # They agree on the step after the latest one that any of them has begun.
  assert before <= saved <= before + 5
  finish(process('main', *flags, JAX_NUM_CPU_DEVICES='4'))
  whole = f'--workdir={tmp_path / "whole"}'
  assert command('main', flags[0], whole).returncode == 0
  assert by_step(tmp_path / 'cut').keys() == by_step(tmp_path / 'whole').keys()
  losses = [
    [
      line['net/loss']
      for line in scalars(tmp_path / name)
      if 'net/loss' in line
    ]
    for name in ('cut', 'whole')
  ]
  # Another order of the data would show at once.
  np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize('lost', [0, 1])
def test_a_lost_process_ends_the_other_and_is_named(lost, tmp_path):
  config = tiny_file(tmp_path / 'tiny.py', steps=400)
  flags = f'--config={config}', f'--workdir={tmp_path / "run"}'
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  children = [
    process(
      'main',
      *flags,
      '--distributed',
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES='2',
      JAX_PROCESS_ID=str(i),
      JAX_NUM_CPU_DEVICES='2',
    )
    for i in range(2)
  ]
  wait_for_step(tmp_path / 'run', 20)
  children[lost].kill()
  killed = time.monotonic()
  _, stderr = children[1 - lost].communicate(timeout=2 * MINUTE)
  assert time.monotonic() - killed < MINUTE
  assert children[1 - lost].returncode != 0
  # JAX's words; process 0 is the leader.
  named = 'leader task', r'Task 1 |heartbeats\):\s*1\b'
  assert re.search(named[lost], stderr), stderr[-3000:]
  finish(local(2, 2, *flags))
  assert saved_state(tmp_path / 'run').step == 400


@pytest.mark.slow
def test_eight_devices_save_and_any_others_go_on(tmp_path):
  config = tiny_file(
    tmp_path / 'tiny.py',
    data__batch_size=8,
    mesh__fsdp=-1,
    mesh__data=1,
    ema__decay=0.9,
  )
  saved = tmp_path / 'saved'
  flags = f'--config={config}', '--config.steps=4'
  finish(process('main', *flags, f'--workdir={saved}', JAX_NUM_CPU_DEVICES='8'))
  ways = {
    'one': lambda *f: process('main', *f, JAX_NUM_CPU_DEVICES='1'),
    'four': lambda *f: process('main', *f, JAX_NUM_CPU_DEVICES='4'),
    'two processes': lambda *f: local(2, 2, *f),
  }
  for way, start in ways.items():
    shutil.copytree(saved, tmp_path / way)
    finish(
      start(
        f'--config={config}',
        '--config.steps=7',
        f'--workdir={tmp_path / way}',
        '--config.mesh.data=-1',
        '--config.mesh.fsdp=1',
      )
    )
    assert saved_state(tmp_path / way).step == 7
    assert_same_run(tmp_path / way, tmp_path / 'one')


def last_line(stderr):
  """What is left to read of a command that has a progress bar."""
  return stderr.replace('\r', '\n').strip().splitlines()[-1]


@pytest.mark.slow
def test_full_disk_keeps_the_last_checkpoint(small_disk, tmp_path):
  config = tiny_file(tmp_path / 'tiny.py', steps=60)
  run = small_disk / 'run'
  flags = f'--config={config}', f'--workdir={run}'
  child = process('main', *flags)
  wait_for_step(run, 6)
  filler = small_disk / 'filler'
  with contextlib.suppress(OSError), filler.open('wb') as file:
    while True:
      file.write(bytes(4096))
      file.flush()
  _, stderr = finish(child, 2)
  # A coroutine of orbax, never awaited, may have the last word.
  lines = stderr.replace('\r', '\n').splitlines()
  errors = [line for line in lines if line.startswith('error: ')]
  assert len(errors) == 1
  assert 'cannot be written' in errors[0]
  assert 'No space left on device' in errors[0]
  kept = saved_steps(run)
  assert kept
  filler.unlink()
  finish(process('main', *flags))
  assert saved_steps(run)[-1] == 60


@pytest.mark.slow
def test_read_only_disk_is_one_line(small_disk, tmp_path):
  config = tiny_file(tmp_path / 'tiny.py', steps=300)
  run = small_disk / 'run'
  flags = f'--config={config}', f'--workdir={run}'
  finish(process('main', *flags, '--config.steps=4'))
  subprocess.run(['mount', '-o', 'remount,ro', small_disk], check=True)
  _, stderr = finish(process('main', *flags), 2)
  assert last_line(stderr).startswith('error: ')
  assert str(run) in last_line(stderr)
  assert saved_steps(run)[-1] == 4


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '8'}, False),  # no step: a login
    ({'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'SLURM_STEP_NUM_TASKS': '8'}, True),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'JAX_NUM_PROCESSES': '2'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'TPU_WORKER_HOSTNAMES': 't1v-0,t1v-1'}, True),
  ],
)
def test_others_are_expected_where_the_environment_says_so(
  environment, expected
):
  assert processes.expects_others(environment) == expected


def test_distributed_alone_says_what_is_missing(tmp_path):
  config = tiny_file(tmp_path / 'tiny.py')
  flags = f'--config={config}', f'--workdir={tmp_path / "run"}'
  _, stderr = finish(process('main', *flags, '--distributed'), 2)
  line = last_line(stderr)
  assert line.startswith('error: --distributed') and 'launch/local.sh' in line
  assert not (tmp_path / 'run').exists()


def script(name, *arguments, **environment):
  return subprocess.run(
    [LAUNCH / name, *arguments],
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
    env={**os.environ, **environment},
  )


@pytest.mark.parametrize('name', ['local.sh', 'tpu_vm.sh'])
def test_scripts_say_how_to_use_them(name):
  done = script(name)
  assert done.returncode == 2
  assert 'usage:' in done.stderr


def test_tpu_script_prints_every_command():
  done = script(
    'tpu_vm.sh',
    'all',
    '--config=configs/cnn_celeb.py',
    '--config.data.blur.sigma=(1.0, 2.0)',
    DRY_RUN='1',
    TPU_NAME='mine',
    TPU_TYPE='v5litepod-256',
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  for word in ('queued-resources create mine', 'scp', 'uv', 'main', 'tail'):
    assert any(word in line for line in lines), word
  assert '--accelerator-type=v5litepod-256' in lines[0]
  assert r'\(1.0' in done.stdout  # quoted for the shell of the worker


def test_scripts_are_executable():
  for path in pathlib.Path(LAUNCH).glob('*.sh'):
    assert os.access(path, os.X_OK), path
