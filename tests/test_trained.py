"""Campaigns of minutes: models trained for real, with all optimisations."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage

from deblur_jax import config as config_lib
from deblur_jax import contenders, glitches, judge, trained, zoo
from deblur_jax.imaging import tiling
from deblur_jax.models import build
from deblur_jax.restorer import Restorer
from tests.artefacts import nyquist_energy, psnr, seam_ratio
from tests.runs import ROOT, process, save

pytestmark = pytest.mark.slow

GAINS = {'cnn': 0.8, 'diffusion': 0.3, 'gan': 0.4}
"""PSNR that a model of each family must gain on the demo's test, in dB."""


@pytest.fixture(
  scope='module',
  params=[*GAINS, *map(zoo.path, zoo.names())],
  ids=[*GAINS, *(f'{name}-in-the-box' for name in zoo.names())],
)
def workdir(request, tmp_path_factory):
  """Of the demo's model of each family, and of each model in the box."""
  if request.param not in GAINS:
    return request.param
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
  return workdir


@pytest.fixture(scope='module')
def model(workdir):
  return trained.load(workdir)


def draws(model):
  """Whether a result is one of many."""
  return model.config.family == 'diffusion'


@pytest.fixture(scope='module')
def photographs():
  """Those of the demo's test."""
  config = config_lib.load_file(str(ROOT / 'configs/cnn_photos.py:small'))
  return judge.open_test(config)


def test_photographs_gain(model, photographs, tmp_path):
  contender = contenders.of_model(model)
  record = judge.judge(contender, photographs, tmp_path)
  psnr = {k: v['mean'] for k, v in record['metrics']['psnr'].items()}
  assert psnr['output'] - psnr['input'] > GAINS[model.config.family]


def test_no_grid_on_flat_patches(model, photographs):
  energies, counts = [], []
  for scored in judge.score_all(contenders.of_model(model), photographs):
    _, restored, sharp = scored.pictures
    *pair, count = nyquist_energy(restored, sharp)
    energies.append(pair)
    counts.append(count)
  assert sum(counts) > 1000
  restored, sharp = np.average(energies, axis=0, weights=counts)
  assert restored <= 1.1 * sharp + (0.5 / 255) ** 2


def test_flat_colours_come_back_up_to_the_border(model):
  restore = jax.jit(trained.make_restore(model.config, model.family))
  colours = np.float32([(33, 25, 23), (0, 0, 0), (255, 255, 255), (128,) * 3])
  flat = np.broadcast_to(colours[:, None, None], (len(colours), 72, 90, 3))
  restored = restore(model.params, flat / 255, jnp.arange(len(colours)))
  change = np.asarray(restored * 255 - flat)
  assert np.abs(change.mean((1, 2))).max() <= 2
  if not draws(model):  # a sample of so short a training holds grain
    assert np.abs(change).max() <= 3
    centre = change[:, 30:-30, 30:-30].mean((1, 2), keepdims=True)
    assert np.abs(change - centre).max() <= 1


def test_tiles_leave_no_seams(model):
  pixels = blurred_photograph()
  side = tiling.side_for(build.window(model.config.data.crop))
  whole = Restorer([model]).restore(pixels, 'a').pixels
  tiled = Restorer([model], tile=side).restore(pixels, 'a')
  assert tiled.tiles > 1
  assert psnr(whole, tiled.pixels) >= (40 if draws(model) else 50)
  assert seam_ratio(whole, tiled.pixels, side) <= 1.05


def blurred_photograph():
  """Another photograph than those of the demo, u8[512,512,3]."""
  sharp = skimage.data.immunohistochemistry()
  return np.round(scipy.ndimage.gaussian_filter(sharp, (1.5, 1.5, 0)))


@pytest.mark.parametrize(
  ('megapixels', 'gib'), [(24, 4), (100, 6)], ids=['24', '100']
)
def test_large_photographs_fit_into_memory(
  workdir, model, tmp_path, megapixels, gib
):
  if megapixels > 24 and model.config.family != 'cnn':
    pytest.skip('takes the others too long')
  small = blurred_photograph()
  rows = round((megapixels * 1e6 * 2 / 3) ** 0.5)
  repeats = -(-rows // len(small)), -(-rows * 3 // 2 // len(small)), 1
  whole = np.tile(small, repeats)[:rows, : rows * 3 // 2]
  photo = save(tmp_path / 'photo.png', whole)
  environment = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '0'}
  flags = f'--workdir={workdir}', '--json', photo
  child = process('restore', *flags, **environment)
  stdout = child.stdout.read()
  _, status, usage = os.wait4(child.pid, 0)
  assert status == 0, child.stderr.read()[-2000:]
  done = json.loads(stdout)
  assert done['width'] * done['height'] == whole.shape[0] * whole.shape[1]
  assert usage.ru_maxrss * 1024 <= gib * 2**30
  print(f'{megapixels} Mpx: {megapixels / done["ms"] * 1e3:.2f} Mpx/s')


@pytest.mark.parametrize('name', zoo.names())
def test_the_box_invents_nothing(name):
  found = glitches.search(Restorer.load(name))
  assert [one for one in found if not one.clean] == []
