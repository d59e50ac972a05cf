import math

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from deblur_jax.data import align

PHOTOS = {
  'astronaut': lambda: data.astronaut()[:200, 120:340],
  'coffee': lambda: data.coffee()[60:260, 180:400],
  'chelsea': lambda: data.chelsea()[20:220, 120:300],
  'gravel': lambda: np.repeat(data.gravel()[:160, :200, None], 3, 2),
}
NOISE = 0.01
SHIFTS = [(2, 0), (-2, 1), (0, -3), (1.5, 1.5), (-3.6, 3.6), (5, 0), (6, -8)]


def gaussian():
  y, x = np.mgrid[-15:16, -15:16]
  return np.exp(-((x + y) ** 2) / 50 - (x - y) ** 2 / 8)


def disk():
  return (np.hypot(*np.mgrid[-9:10, -9:10]) < 6).astype(float)


def line():
  kernel = np.zeros((25, 25))
  kernel[np.arange(5, 20), np.arange(4, 19)] = 1
  return kernel


def hook():
  """A path that lingers at one end: its peak lies far from its centroid."""
  kernel = np.zeros((31, 31))
  kernel[15, 4:20] = np.linspace(0.2, 1, 16)
  kernel[9:16, 20] = np.linspace(4, 1, 7)
  return kernel


KERNELS = [gaussian, disk, line, hook]


def offset(kernel):
  """The centroid of a kernel relative to its centre."""
  mass = ndimage.center_of_mass(kernel)
  return np.subtract(mass, (kernel.shape[0] // 2, kernel.shape[1] // 2))


def degrade(sharp, kernel, by=(0, 0), seed=0):
  """Blurs in linear light by the kernel, its centroid put at `by`."""
  linear = (sharp / 255.0) ** 2.2
  kernel = (kernel / kernel.sum())[..., None]
  blur = ndimage.convolve(linear, kernel, mode='reflect')
  blur = ndimage.shift(blur, (*(by - offset(kernel[..., 0])), 0), mode='mirror')
  blur += np.random.default_rng(seed).normal(scale=NOISE, size=blur.shape)
  return np.uint8(np.rint(blur.clip(0, 1) ** (1 / 2.2) * 255))


def cut(image, by=10):
  """Drops the border, where a shifted picture shows what its pair does not."""
  return image[by:-by, by:-by]


@pytest.fixture(scope='module', params=PHOTOS)
def sharp(request):
  return np.ascontiguousarray(PHOTOS[request.param]())


@pytest.mark.parametrize('kernel', KERNELS)
def test_centred_blur_is_no_shift(sharp, kernel):
  moved = align.shift(cut(degrade(sharp, kernel())), cut(sharp))
  assert align.is_aligned(moved)


@pytest.mark.parametrize('kernel', KERNELS)
def test_shift_is_found_and_measured(sharp, kernel):
  for seed, by in enumerate(SHIFTS):
    moved = align.shift(cut(degrade(sharp, kernel(), by, seed)), cut(sharp))
    assert not align.is_aligned(moved), by
    np.testing.assert_allclose(moved, by, atol=0.8)


@pytest.mark.parametrize('axis', [0, 1])
def test_sign_and_axis_are_exact_without_blur(sharp, axis):
  moved = align.shift(np.roll(sharp, 4, axis)[8:-8, 8:-8], sharp[8:-8, 8:-8])
  np.testing.assert_allclose(moved, (4, 0) if axis == 0 else (0, 4), atol=0.1)


def test_same_picture_is_at_zero_every_time(sharp):
  assert align.shift(sharp, sharp) == align.shift(sharp.copy(), sharp)
  np.testing.assert_allclose(align.shift(sharp, sharp), 0, atol=1e-3)


def test_kernel_off_centre_is_a_shift(sharp):
  kernel = np.pad(hook(), ((0, 8), (0, 0)))  # the centre moves 4 px down
  linear = (sharp / 255.0) ** 2.2
  blur = ndimage.convolve(linear, (kernel / kernel.sum())[..., None])
  blur = np.uint8(np.rint(blur ** (1 / 2.2) * 255))
  moved = align.shift(cut(blur), cut(sharp))
  np.testing.assert_allclose(moved, offset(kernel), atol=0.8)


def test_exposure_is_no_shift(sharp):
  darker = np.uint8(degrade(sharp, disk()) * 0.75)
  assert align.is_aligned(align.shift(darker, sharp))


def test_large_pictures_are_measured_in_their_own_pixels():
  large = np.repeat(np.repeat(PHOTOS['coffee'](), 4, 0), 4, 1)
  blur = np.roll(large, (6, -3), (0, 1))
  moved = align.shift(cut(blur, 16), cut(large, 16))
  np.testing.assert_allclose(moved, (6, -3), atol=0.3)


def test_far_shift_is_found():
  photo = data.astronaut()
  assert not align.is_aligned(align.shift(photo[60:, 80:], photo[:-60, :-80]))


def test_different_pictures_are_not_aligned():
  photos = [photo()[:150, :150] for photo in PHOTOS.values()]
  for blur, sharp in zip(photos, photos[1:] + photos[:1], strict=True):
    assert not align.is_aligned(align.shift(blur, sharp))
  noise = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
  assert align.shift(*noise) == (math.inf, math.inf)


@pytest.mark.parametrize('shape', [(1, 1), (15, 200), (16, 16), (40, 300)])
def test_pictures_that_tell_nothing_are_at_zero(shape):
  flat = np.full((*shape, 3), 128, np.uint8)
  np.testing.assert_allclose(align.shift(flat, flat), 0, atol=1e-9)
  rng = np.random.default_rng(1)
  noise = flat + rng.integers(0, 4, (2, *flat.shape), np.uint8)
  assert align.is_aligned(align.shift(*noise))


def test_along_an_edge_there_is_no_shift():
  edge = np.zeros((64, 64, 3), np.uint8)
  edge[:, 32:] = 200
  rows, columns = align.shift(np.roll(edge, 3, 1)[:, 8:-8], edge[:, 8:-8])
  assert rows == pytest.approx(0, abs=1e-3)
  assert columns == pytest.approx(3, abs=0.2)


def test_sides_of_different_size_raise():
  image = np.zeros((32, 32, 3), np.uint8)
  with pytest.raises(ValueError, match='sizes differ'):
    align.shift(image, image[:-1])


def test_verdict_names_the_unaligned_and_judges_by_their_share():
  near, far = (0.9, -0.8), (0.9, 0.9)
  shifts = {f'{i}.png': near for i in range(9)} | {'9.png': far}
  assert align.verdict(shifts) == {'aligned': True, 'unaligned': ['9.png']}
  shifts['3.png'] = (math.inf, math.inf)
  assert align.verdict(shifts) == {
    'aligned': False,
    'unaligned': ['3.png', '9.png'],
  }
  assert align.verdict({}) == {'aligned': True, 'unaligned': []}
