"""A training and a whole experiment, killed again and again."""

import csv
import re
import signal
import time

import jax
import numpy as np
import pytest

from tests.runs import (
  finish,
  process,
  saved_state,
  saved_steps,
  scalars,
  tiny_file,
)

pytestmark = pytest.mark.slow

FAMILIES = 'cnn', 'gan'
MILESTONES = (
  'runs/cnn_tiny/config.json',
  'runs/cnn_tiny/checkpoints/[1-9]*',
  'runs/gan_tiny/checkpoints/[1-9]*',
  'report/evaluations/*/richardson*/pictures/*.png',
  'report/evaluations/*/wiener*/evaluation.json',
  'runs/cnn_tiny/pictures/*.png',
  'runs/gan_tiny/evaluation.json',
  'report/results.csv',
)
"""Each is the work of another stage; the kill comes up to a second later."""


def begin(folder):
  """Starts the comparison as a user in `folder` would."""
  for family in FAMILIES:
    tiny_file(folder / f'{family}_tiny.py', family=family, steps=12)
  configs = ','.join(f'{family}_tiny.py' for family in FAMILIES)
  options = '--output=report', '--cascade=cnn>gan', '--ensemble'
  return process('compare', f'--configs={configs}', *options, cwd=folder)


def kill_at(child, folder, milestone, delay):
  """Kills a command soon after a file appears; False if it was done."""
  while child.poll() is None and not list(folder.glob(milestone)):
    time.sleep(0.01)
  time.sleep(delay)
  child.send_signal(signal.SIGKILL)
  child.communicate()
  return child.returncode == -signal.SIGKILL


def results(folder):
  """Both tables and the report, without what a clock says."""
  found = {}
  for name in ('results.csv', 'per_image.csv'):
    with (folder / 'report' / name).open(newline='') as file:
      found[name] = list(csv.DictReader(file))
  report = (folder / 'report' / 'report.md').read_text()
  head, cost, rest = re.split('(?s)(### Cost\n.*?)(?=\n###)', report)
  assert 'ms per image' in cost
  return found, head, rest


def test_killed_at_any_point_the_same_command_goes_on(tmp_path):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  for folder in (whole, cut):
    folder.mkdir()
  finish(begin(whole))
  delays = np.random.default_rng(0).uniform(0, 1, len(MILESTONES))
  stops = zip(MILESTONES, delays, strict=True)
  killed = [kill_at(begin(cut), cut, *stop) for stop in stops]
  assert sum(killed) >= len(MILESTONES) - 1
  finish(begin(cut))
  assert results(cut) == results(whole)


KILLS = 20


@pytest.mark.parametrize('family', ['cnn', 'diffusion', 'gan'])
def test_training_killed_twenty_times_ends_as_if_never(family, tmp_path):
  """At random moments: at the start, while stepping, in the midst of a save."""
  config = tiny_file(
    tmp_path / 'tiny.py',
    family=family,
    model__name='unet' if family == 'diffusion' else 'nafnet',
    steps=400,
    checkpoint__every_steps=1,
    ema__decay=0.9,
  )
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'

  def begin(workdir):
    return process('main', f'--config={config}', f'--workdir={workdir}')

  finish(begin(whole))
  rng, killed, last = np.random.default_rng(1), 0, 0
  while killed < KILLS:
    child = begin(cut)
    if killed % 4:  # one of four may come before anything is restored
      milestone = f'checkpoints/{last + 1}*'
      killed += kill_at(child, cut, milestone, rng.uniform(0, 0.5))
    else:
      killed += kill_at(child, tmp_path, 'tiny.py', rng.uniform(0, 10))
    assert child.returncode == -signal.SIGKILL, 'it ended before the kills'
    now = max(saved_steps(cut), default=0)
    assert now >= last, 'a whole checkpoint was lost'
    last = now
  finish(begin(cut))
  expected, got = saved_state(whole), saved_state(cut)
  assert expected.step == got.step == 400
  jax.tree.map(np.testing.assert_array_equal, expected, got)
  assert scalars(whole) == scalars(cut)
