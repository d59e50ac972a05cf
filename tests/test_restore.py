"""The restore command on all that a photographer may give it."""

import contextlib
import json
import os
import signal
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import pyvips
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from deblur_jax import restore, zoo
from deblur_jax.data import pictures
from deblur_jax.imaging import levels
from deblur_jax.imaging import picture as picture_lib
from deblur_jax.restorer import Restorer
from deblur_jax.runner import Result
from deblur_jax.types import InputError
from tests.runs import (
  command,
  finish,
  lively_model,
  picture,
  process,
  save,
  untrained,
)

ORIENTATION, MAKER = 0x0112, 0x010F


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp('run') / 'identity')


def run(workdir, *arguments):
  done = command('restore', f'--workdir={workdir}', *arguments)
  return done.returncode, done.stdout, done.stderr


def lines(text):
  return [json.loads(line) for line in text.splitlines()]


# --- What goes in comes out ---

CHANNELS = {'L': 1, 'LA': 2, 'RGB': 3, 'RGBA': 4}


def unchanged(pixels, name):
  """What a network gives that changes nothing."""
  del name
  return [Result(levels.to_float(pixels), 1)]


def random_channels(height, width, mode, dtype, seed):
  """Random [H,W,C]; what is grey has to stay so."""
  rng = np.random.default_rng(seed)
  shape = height, width, CHANNELS[mode]
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save_channels(path, channels):
  """Writes [H,W,C] of either depth, with another writer than ours."""
  if channels.dtype == np.uint8:
    flat = channels[..., 0] if channels.shape[2] == 1 else channels
    Image.fromarray(flat).save(path)
  else:
    kind = 'grey16' if channels.shape[2] < 3 else 'rgb16'
    pyvips.Image.new_from_array(channels, interpretation=kind).write_to_file(
      str(path)
    )


def load_channels(path):
  image = pyvips.Image.new_from_file(str(path), revalidate=True)
  return np.atleast_3d(image.numpy())


@settings(deadline=None, max_examples=60)
@given(
  height=st.integers(1, 40),
  width=st.integers(1, 40),
  mode=st.sampled_from(sorted(CHANNELS)),
  dtype=st.sampled_from([np.uint8, np.uint16]),
  extension=st.sampled_from(['png', 'tif']),
  seed=st.integers(0, 99),
)
def test_size_mode_and_depth_are_kept(
  tmp_path_factory, height, width, mode, dtype, extension, seed
):
  # Pillow cannot open these, which nobody has met.
  assume((mode, dtype, extension) != ('LA', np.uint16, 'tif'))
  folder = tmp_path_factory.mktemp('kept')
  source, target = (folder / f'{name}.{extension}' for name in ('in', 'out'))
  channels = random_channels(height, width, mode, dtype, seed)
  save_channels(source, channels)
  [done] = restore.restore([(source, target)], unchanged)
  assert not done.error
  assert (done.width, done.height, done.warnings) == (width, height, ())
  got = load_channels(target)
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, channels)


@pytest.mark.parametrize('mode', ['1', 'P', 'CMYK', 'I;16', 'PA'])
def test_other_modes_become_what_holds_them(workdir, tmp_path, mode):
  image = Image.fromarray(picture(9, 12))
  if mode == 'I;16':
    image = Image.fromarray(picture(9, 12)[..., 0].astype(np.uint16) * 257)
  elif mode == 'PA':
    image.putalpha(Image.fromarray(picture(9, 12)[..., 1]))
    image = image.quantize(64)
  else:
    image = image.convert(mode)
  path = tmp_path / ('photo.tif' if mode == 'CMYK' else 'photo.png')
  image.save(path)
  status, stdout, stderr = run(workdir, path, '--json')
  assert status == 0, stderr
  [done] = lines(stdout)
  with Image.open(done['output']) as result:
    kinds = {'1': 'L', 'P': 'RGB', 'CMYK': 'RGB', 'I;16': 'I;16', 'PA': 'RGBA'}
    assert result.mode == kinds[mode]
    expected = image.convert(result.mode) if mode != 'I;16' else image
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))
  assert done['warnings'] == (['CMYK became RGB'] if mode == 'CMYK' else [])


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp', 'a.tif', 'deep'])
def test_metadata_is_kept_and_the_picture_upright(workdir, tmp_path, name):
  exif = Image.Exif()
  exif[ORIENTATION], exif[MAKER] = 6, 'Maker'
  profile = ImageCms.createProfile('sRGB')
  icc = ImageCms.ImageCmsProfile(profile).tobytes()
  about = {'exif': exif, 'icc_profile': icc, 'dpi': (300, 300)}
  pixels = picture(16, 24)
  if name == 'deep':
    name = 'a.png'
    deep = picture_lib.Picture(
      pixels.astype(np.uint16) * 257, info={**about, 'exif': exif.tobytes()}
    )
    picture_lib.write(deep, tmp_path / name)
  else:
    Image.fromarray(pixels).save(tmp_path / name, quality=100, **about)
  status, stdout, stderr = run(workdir, tmp_path / name, '--json')
  assert status == 0, stderr
  with Image.open(lines(stdout)[0]['output']) as result:
    assert result.size == (16, 24)
    assert result.getexif().get(ORIENTATION, 1) == 1
    assert result.getexif()[MAKER] == 'Maker'
    assert result.info['icc_profile'] == icc
    if not name.endswith('webp'):  # holds no resolution
      assert result.info['dpi'][0] == pytest.approx(300, abs=0.1)
    change = np.asarray(result).astype(int) - np.rot90(pixels, -1)
    # WebP halves the resolution of colours; turned wrongly, it would be 80.
    assert np.abs(change).mean() < 20


def test_what_is_not_kept_is_said(workdir, tmp_path):
  channels = random_channels(8, 9, 'RGBA', np.uint16, 0)
  save_channels(tmp_path / 'deep.png', channels)
  target = f'--output={tmp_path / "deep.jpg"}'
  status, stdout, _ = run(workdir, tmp_path / 'deep.png', target)
  assert status == 0
  assert 'holds no transparency' in stdout
  assert '16 were cut' in stdout
  frames = [Image.fromarray(picture(seed=i)) for i in range(3)]
  path = tmp_path / 'many.tif'
  frames[0].save(path, save_all=True, append_images=frames[1:])
  status, stdout, _ = run(workdir, path)
  assert status == 0
  assert 'the first of 3 frames' in stdout
  with Image.open(tmp_path / 'many_deblurred.tif') as result:
    np.testing.assert_array_equal(np.asarray(result), np.asarray(frames[0]))


def test_quality_makes_smaller_files(workdir, tmp_path):
  path = save(tmp_path / 'photo.jpg', picture(64, 64))
  sizes = []
  for quality in (10, 95):
    target = tmp_path / f'{quality}.jpg'
    run(workdir, path, f'--quality={quality}', f'--output={target}')
    sizes.append(target.stat().st_size)
  assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize('count', [1, 2, 8])
def test_samples_are_taken_together_as_all_at_once(count):
  rng = np.random.default_rng(0)
  shape = count, levels.ROWS + 3, 20, 3
  drawn = (0.5 + 0.01 * rng.normal(size=shape)).astype(np.float32)
  drawn.flags.writeable = False  # nor are the arrays that JAX gives
  made = restore.gather(
    Result(pixels, tiles) for tiles, pixels in enumerate(drawn, 1)
  )
  assert made.tiles == count
  np.testing.assert_allclose(made.mean, drawn.mean(0), rtol=1e-6)
  if count > 1:
    expected = drawn.std(0, ddof=1).mean(-1)
    np.testing.assert_allclose(made.deviation, expected, rtol=1e-3)
  else:
    assert made.deviation is None


def test_more_samples_take_no_more_memory(tmp_path):
  source = save(tmp_path / 'photo.png', picture(1200, 900))

  def peak(count):
    def draw(pixels, name):
      del name
      for sample in range(count):
        yield Result(levels.to_float(pixels) * np.float32(1 - sample / 20), 1)

    files = restore.Files(overwrite=True, uncertainty=True)
    tracemalloc.start()
    [done] = restore.restore([(source, tmp_path / 'out.png')], draw, files)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not done.error
    return most / (1200 * 900 * 3 * 4)

  few, many = peak(2), peak(16)
  assert many < few + 0.1
  assert many < 5  # in pictures of floats; two are those of `draw`


# --- Which files ---


def test_globs_and_folders_are_searched(workdir, tmp_path):
  for name in ('a.png', 'b.png', 'c.jpg', 'deep/d.png'):
    save(tmp_path / 'in' / name, picture())
  output = tmp_path / 'out'
  status, stdout, _ = run(
    workdir, tmp_path / 'in' / '[ab].png', f'--output={output}', '--json'
  )
  assert status == 0
  assert sorted(p.name for p in output.iterdir()) == ['a.png', 'b.png']
  status, _, stderr = run(workdir, tmp_path / 'in', f'--output={output}')
  assert status == 1, 'two results are there already'
  assert stderr.count('--overwrite replaces it') == 2
  assert (output / 'deep' / 'd.png').is_file()
  status, stdout, _ = run(
    workdir, tmp_path / 'in', f'--output={output}', '--overwrite'
  )
  assert status == 0
  assert stdout.count(' -> ') == 4
  for hidden in ('.trash/e.png', '._a.png'):
    save(tmp_path / 'in' / hidden, picture())
  beside = tmp_path / 'in' / '*.png'
  for asked in (tmp_path / 'in', beside):
    status, stdout, _ = run(workdir, asked, '--overwrite')
    assert status == 0
    assert stdout.count(' -> ') == (4 if asked != beside else 2)
  assert not list(tmp_path.rglob('.*_deblurred*'))
  assert not list(tmp_path.rglob('*_deblurred_deblurred*'))


@pytest.mark.parametrize('name', ['photo', 'photo.heic'])
def test_what_cannot_be_written_is_told_and_others_go_on(
  name, workdir, tmp_path
):
  odd = save(tmp_path / 'photo.png', picture()).rename(tmp_path / name)
  plain = save(tmp_path / 'plain.png', picture())
  status, stdout, stderr = run(workdir, odd, plain)
  assert status == 1
  assert f'failed: {tmp_path}/photo_deblurred' in stderr
  assert '--output=NAME.png' in stderr and '1 of 2 failed' in stderr
  assert stdout.count(' -> ') == 1
  status, _, _ = run(workdir, odd, f'--output={tmp_path}/named.png')
  assert status == 0
  assert (tmp_path / 'named.png').is_file()


def test_a_file_is_no_folder_of_results(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  taken = tmp_path / 'notes'
  taken.write_text('mine')
  status, _, stderr = run(workdir, photo, f'--output={taken}')
  assert status == 2
  assert f'{taken}: neither a folder nor a name of a picture' in stderr


def test_models_are_chosen_in_one_way(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  status, _, stderr = run(workdir, photo, '--cascade=cnn,gan')
  assert status == 2
  assert 'drop --model and --workdir' in stderr
  with pytest.raises(InputError, match='gna: neither a model in the box'):
    zoo.find('gna')


def test_a_result_may_not_overwrite_an_input(workdir, tmp_path):
  path = save(tmp_path / 'photo.png', picture())
  before = path.read_bytes()
  status, _, stderr = run(
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
  status, stdout, stderr = run(workdir, tmp_path, '--json')
  assert status == 1
  done = {os.path.basename(line['input']): line for line in lines(stdout)}
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
  status, _, stderr = run(workdir, path, '--max_pixels=399')
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
  status, _, stderr = run(workdir, *given)
  assert status == 2
  assert stderr.count('\n') == 1 and stderr.startswith('error: ')
  assert words in stderr


def test_output_that_cannot_be_written_is_one_line(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  (tmp_path / 'file').touch()
  status, _, stderr = run(workdir, photo, f'--output={tmp_path}/file/out.png')
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
  status, _, stderr = run(workdir, tmp_path / 'in', f'--output={output}')
  assert status == 1
  failed = [line for line in stderr.splitlines() if 'failed: ' in line]
  assert len(failed) == 2
  for name, line in zip(('a', 'b'), failed, strict=True):
    assert f'{output}/{name}.png' in line and 'No space left' in line
  (small_disk / 'filler').unlink()
  status, _, stderr = run(workdir, tmp_path / 'in', f'--output={output}')
  assert status == 0, stderr
  assert sorted(p.name for p in output.iterdir()) == ['a.png', 'b.png']


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
