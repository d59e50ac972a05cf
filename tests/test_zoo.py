"""Models as two small files, and the ones in the box."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from deblur_jax import config as config_lib
from deblur_jax import evaluate, trained, zoo
from deblur_jax.restorer import Restorer
from deblur_jax.train_lib import exported
from deblur_jax.types import InputError
from tests.runs import (
  PICTURES,
  command,
  picture,
  save,
  tiny_file,
  untrained,
)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """Of a GAN: it has a network that restores nothing."""
  return untrained(tmp_path_factory.mktemp('runs') / 'gan', family='gan')


@pytest.fixture(scope='module')
def folder(workdir):
  folder = workdir.parent / 'exported'
  trained.export(workdir, folder)
  return folder


@pytest.fixture
def broken(folder, tmp_path):
  """A copy to be damaged."""
  return shutil.copytree(folder, tmp_path / 'copy')


def test_the_model_comes_back_rounded_to_16_bits(workdir, folder):
  there, back = trained.load(workdir), trained.load(folder)
  assert (back.name, back.step) == (there.name, there.step)
  differ = config_lib.differences(there.config, back.config)
  assert differ == [f'data.manual_dir: {PICTURES} -> ']
  kept = {name: there.params[name] for name in back.params}
  rounded = jax.tree.map(lambda leaf: np.float16(leaf), kept)
  jax.tree.map(np.testing.assert_array_equal, rounded, back.params)


def test_a_discriminator_stays_behind(workdir, folder):
  assert set(trained.load(workdir).params) > set(trained.load(folder).params)
  assert (folder / exported.FILE).stat().st_size < 1e5


def test_it_restores_and_is_scored_like_a_workdir(
  folder, tmp_path, monkeypatch
):
  monkeypatch.setenv('DEBLUR_DATA', str(PICTURES))
  photo = save(tmp_path / 'photo.png', picture())
  done = command('restore', f'--workdir={folder}', photo)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'photo_deblurred.png').is_file()
  done = command(
    'evaluate', f'--workdir={folder}', f'--output={tmp_path / "scores"}'
  )
  assert done.returncode == 0, done.stderr
  record = json.loads((tmp_path / 'scores' / 'evaluation.json').read_text())
  assert record['step'] == 1


def test_damaged_weights_are_refused(broken):
  path = broken / exported.FILE
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  with pytest.raises(InputError, match=r'model.safetensors: damaged'):
    trained.load(broken)


def test_weights_of_another_network_are_refused(broken):
  path = broken / config_lib.FILE
  record = json.loads(path.read_text())
  record['config']['model']['nafnet']['width'] = 16
  path.write_text(json.dumps(record))
  with pytest.raises(InputError, match='holds another network'):
    trained.load(broken)


def test_a_record_without_the_hash_is_refused(broken):
  path = broken / config_lib.FILE
  record = json.loads(path.read_text())
  del record['origin']
  path.write_text(json.dumps(record))
  with pytest.raises(InputError, match='does not tell of model.safetensors'):
    trained.load(broken)


def test_another_step_is_refused(folder):
  assert trained.load(folder, '1').step == 1
  with pytest.raises(InputError, match='holds step 1 alone'):
    trained.load(folder, '2')


def test_weights_too_large_for_16_bits_are_refused(tmp_path):
  origin = exported.Origin(1, 0.0, '')
  with pytest.raises(InputError, match='net/kernel is too large for 16 bits'):
    exported.write(
      tmp_path, {}, {'net': {'kernel': np.float32([1, 1e6])}}, origin
    )
  assert not list(tmp_path.iterdir())


def test_no_training_begins_in_such_a_folder(folder, tmp_path):
  file = tiny_file(tmp_path / 'config.py')
  done = command('main', f'--config={file}', f'--workdir={folder}')
  assert done.returncode == 2
  assert 'holds an exported model' in done.stderr


def test_the_box_is_listed_and_checked(folder, tmp_path, monkeypatch):
  shutil.copytree(folder, tmp_path / 'mine')
  monkeypatch.setattr(zoo, 'FOLDER', tmp_path)
  done = command('zoo.__main__')
  assert done.returncode == 0, done.stderr
  row = next(line for line in done.stdout.splitlines() if 'mine' in line)
  assert [cell.strip() for cell in row.split('|')][1:4] == [
    'mine',
    'gan',
    'nafnet',
  ]
  assert zoo.path('mine') == tmp_path / 'mine'
  with pytest.raises(InputError, match=r'no such model in the box \(there: mi'):
    zoo.path('yours')
  (tmp_path / 'mine' / exported.FILE).write_bytes(b'')
  assert command('zoo.__main__').returncode == 2


def test_one_is_taken_by_name_or_by_default(folder, tmp_path, monkeypatch):
  for name in (zoo.DEFAULT, 'gan'):
    shutil.copytree(folder, tmp_path / name)
  monkeypatch.setattr(zoo, 'FOLDER', tmp_path)
  photo = save(tmp_path / 'photo.png', picture())
  out = tmp_path / 'photo_deblurred.png'
  for flags in ([], ['--model=gan'], [f'--cascade=gan,{folder}']):
    done = command('restore', *flags, photo)
    assert done.returncode == 0, done.stderr
    out.unlink()
  Restorer.load()(picture())
  done = command('restore', '--model=vae', photo)
  assert done.returncode == 2
  assert (
    '--model=vae: no such model in the box (there: cnn, gan)' in done.stderr
  )
  both = command('restore', '--model=gan', f'--workdir={folder}', photo)
  assert both.returncode == 2


def test_it_is_scored_without_a_file_in_the_box(folder, tmp_path, monkeypatch):
  box, place = tmp_path / 'box', tmp_path / 'place'
  shutil.copytree(folder, box / 'gan')
  before = sorted(box.rglob('*'))
  monkeypatch.setattr(zoo, 'FOLDER', box)
  place.mkdir()
  monkeypatch.chdir(place)
  evaluate.evaluate(zoo.path('gan'), data=str(PICTURES))
  assert sorted(box.rglob('*')) == before
  assert zoo.home(pathlib.Path('../box/gan')) == pathlib.Path('runs/gan')
  assert list(place.glob('runs/gan/evaluations/*/evaluation.json'))


def test_exported_models_are_compared_on_what_is_given(folder, tmp_path):
  flags = f'--workdirs={folder}', f'--output={tmp_path / "report"}'
  done = command('compare', *flags)
  assert done.returncode == 2
  assert 'an exported model; give --data' in done.stderr
  test = tiny_file(tmp_path / 'other.py')
  done = command('compare', *flags, f'--data={test}')
  assert done.returncode == 0, done.stderr
  rows = (tmp_path / 'report' / 'results.csv').read_text()
  assert {line.split(',')[3] for line in rows.splitlines()[1:]} == {'other'}


def test_a_workdir_is_exported_by_command(workdir, tmp_path):
  flags = f'--export={workdir}', f'--output={tmp_path / "out"}'
  done = command('zoo.__main__', *flags)
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('python -m deblur_jax.restore --workdir=')
  assert trained.load(tmp_path / 'out').step == 1
  assert command('zoo.__main__', flags[0]).returncode == 2
