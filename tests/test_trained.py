"""Campaigns of minutes: models trained for real, with all optimisations."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import contenders, evaluate, trained
from tests.artefacts import nyquist_energy
from tests.runs import ROOT

pytestmark = pytest.mark.slow

GAINS = {'cnn': 0.8, 'diffusion': 0.3, 'gan': 0.4}
"""PSNR that each family's demo model must gain, in dB."""


@pytest.fixture(scope='module', params=GAINS)
def demo(request, tmp_path_factory):
  """The family, the workdir of its demo model, and the model."""
  workdir = tmp_path_factory.mktemp(request.param)
  environment = dict(os.environ)
  del environment['JAX_DISABLE_MOST_OPTIMIZATIONS']
  config = f'configs/{request.param}_photos.py:small'
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'deblur_jax.main'),
      *(f'--config={config}', f'--workdir={workdir}'),
    ],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return request.param, workdir, trained.load(workdir)


def test_the_demo_model_gains(demo):
  family, workdir, _ = demo
  record = json.loads((workdir / 'evaluation.json').read_text())
  psnr = {k: v['mean'] for k, v in record['metrics']['psnr'].items()}
  assert psnr['output'] - psnr['input'] > GAINS[family]


def test_no_grid_on_flat_patches(demo):
  _, _, model = demo
  test = evaluate.open_test(model.config, None)
  energies = []
  for scored in evaluate.score_all(contenders.of_model(model), test):
    _, restored, sharp = scored.pictures
    *pair, count = nyquist_energy(restored, sharp)
    assert count > 20
    energies.append(pair)
  restored, sharp = np.mean(energies, 0)
  assert restored <= 1.1 * sharp + (0.5 / 255) ** 2


def test_flat_colours_come_back(demo):
  family, _, model = demo
  restore = jax.jit(trained.make_restore(model.config, model.family))
  colours = np.float32([(33, 25, 23), (0, 0, 0), (255, 255, 255), (128,) * 3])
  flat = np.broadcast_to(colours[:, None, None], (len(colours), 72, 90, 3))
  restored = restore(model.params, flat / 255, jnp.arange(len(colours)))
  change = np.asarray(restored * 255 - flat)[:, 8:-8, 8:-8]
  assert np.abs(change.mean((1, 2))).max() <= 2
  if family != 'diffusion':  # a sample of so short a training holds grain
    assert np.abs(change).max() <= 3
