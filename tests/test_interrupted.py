"""A whole experiment, killed again and again."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.runs import ROOT

pytestmark = pytest.mark.slow

CONFIG = """
import sys
sys.path.insert(0, {root!r})
from tests.runs import tiny_config
def get_config():
  config = tiny_config().unlock()
  config.family = {family!r}
  config.steps = 12
  return config
"""
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
    path = folder / f'{family}_tiny.py'
    path.write_text(CONFIG.format(root=str(ROOT), family=family))
  configs = ','.join(f'{family}_tiny.py' for family in FAMILIES)
  command = [
    *(sys.executable, '-m', 'deblur_jax.compare', f'--configs={configs}'),
    *('--output=report', '--cascade=cnn>gan', '--ensemble'),
  ]
  return subprocess.Popen(
    command,
    cwd=folder,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )


def finish(folder):
  child = begin(folder)
  _, stderr = child.communicate()
  assert child.returncode == 0, stderr[-2000:]


def kill_at(folder, milestone, delay):
  """Kills the comparison soon after a file appears; False if it was done."""
  child = begin(folder)
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
  finish(whole)
  delays = np.random.default_rng(0).uniform(0, 1, len(MILESTONES))
  stops = zip(MILESTONES, delays, strict=True)
  killed = [kill_at(cut, milestone, delay) for milestone, delay in stops]
  assert sum(killed) >= len(MILESTONES) - 1
  finish(cut)
  assert results(cut) == results(whole)
