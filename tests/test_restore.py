"""The restore command: what goes into a picture file comes out of it."""

import tracemalloc

import numpy as np
import pytest
import pyvips
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from deblur_jax import restore
from deblur_jax.imaging import levels
from deblur_jax.imaging import picture as picture_lib
from deblur_jax.runner import Result
from tests.runs import (
  CHANNELS,
  json_lines,
  picture,
  random_channels,
  restored,
  save,
  save_channels,
  untrained,
)

ORIENTATION, MAKER = 0x0112, 0x010F


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp('run') / 'identity')


def unchanged(pixels, name):
  """What a network gives that changes nothing."""
  del name
  return [Result(levels.to_float(pixels), 1)]


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
  status, stdout, stderr = restored(workdir, path, '--json')
  assert status == 0, stderr
  [done] = json_lines(stdout)
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
  status, stdout, stderr = restored(workdir, tmp_path / name, '--json')
  assert status == 0, stderr
  with Image.open(json_lines(stdout)[0]['output']) as result:
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
  status, stdout, _ = restored(workdir, tmp_path / 'deep.png', target)
  assert status == 0
  assert 'holds no transparency' in stdout
  assert '16 were cut' in stdout
  frames = [Image.fromarray(picture(seed=i)) for i in range(3)]
  path = tmp_path / 'many.tif'
  frames[0].save(path, save_all=True, append_images=frames[1:])
  status, stdout, _ = restored(workdir, path)
  assert status == 0
  assert 'the first of 3 frames' in stdout
  with Image.open(tmp_path / 'many_deblurred.tif') as result:
    np.testing.assert_array_equal(np.asarray(result), np.asarray(frames[0]))


def test_quality_makes_smaller_files(workdir, tmp_path):
  path = save(tmp_path / 'photo.jpg', picture(64, 64))
  sizes = []
  for quality in (10, 95):
    target = tmp_path / f'{quality}.jpg'
    restored(workdir, path, f'--quality={quality}', f'--output={target}')
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
