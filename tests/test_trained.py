"""Campaigns of minutes: models trained for real, with all optimisations."""

import json
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT

pytestmark = pytest.mark.slow


def test_the_demo_model_gains(tmp_path):
  environment = dict(os.environ)
  del environment['JAX_DISABLE_MOST_OPTIMIZATIONS']
  flags = ['--config=configs/cnn_photos.py:small', f'--workdir={tmp_path}']
  done = subprocess.run(
    [sys.executable, '-m', 'deblur_jax.main', *flags],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  record = json.loads((tmp_path / 'evaluation.json').read_text())
  psnr = {k: v['mean'] for k, v in record['metrics']['psnr'].items()}
  assert psnr['output'] - psnr['input'] > 0.8
