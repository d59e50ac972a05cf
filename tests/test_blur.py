"""Pictures are blurred as a camera would, and each by itself."""

import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur_jax.ops import blur as blur_lib
from deblur_jax.ops import psf as psf_lib
from deblur_jax.ops.psf import KINDS, BlurRanges

CLEAN = BlurRanges(noise=(0.0, 0.0))
ALL = BlurRanges(
  kinds=KINDS[1:],
  length=(5.0, 15.0),
  noise=(0.02, 0.02),
  jpeg_probability=0.5,
  highlight_probability=0.5,
  frame_probability=0.5,
  local_probability=0.5,
  level_probability=0.5,
  bend_probability=0.5,
)


def _keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


@functools.cache
def _degrade(ranges):
  return jax.jit(functools.partial(blur_lib.degrade, ranges=ranges))


_convolve = jax.jit(blur_lib.convolve)


def _photo(height, width):
  photo = skimage.data.astronaut()[:height, 100 : 100 + width]
  return jnp.asarray(photo, jnp.float32) / 255


@pytest.mark.parametrize(
  ('size', 'k'), [((1, 1), 5), ((3, 5), 15), ((16, 31), 9), ((16, 31), 1)]
)
def test_convolve_is_scipy_with_reflected_borders(size, k):
  rng = np.random.default_rng(0)
  image, psf = rng.random((2, *size, 3)), rng.random((2, k, k))
  result = _convolve(
    jnp.asarray(image, jnp.float32), jnp.asarray(psf, jnp.float32)
  )
  expected = [
    scipy.ndimage.convolve(x, p[..., None], mode='reflect')
    for x, p in zip(image, psf, strict=True)
  ]
  np.testing.assert_allclose(result, np.stack(expected), rtol=1e-5, atol=1e-5)


@given(st.integers(1, 5000))
@settings(max_examples=50, deadline=None)
def test_fast_sizes_are_even_and_smooth(size):
  fast = blur_lib.fast_size(size)
  assert size <= fast <= 1.15 * size + 2 and fast % 2 == 0
  for prime in (2, 3, 5):
    while fast % prime == 0:
      fast //= prime
  assert fast == 1


def test_srgb_there_and_back():
  levels = jnp.arange(256) / 255
  linear = blur_lib.to_linear(levels)
  np.testing.assert_allclose(blur_lib.to_srgb(linear), levels, atol=1e-6)
  np.testing.assert_allclose(linear[128], 0.2158605, atol=1e-6)


def test_the_result_is_an_8_bit_picture():
  sharp = jnp.stack([_photo(24, 33)] * 3)
  blur, info = _degrade(ALL)(sharp, _keys(3))
  assert blur.shape == sharp.shape and blur.dtype == jnp.float32
  assert blur.min() >= 0 and blur.max() <= 1
  np.testing.assert_allclose(255 * blur, jnp.round(255 * blur), atol=1e-4)
  size = psf_lib.psf_size(ALL)
  shapes = {name: value.shape for name, value in info.items()}
  assert shapes.pop('psf') == (3, size, size)
  assert shapes == dict.fromkeys(
    ['kind', 'strength', 'angle', 'frames', 'noise', 'highlights', 'jpeg'],
    (3,),
  )


def test_an_image_does_not_depend_on_its_batch():
  sharp = jnp.stack([_photo(24, 33), _photo(48, 33)[24:], _photo(24, 33)])
  keys = _keys(3)
  blur, info = _degrade(ALL)(sharp, keys)
  assert (blur[0] != blur[2]).any()
  mates = jnp.array([2, 1, 0])
  shuffled, _ = _degrade(ALL)(1 - sharp.at[1].set(1 - sharp[1]), keys[mates])
  np.testing.assert_array_equal(shuffled[1], blur[1])
  # Another batch size is another program: sums may differ in their last bit.
  alone, info_alone = _degrade(ALL)(sharp[1:2], keys[1:2])
  np.testing.assert_allclose(alone[0], blur[1], atol=1.01 / 255)
  assert (alone[0] != blur[1]).mean() < 0.01
  for name in info:
    np.testing.assert_allclose(info_alone[name][0], info[name][1], atol=1e-6)


def test_light_is_blurred_while_it_is_linear():
  # A fine checkerboard holds half of the light, which sRGB writes as 0.735.
  checks = (np.indices((32, 32)).sum(0) % 2).astype(np.float32)
  sharp = jnp.broadcast_to(checks[None, ..., None], (1, 32, 32, 3))
  ranges = BlurRanges(sigma=(3.0, 3.0), noise=(0.0, 0.0))
  blur, _ = _degrade(ranges)(sharp, _keys(1))
  np.testing.assert_allclose(blur[0, 8:-8, 8:-8], 188 / 255, atol=1e-6)


@pytest.mark.parametrize('level', [0, 3, 128, 255])
def test_brightness_is_kept(level):
  ranges = BlurRanges(
    kinds=KINDS[1:],
    noise=(0.0, 0.0),
    highlight_probability=1.0,
    local_probability=0.5,
    level_probability=0.5,
  )
  sharp = jnp.full((8, 16, 16, 3), level / 255)
  blur, _ = _degrade(ranges)(sharp, _keys(8))
  np.testing.assert_allclose(blur, sharp, atol=1e-6)


def test_levels_are_averaged_where_that_is_asked():
  sharp = _photo(32, 32)[None]
  ranges = dataclasses.replace(CLEAN, level_probability=1.0)
  blur, info = _degrade(ranges)(sharp, _keys(1))
  levels = _convolve(sharp, info['psf'])
  np.testing.assert_allclose(blur, levels, atol=0.51 / 255)


def test_levels_are_averaged_as_often_as_asked_under_all_kinds_of_blur():
  checks = (np.indices((32, 32)).sum(0) % 2).astype(np.float32)
  sharp = jnp.broadcast_to(checks[None, ..., None], (256, 32, 32, 3))
  ranges = BlurRanges(
    kinds=('gaussian', 'defocus'),
    sigma=(3.0, 3.0),
    radius=(6.0, 6.0),
    noise=(0.0, 0.0),
    level_probability=0.25,
  )
  blur, info = _degrade(ranges)(sharp, _keys(256))
  grey = np.asarray(blur[:, 16, 16, 0])
  of_levels = np.abs(grey - 0.5) < 0.03
  np.testing.assert_allclose(grey[~of_levels], 188 / 255, atol=0.03)
  for kind in ranges.kinds:
    own = of_levels[np.asarray(info['kind']) == KINDS.index(kind)]
    assert 0.12 < own.mean() < 0.4, kind


def test_videos_are_of_levels_and_may_move_in_part():
  ranges = BlurRanges(
    kinds=('motion',),
    length=(8.0, 8.0),
    noise=(0.0, 0.0),
    frame_probability=0.5,
  )
  sharp = jnp.repeat(_photo(64, 64)[None], 64, 0)
  blur, info = _degrade(ranges)(sharp, _keys(64))
  levels = _convolve(sharp, info['psf'])
  light = blur_lib.to_srgb(_convolve(blur_lib.to_linear(sharp), info['psf']))
  videos = np.asarray(info['frames'] > 0)
  assert 20 <= videos.sum() <= 44
  of_light, of_levels, kept = (
    np.asarray(jnp.abs(blur - other).max(-1) < 0.51 / 255)
    for other in (light, levels, sharp)
  )
  assert of_light[~videos].all()
  whole = of_levels.all((1, 2))
  assert 0.25 * videos.sum() < (whole & videos).sum() < 0.75 * videos.sum()
  # Each part is like one of the two, but for a seam of the PSF's width.
  assert (of_levels | kept)[videos].mean() > 0.75


def test_the_mean_of_frames_has_less_noise():
  ranges = BlurRanges(
    kinds=('motion',), noise=(0.02, 0.02), frame_probability=0.5
  )
  _, info = _degrade(ranges)(jnp.zeros((32, 8, 8, 3)), _keys(32))
  averaged = jnp.maximum(info['frames'], 1)
  np.testing.assert_allclose(info['noise'], 0.02 / averaged**0.5, rtol=1e-5)


def test_mild_bends_strength_and_noise():
  numbers = np.linspace(0.1, 0.9, 9)
  even = BlurRanges(sigma=(1.0, 4.0), noise=(0.0, 0.02))
  bent = dataclasses.replace(even, mild=2.0)
  sharp = jnp.zeros((400, 8, 8, 3))
  _, before = _degrade(even)(sharp, _keys(400))
  _, after = _degrade(bent)(sharp, _keys(400))
  for name, (low, high) in {'strength': (1, 4), 'noise': (0, 0.02)}.items():
    for drawn, power in ((before, 1), (after, 2)):
      share = (np.asarray(drawn[name]) - low) / (high - low)
      np.testing.assert_allclose(
        np.quantile(share, numbers), numbers**power, atol=0.08
      )


def test_a_crop_is_the_middle_of_the_whole():
  ranges = dataclasses.replace(CLEAN, sigma=(2.0, 2.0))
  sharp = _photo(48, 40)[None]
  whole, _ = _degrade(ranges)(sharp, _keys(1))
  cut = jax.jit(functools.partial(blur_lib.degrade, ranges=ranges, crop=16))
  part, _ = cut(sharp, _keys(1))
  np.testing.assert_array_equal(part, whole[:, 16:32, 12:28])


def test_a_part_of_the_picture_is_blurred_where_that_is_asked():
  sharp = jnp.repeat(_photo(64, 64)[None], 16, 0)
  ranges = BlurRanges(radius=(2.0, 2.0), kinds=('defocus',), noise=(0.0, 0.0))
  whole, _ = _degrade(ranges)(sharp, _keys(16))
  local = dataclasses.replace(ranges, local_probability=1.0)
  blur, _ = _degrade(local)(sharp, _keys(16))
  moved = np.abs(blur - whole).max(-1) > 1.01 / 255
  kept = np.abs(blur - sharp).max(-1) < 0.51 / 255
  # Each part is like one of the two, but for a seam of the PSF's width.
  assert (moved & ~kept).mean() < 0.3
  for side in (moved, ~kept):
    assert side.any((1, 2)).all()


def test_without_blur_and_noise_the_picture_is_unchanged():
  ranges = BlurRanges(sharp=1.0, noise=(0.0, 0.0), highlight_probability=1.0)
  sharp = _photo(32, 32)[None]
  blur, info = _degrade(ranges)(sharp, _keys(1))
  np.testing.assert_allclose(blur, sharp, atol=1e-6)
  assert info['kind'] == KINDS.index('sharp')


def test_colours_are_not_shifted():
  sharp = _photo(32, 32)[None]
  blur, _ = _degrade(CLEAN)(sharp, _keys(1))
  before = blur_lib.to_linear(sharp).mean((1, 2))
  after = blur_lib.to_linear(blur).mean((1, 2))
  np.testing.assert_allclose(after, before, rtol=0.01)


def test_the_oracle_knows_the_kernel():
  sharp = _photo(32, 32)[None]
  blur, info = _degrade(CLEAN)(sharp, _keys(1))
  light = _convolve(blur_lib.to_linear(sharp), info['psf'])
  np.testing.assert_allclose(blur, blur_lib.to_srgb(light), atol=0.51 / 255)


@pytest.mark.parametrize(
  ('level', 'gain'), [(128, (0.95, 1.05)), (230, (0.8, 1.0)), (13, (1.2, 2.0))]
)
def test_noise_is_a_fraction_of_full_scale_at_mid_grey(level, gain):
  ranges = BlurRanges(sharp=1.0, noise=(0.01, 0.03))
  sharp = jnp.full((4, 64, 64, 3), level / 255)
  blur, info = _degrade(ranges)(sharp, _keys(4))
  measured = (blur - sharp).std((1, 2, 3)) / info['noise']
  assert gain[0] < measured.min() and measured.max() < gain[1]


def test_clipped_highlights_outshine_their_surroundings():
  sharp = jnp.zeros((8, 21, 21, 3)).at[:, 10, 10].set(1)
  ranges = BlurRanges(
    sigma=(2.0, 2.0),
    noise=(0.0, 0.0),
    highlights=(1.0, 3.0),
    highlight_probability=0.5,
  )
  blur, info = _degrade(ranges)(sharp, _keys(8))
  excess = info['highlights']
  drawn = excess > 0
  assert drawn.any() and not drawn.all()
  assert excess[drawn].min() >= 1 and excess.max() <= 3
  light = blur_lib.to_linear(blur)[:, 10, 10, 0]
  gain = light / light[~drawn].mean()
  np.testing.assert_allclose(gain, 1 + excess, rtol=0.05)


@pytest.mark.parametrize('quality', [30, 60, 75, 95])
def test_jpeg_is_that_of_a_real_encoder(quality):
  photo = skimage.data.astronaut()[10:47, 200:250]
  file = io.BytesIO()
  Image.fromarray(photo).save(file, 'JPEG', quality=quality, subsampling=0)
  expected = np.asarray(Image.open(file), np.float32)
  result = jax.jit(blur_lib.jpeg)(
    jnp.float32(photo) / 255, jnp.float32(quality)
  )
  error = np.abs(np.round(np.clip(255 * result, 0, 255)) - expected)
  # Whole blocks; a cut one depends on how an encoder fills it up.
  assert error[:32, :48].mean() < 1 and error.mean() < 2


def test_jpeg_is_drawn_as_often_as_wanted():
  ranges = BlurRanges(sharp=1.0, noise=(0.0, 0.0), jpeg_probability=0.5)
  sharp = jnp.stack([_photo(24, 24)] * 32)
  blur, info = _degrade(ranges)(sharp, _keys(32))
  quality = info['jpeg']
  changed = jnp.abs(blur - sharp).max((1, 2, 3)) > 0.5 / 255
  np.testing.assert_array_equal(quality > 0, changed)
  assert 8 <= changed.sum() <= 24
  drawn = quality[quality > 0]
  assert drawn.min() >= 60 and drawn.max() <= 95
