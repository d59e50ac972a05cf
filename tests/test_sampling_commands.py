"""What the commands offer for a diffusion model, as a user types it."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.runs import command, picture, save, untrained


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  # An untrained network says v = 0: some of the noise is left in a sample.
  changes = {
    'family': 'diffusion',
    'model.name': 'unet',
    'process.name': 'ddpm',
    'process.prediction': 'v',
    'sampler.nfe': 1,
  }
  return untrained(tmp_path_factory.mktemp('diffusion') / 'run', **changes)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data') / 'pairs'
  for side in ('blur', 'sharp'):
    for i in range(2):
      save(folder / side / f'{i}.png', picture(24, 24, seed=i))
  return folder


def test_sampler_flags_change_the_sampler_and_keep_the_scores(workdir, data):
  flags = 'evaluate', f'--workdir={workdir}', f'--data={data}'
  assert command(*flags).returncode == 0
  plain = workdir / 'evaluations' / 'pairs' / 'evaluation.json'
  before = plain.read_text()
  assert json.loads(before)['sampler']['nfe'] == 1
  done = command(*flags, '--sampler.nfe=3', '--sampler.name=ddpm')
  assert done.returncode == 0, done.stderr
  folder = workdir / 'evaluations' / 'pairs_name_ddpm_nfe_3'
  record = json.loads((folder / 'evaluation.json').read_text())
  assert record['sampler']['nfe'] == 3
  assert record['sampler']['name'] == 'ddpm'
  assert plain.read_text() == before


def test_sweep_writes_a_curve(workdir, data, tmp_path):
  output = tmp_path / 'sweep'
  done = command(
    'evaluate',
    f'--workdir={workdir}',
    f'--data={data}',
    '--sweep=nfe=1,2',
    f'--output={output}',
  )
  assert done.returncode == 0, done.stderr
  with (output / 'curve.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['nfe'] for row in rows] == ['1', '2']
  for row in rows:
    path = output / f'nfe_{row["nfe"]}' / 'evaluation.json'
    mean = json.loads(path.read_text())['metrics']['psnr']['output']['mean']
    assert float(row['psnr_output']) == pytest.approx(mean, rel=1e-4)
  with Image.open(output / 'curve.png') as curve:
    assert min(curve.size) > 300


def test_sweep_over_perfect_pictures(workdir, tmp_path):
  save(tmp_path / 'sharp' / '0.png', np.zeros((16, 16, 3), np.uint8))
  save(tmp_path / 'blur' / '0.png', np.zeros((16, 16, 3), np.uint8))
  flags = f'--workdir={workdir}', f'--data={tmp_path}', '--sweep=nfe=1'
  done = command('evaluate', *flags, '--temperature=0')
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('sweep', ['steps=1,2', 'nfe=one', 'nfe'])
def test_nonsense_sweeps_are_refused(workdir, sweep):
  done = command('evaluate', f'--workdir={workdir}', f'--sweep={sweep}')
  assert done.returncode == 2
  assert sweep in done.stderr


@pytest.mark.parametrize('flag', ['--nfe=-1', '--sweep=nfe=1,-1'])
def test_no_evaluations_are_refused(flag, workdir, data):
  done = command('evaluate', f'--workdir={workdir}', f'--data={data}', flag)
  assert done.returncode == 2
  assert 'config.sampler.nfe=-1: use 0 or more' in done.stderr


@pytest.mark.parametrize(
  'arguments',
  [
    ('evaluate', '--nfe=4'),
    ('evaluate', '--sweep=nfe=1,2'),
    ('restore', '--sampler.nfe=4', 'photo.png'),
  ],
)
def test_a_model_that_draws_no_samples_has_no_sampler(
  arguments, data, tmp_path
):
  save(tmp_path / 'photo.png', picture())
  module, flag, *photo = arguments
  given = [tmp_path / name for name in photo] or [f'--data={data}']
  cnn = untrained(tmp_path / 'cnn')
  done = command(module, f'--workdir={cnn}', flag, *given)
  assert done.returncode == 2
  assert '--sampler.nfe: untrained draws no samples' in done.stderr
  both = f'--cascade={cnn},{cnn}'
  assert command('restore', both, '--nfe=4', *photo or [data]).returncode == 2


def test_uncertainty_lies_beside_the_result(workdir, tmp_path):
  path = save(tmp_path / 'photo.png', picture(30, 21))
  done = command(
    'restore',
    f'--workdir={workdir}',
    '--uncertainty',
    '--samples=3',
    '--nfe=2',
    path,
  )
  assert done.returncode == 0, done.stderr
  with Image.open(tmp_path / 'photo_deblurred_uncertainty.png') as image:
    assert image.size == (21, 30)
    assert np.asarray(image).std() > 0
  done = command('restore', f'--workdir={workdir}', '--overwrite', tmp_path)
  assert done.returncode == 0, done.stderr
  assert len(list(tmp_path.iterdir())) == 3  # results are no inputs


def test_no_uncertainty_replaces_another(workdir, tmp_path):
  flags = (f'--workdir={workdir}', '--uncertainty', '--samples=2', '--nfe=1')
  photo = save(tmp_path / 'photo.png', picture())
  save(tmp_path / 'photo.jpg', picture())
  done = command('restore', *flags, tmp_path)
  assert done.returncode == 2
  assert 'photo_deblurred_uncertainty.png: the result of' in done.stderr
  kept = tmp_path / 'photo_deblurred_uncertainty.png'
  kept.write_bytes(b'mine')
  done = command('restore', *flags, photo)
  assert done.returncode == 1
  assert f'{kept}: is there already' in done.stderr
  assert kept.read_bytes() == b'mine'
  assert not (tmp_path / 'photo_deblurred.png').exists()


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--samples=1'], 'at least 2 samples'),
    (['--sampler.name=dpm_solver', '--eta=1'], '--sampler.eta'),
    (['--model=diffusion', '--nfe=0'], 'nfe 0'),
  ],
)
def test_samples_that_do_not_differ_have_no_uncertainty(
  workdir, tmp_path, flags, words
):
  path = save(tmp_path / 'photo.png', picture())
  if not any(flag.startswith('--model') for flag in flags):
    flags = [f'--workdir={workdir}', *flags]
  done = command('restore', '--uncertainty', *flags, path)
  assert done.returncode == 2
  assert words in done.stderr
  assert not (tmp_path / 'photo_deblurred.png').exists()


@pytest.mark.parametrize(
  ('changes', 'flags', 'unheeded'),
  [
    ({'process.name': 'indi'}, ['--spacing=2'], 'spacing'),
    ({'process.name': 'indi'}, ['--sweep=eta=0,1'], 'eta'),
    ({}, ['--sampler.name=dpm_solver', '--eta=1'], 'eta'),
  ],
)
def test_what_a_sampler_does_not_heed_is_refused(
  changes, flags, unheeded, data, tmp_path
):
  given = {'family': 'diffusion', 'model.name': 'unet', 'process.name': 'ddpm'}
  run = untrained(tmp_path / 'run', **given | changes)
  done = command('evaluate', f'--workdir={run}', f'--data={data}', *flags)
  assert done.returncode == 2
  assert f'--sampler.{unheeded}: the sampler of' in done.stderr
