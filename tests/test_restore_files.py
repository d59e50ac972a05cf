"""The restore command: which files it takes, and what it says of the others."""

import contextlib
import os
import signal
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, features

from deblur_jax import zoo
from deblur_jax.data import pictures
from deblur_jax.restorer import Restorer
from deblur_jax.types import InputError
from tests.runs import (
  finish,
  json_lines,
  lively_model,
  picture,
  process,
  random_channels,
  restored,
  save,
  save_channels,
  untrained,
)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp('run') / 'identity')


def test_globs_and_folders_are_searched(workdir, tmp_path):
  for name in ('a.png', 'b.png', 'c.jpg', 'deep/d.png'):
    save(tmp_path / 'in' / name, picture())
  output = tmp_path / 'out'
  status, stdout, _ = restored(
    workdir, tmp_path / 'in' / '[ab].png', f'--output={output}', '--json'
  )
  assert status == 0
  assert sorted(p.name for p in output.iterdir()) == ['a.png', 'b.png']
  flag = f'--output={output}'
  status, stdout, stderr = restored(
    workdir, tmp_path / 'in', tmp_path / 'in' / 'a.png', flag
  )
  assert status == 0
  assert '2 of 4 results are there already and stay' in stderr
  assert stdout.count(' -> ') == 2
  status, _, stderr = restored(workdir, tmp_path / 'in' / 'a.png', flag)
  assert status == 1
  assert 'a.png: is there already; --overwrite replaces it' in stderr
  assert (output / 'deep' / 'd.png').is_file()
  status, stdout, _ = restored(
    workdir, tmp_path / 'in', f'--output={output}', '--overwrite'
  )
  assert status == 0
  assert stdout.count(' -> ') == 4
  for hidden in ('.trash/e.png', '._a.png'):
    save(tmp_path / 'in' / hidden, picture())
  beside = tmp_path / 'in' / '*.png'
  for asked in (tmp_path / 'in', beside):
    status, stdout, _ = restored(workdir, asked, '--overwrite')
    assert status == 0
    assert stdout.count(' -> ') == (4 if asked != beside else 2)
  assert not list(tmp_path.rglob('.*_deblurred*'))
  assert not list(tmp_path.rglob('*_deblurred_deblurred*'))
  unquoted = sorted((tmp_path / 'in').glob('[!.]*.png'))
  assert len(unquoted) == 4
  save(tmp_path / 'in' / 'e.png', picture())
  status, stdout, stderr = restored(
    workdir, *unquoted, tmp_path / 'in' / 'e.png'
  )
  assert status == 0, stderr
  assert '2 of 3 results are there already' in stderr
  assert stdout.count(' -> ') == 1


@pytest.mark.parametrize('name', ['photo', 'photo.psd'])
def test_what_cannot_be_written_is_told_and_others_go_on(
  name, workdir, tmp_path
):
  odd = save(tmp_path / 'photo.png', picture()).rename(tmp_path / name)
  plain = save(tmp_path / 'plain.png', picture())
  status, stdout, stderr = restored(workdir, odd, plain)
  assert status == 1
  assert f'failed: {tmp_path}/photo_deblurred' in stderr
  assert '--output=NAME.png' in stderr and '1 of 2 failed' in stderr
  assert stdout.count(' -> ') == 1
  status, _, _ = restored(workdir, odd, f'--output={tmp_path}/named.png')
  assert status == 0
  assert (tmp_path / 'named.png').is_file()


def test_a_file_is_no_folder_of_results(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  taken = tmp_path / 'notes'
  taken.write_text('mine')
  status, _, stderr = restored(workdir, photo, f'--output={taken}')
  assert status == 2
  assert f'{taken}: neither a folder nor a name of a picture' in stderr


def test_models_are_chosen_in_one_way(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  status, _, stderr = restored(workdir, photo, '--cascade=cnn,gan')
  assert status == 2
  assert 'drop --model and --workdir' in stderr
  with pytest.raises(InputError, match='gna: neither a model in the box'):
    zoo.find('gna')


@pytest.mark.parametrize('name', ['out.psd', 'v1.2'])
def test_an_output_that_cannot_be_written_becomes_no_folder(
  workdir, tmp_path, name
):
  path, made = save(tmp_path / 'photo.png', picture()), tmp_path / name
  status, _, stderr = restored(workdir, path, f'--output={made}')
  if name.endswith('.psd'):  # Pillow reads it
    assert status == 2
    assert f'{made}: no format that can be written' in stderr
    assert not made.exists()
  else:
    assert status == 0
    assert made.is_dir()


def test_folders_with_equal_names_are_told(workdir, tmp_path):
  for name in 'ab':
    save(tmp_path / name / 'photo.png', picture())
  status, _, stderr = restored(
    workdir, tmp_path / 'a', tmp_path / 'b', f'--output={tmp_path / "out"}'
  )
  assert status == 2
  for name in 'ab':
    assert str(tmp_path / name / 'photo.png') in stderr
  assert 'one for each of several folders' in stderr


def test_a_result_may_not_overwrite_an_input(workdir, tmp_path):
  path = save(tmp_path / 'photo.png', picture())
  before = path.read_bytes()
  status, _, stderr = restored(
    workdir, path, f'--output={path}', '--overwrite', '--strength=0'
  )
  assert status == 2
  assert f'{path}: the result of {path} would overwrite' in stderr
  assert path.read_bytes() == before


def bomb(path):
  """A small PNG that says it holds 900 megapixels."""
  header = b'\x89PNG\r\n\x1a\n'
  size = (30_000).to_bytes(4) * 2
  chunk = b'IHDR' + size + b'\x08\x02\x00\x00\x00'
  body = len(chunk[4:]).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
  path.write_bytes(header + body + b'\x00\x00\x00\x00IDAT')


def cut(path, share=0.5):
  path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def pages(path):
  """A TIFF file of two pages, the second of which says no width."""
  first, second = (Image.fromarray(picture(seed=i)) for i in range(2))
  first.save(path, save_all=True, append_images=[second])
  content = bytearray(path.read_bytes())
  width = struct.pack('<H', 0x0100)
  place = content.rindex(width + struct.pack('<HI', 4, 1))
  content[place : place + 2] = struct.pack('<H', 0x00FF)
  path.write_bytes(content)


def test_bad_files_are_told_and_the_others_done(workdir, tmp_path):
  names = 'cut.png', 'cut.jpg', 'cut16.png', 'cut16.tif'
  for name in names:
    if '16' in name:
      channels = random_channels(50, 50, 'RGB', np.uint16, 0)
      save_channels(tmp_path / name, channels)
    else:
      save(tmp_path / name, picture(50, 50))
    cut(tmp_path / name)
  (tmp_path / 'rubbish.jpg').write_bytes(b'rubbish' * 100)
  (tmp_path / 'empty.png').touch()
  bomb(tmp_path / 'bomb.png')
  pages(tmp_path / 'pages.tif')
  save(tmp_path / 'z_good.png', picture())
  status, stdout, stderr = restored(workdir, tmp_path, '--json')
  assert status == 1
  done = {os.path.basename(line['input']): line for line in json_lines(stdout)}
  bad = {*names, 'rubbish.jpg', 'empty.png', 'bomb.png', 'pages.tif'}
  assert set(done) == bad | {'z_good.png'}
  for name in bad:
    assert str(tmp_path / name) in done[name]['error']
    assert '\n' not in done[name]['error']
  assert '30000x30000' in done['bomb.png']['error']
  assert 'max_pixels' in done['bomb.png']['error']
  assert 'broken picture (Missing dim' in done['pages.tif']['error']
  assert not done['z_good.png']['error']
  results = [p.name for p in tmp_path.iterdir() if 'deblurred' in p.name]
  assert results == ['z_good_deblurred.png']


def test_smaller_limit_of_pixels(workdir, tmp_path):
  path = save(tmp_path / 'photo.png', picture(20, 20))
  status, _, stderr = restored(workdir, path, '--max_pixels=399')
  assert status == 1
  assert 'failed: ' in stderr and '20x20 pixels' in stderr


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['{tmp}/none.png'], 'no such file'),
    (['{tmp}/*.png'], 'no file has such a name'),
    (['{tmp}'], 'no pictures in this folder'),
    (['{photo}', '--strength=2'], '--strength=2'),
    (['{photo}', '--tile=5'], '--tile=5'),
    (['{photo}', '--uncertainty'], '--uncertainty'),
    (['{photo}', '--cascade=nowhere,nowhere'], 'nowhere'),
  ],
)
def test_what_cannot_start_is_one_line(workdir, tmp_path, arguments, words):
  photo = save(tmp_path / 'photos' / 'photo.png', picture())
  (tmp_path / 'empty').mkdir()
  given = [
    text.format(tmp=tmp_path / 'empty', photo=photo) for text in arguments
  ]
  status, _, stderr = restored(workdir, *given)
  assert status == 2
  assert stderr.count('\n') == 1 and stderr.startswith('error: ')
  assert words in stderr


def test_output_that_cannot_be_written_is_one_line(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  (tmp_path / 'file').touch()
  status, _, stderr = restored(
    workdir, photo, f'--output={tmp_path}/file/out.png'
  )
  assert status == 1
  failed = [line for line in stderr.splitlines() if 'failed: ' in line]
  assert len(failed) == 1 and 'cannot be written' in failed[0]


def test_full_disk_is_told_for_each_file(workdir, tmp_path, small_disk):
  for name in ('a', 'b'):
    save(tmp_path / 'in' / f'{name}.png', picture(60, 60))
  with contextlib.suppress(OSError), (small_disk / 'filler').open('wb') as file:
    while True:
      file.write(bytes(4096))
      file.flush()
  output = small_disk / 'out'
  status, _, stderr = restored(workdir, tmp_path / 'in', f'--output={output}')
  assert status == 1
  failed = [line for line in stderr.splitlines() if 'failed: ' in line]
  assert len(failed) == 2
  for name, line in zip(('a', 'b'), failed, strict=True):
    assert f'{output}/{name}.png' in line and 'No space left' in line
  (small_disk / 'filler').unlink()
  status, _, stderr = restored(workdir, tmp_path / 'in', f'--output={output}')
  assert status == 0, stderr
  assert sorted(p.name for p in output.iterdir()) == ['a.png', 'b.png']


def test_an_output_folder_among_the_inputs_is_left_out(workdir, tmp_path):
  photos, output = tmp_path / 'photos', tmp_path / 'photos' / 'sharp'
  save(photos / 'a.png', picture())
  flags = workdir, photos, f'--output={output}'
  for again in ([], ['--overwrite']):
    status, stdout, stderr = restored(*flags, *again)
    assert status == 0, stderr
    assert stdout.count(' -> ') == 1
  assert [p.name for p in output.iterdir()] == ['a.png']


def test_names_that_are_long_or_no_text(workdir, tmp_path):
  """No file system knows names of more than 255 bytes."""
  long = save(tmp_path / f'{"x" * 245}.png', picture())
  odd = tmp_path / os.fsdecode(b'caf\xe9.png')
  odd.write_bytes(long.read_bytes())
  fine = save(tmp_path / 'y.png', picture())
  status, stdout, stderr = restored(workdir, long, odd, fine)
  assert status == 1
  assert 'xxx_deblurred.png: cannot be written (File name too long)' in stderr
  assert stdout.count(' -> ') == 2
  assert odd.with_name(f'{odd.stem}_deblurred.png').is_file()
  status, _, stderr = restored(workdir, long, f'--output={tmp_path / "out"}')
  assert status == 0, stderr


@pytest.mark.skipif(not features.check('avif'), reason='Pillow without AVIF')
def test_avif_is_a_format_like_any_other(workdir, tmp_path):
  photo, made = save(tmp_path / 'a.png', picture()), tmp_path / 'a.avif'
  assert restored(workdir, photo, f'--output={made}')[0] == 0
  status, _, stderr = restored(workdir, made, photo)
  assert status == 0, stderr


def test_device_that_is_not_here_is_one_line(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  flags = f'--workdir={workdir}', '--device=tpu', photo
  _, stderr = finish(process('restore', *flags, JAX_PLATFORMS=''), 2)
  assert stderr.splitlines()[-1].startswith('error: --device=tpu: none here')


def test_interrupted_leaves_only_whole_files(workdir, tmp_path):
  for i in range(200):
    save(tmp_path / 'in' / f'{i:03}.png', picture(150, 150, seed=i))
  output = tmp_path / 'out'
  flags = f'--workdir={workdir}', f'--output={output}', tmp_path / 'in'
  # Where this process was told to ignore it, the child would ignore it as well.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  child = process('restore', *flags)
  signal.signal(signal.SIGINT, before)
  while len(list(output.glob('*.png'))) < 5 and child.poll() is None:
    time.sleep(0.01)
  child.send_signal(signal.SIGINT)
  _, stderr = child.communicate()
  assert child.returncode == 130, stderr[-2000:]
  assert stderr.strip().endswith('interrupted')
  made = sorted(output.iterdir())
  assert 0 < len(made) < 200
  for path in made:
    assert path.name[0] != '.'
    expected = pictures.read_rgb(tmp_path / 'in' / path.name)
    np.testing.assert_array_equal(pictures.read_rgb(path), expected)


def test_one_call_from_python(workdir):
  pixels = picture(30, 20)
  restored = Restorer.load(workdir, tile=160)(pixels)
  np.testing.assert_array_equal(restored, pixels)
  floats = Restorer([lively_model()])(pixels / np.float32(255))
  assert floats.dtype == np.float32
  assert np.isfinite(floats).all()
  of_pillow = Restorer.load(workdir)(Image.fromarray(pixels))
  np.testing.assert_array_equal(of_pillow, pixels)


@pytest.mark.parametrize('wrong', [255.0, np.nan, -0.1])
def test_floats_that_are_no_picture_are_refused_from_python(workdir, wrong):
  pixels = np.full((8, 8, 3), 0.5, np.float32)
  pixels[0, 0, 0] = wrong
  with pytest.raises(InputError, match='are no picture'):
    Restorer.load(workdir)(pixels)


@pytest.mark.parametrize('sampler', [{'steps': 4}, {'nfe': '4'}])
def test_samplers_that_are_none_are_refused_from_python(workdir, sampler):
  with pytest.raises(InputError, match='sampler.(steps: no such|nfe=.*no int)'):
    Restorer.load(workdir, sampler=sampler)
