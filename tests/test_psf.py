"""Kernels are what their kind says, and drawn as often as asked for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from deblur_jax.ops import blur as blur_lib
from deblur_jax.ops import psf as psf_lib
from deblur_jax.ops.psf import KINDS, BlurRanges

WIDE = BlurRanges(kinds=KINDS[1:], sharp=0.2, anisotropy=0.2)
SMALL = BlurRanges(
  kinds=KINDS[1:], sigma=(0.3, 0.8), radius=(0.5, 1.5), length=(1.0, 4.0)
)
STRENGTH = {
  'gaussian': 'sigma',
  'defocus': 'radius',
  'motion': 'length',
  'linear': 'length',
}


@functools.cache
def _draw(ranges, count=2000):
  """PSFs f64[count,K,K] and their parameters."""
  sample = jax.vmap(functools.partial(psf_lib.sample_psf, ranges=ranges))
  psf, parameters = jax.jit(sample)(jax.random.split(jax.random.key(0), count))
  return np.asarray(psf, np.float64), jax.tree.map(np.asarray, parameters)


def _of_kind(kind):
  """WIDE's PSFs of one kind and their parameters."""
  psf, parameters = _draw(WIDE)
  chosen = parameters['kind'] == KINDS.index(kind)
  assert chosen.any()
  return psf[chosen], jax.tree.map(lambda x: x[chosen], parameters)


def _coordinates(psf):
  line = np.arange(psf.shape[-1]) - psf.shape[-1] // 2
  return np.meshgrid(line, line)


def _variance(psf, angle):
  """Variance of f64[N,K,K] along the directions angle[N]."""
  x, y = (axis[None] for axis in _coordinates(psf))
  angle = angle[:, None, None]
  along = x * np.cos(angle) + y * np.sin(angle)
  return (psf * along**2).sum((1, 2))


@pytest.mark.parametrize('ranges', [WIDE, SMALL], ids=['wide', 'small'])
def test_kernels_are_distributions_centred_on_the_middle_pixel(ranges):
  psf, _ = _draw(ranges)
  size = psf_lib.psf_size(ranges)
  assert psf.shape[1:] == (size, size) and size % 2
  assert psf.min() >= 0
  np.testing.assert_allclose(psf.sum((1, 2)), 1, atol=1e-6)
  for axis in _coordinates(psf):
    np.testing.assert_allclose((psf * axis).sum((1, 2)), 0, atol=0.05)


def test_kinds_are_drawn_with_the_wanted_chances():
  _, parameters = _draw(WIDE)
  counts = np.bincount(parameters['kind'], minlength=len(KINDS))
  np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.04)
  _, parameters = _draw(SMALL)
  assert 'sharp' not in {KINDS[i] for i in parameters['kind']}


@pytest.mark.parametrize('kind', KINDS[1:])
def test_strengths_fill_their_range(kind):
  _, parameters = _of_kind(kind)
  low, high = getattr(WIDE, STRENGTH[kind])
  strength = parameters['strength']
  assert low <= strength.min() and strength.max() <= high
  # At most one path in a hundred is cut short, and only long ones.
  np.testing.assert_allclose(
    np.quantile(strength, [0.1, 0.5, 0.9]),
    low + (high - low) * np.array([0.1, 0.5, 0.9]),
    atol=0.1 * (high - low),
  )


def test_sharp_is_the_identity():
  psf, parameters = _of_kind('sharp')
  middle = psf.shape[-1] // 2
  assert (psf[:, middle, middle] == 1).all() and (psf.sum((1, 2)) == 1).all()
  assert not parameters['strength'].any()


def test_gaussians_have_their_sigma_along_their_angle():
  psf, parameters = _of_kind('gaussian')
  sigma, angle = parameters['strength'], parameters['angle']
  wide = sigma > 1  # below, samples on a grid have a smaller variance
  np.testing.assert_allclose(
    _variance(psf, angle)[wide], sigma[wide] ** 2, rtol=0.02
  )
  ratio = np.sqrt(_variance(psf, angle + np.pi / 2) / _variance(psf, angle))
  assert 0.19 < ratio[sigma > 3].min() < 0.4 and ratio.max() < 1.01


def test_an_isotropic_gaussian_is_the_textbook_one():
  ranges = BlurRanges(sigma=(2.0, 2.0))
  psf, _ = _draw(ranges, 1)
  spike = np.zeros((17, 17))
  spike[8, 8] = 1
  expected = scipy.ndimage.gaussian_filter(spike, 2.0, truncate=4.0)
  np.testing.assert_allclose(psf[0], expected, atol=1e-6)


def test_apertures_have_the_area_of_a_disk_or_of_a_polygon():
  psf, parameters = _of_kind('defocus')
  radius = parameters['strength']
  area = 1 / psf.max((1, 2)) / radius**2
  blades = np.array([5, 6, 7, 8])
  areas = [*(blades / 2 * np.sin(2 * np.pi / blades)), np.pi]
  error = np.abs(area[:, None] - np.array(areas)[None])[radius > 3]
  assert error.min(1).max() < 0.02
  assert set(error.argmin(1)) == set(range(5))
  assert 0.3 < (error.argmin(1) == 4).mean() < 0.7


def test_a_disk_is_round_and_its_edge_smooth():
  psf, parameters = _of_kind('defocus')
  round_ = (parameters['angle'] == 0) & (parameters['strength'] > 2)
  psf, radius = psf[round_], parameters['strength'][round_]
  turned = np.rot90(psf, axes=(1, 2))
  np.testing.assert_allclose(psf, turned, atol=1e-7)
  x, y = _coordinates(psf)
  distance = np.hypot(x, y)[None] - radius[:, None, None]
  level = psf / psf.max((1, 2), keepdims=True)
  assert (level[distance < -1] > 0.999).all() and not level[distance > 1].any()
  assert ((level > 0.01) & (level < 0.99)).any((1, 2)).all()


def test_linear_motion_is_even_along_its_angle():
  psf, parameters = _of_kind('linear')
  length, angle = parameters['strength'], parameters['angle']
  np.testing.assert_allclose(
    _variance(psf, angle), length**2 / 12, rtol=0.03, atol=0.5
  )
  assert _variance(psf, angle + np.pi / 2).max() < 0.3


def test_camera_paths_are_connected_and_as_long_as_they_say():
  psf, parameters = _of_kind('motion')
  x, y = _coordinates(psf)
  for kernel, length in zip(psf[:99], parameters['strength'], strict=False):
    lit = kernel > 0
    assert scipy.ndimage.label(lit, np.ones((3, 3)))[1] == 1
    points = np.stack([x[lit], y[lit]], axis=-1)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert abs(gaps.max() - length) < 3  # two half pixels, diagonally


def test_camera_paths_differ_and_bend():
  psf, parameters = _of_kind('motion')
  long = psf[parameters['strength'] > 20]
  assert len(np.unique(long.round(6), axis=0)) == len(long)
  x, y = (axis[None] for axis in _coordinates(psf))
  xx, yy, xy = ((long * a).sum((1, 2)) for a in (x * x, y * y, x * y))
  spread = np.hypot(xx - yy, 2 * xy)
  flatness = (xx + yy - spread) / (xx + yy + spread)
  assert np.median(flatness) > 0.05  # straight ones have less than 0.01
  assert (flatness < 0.02).mean() < 0.3


def test_the_mean_of_frames_shows_a_path_at_few_places():
  ranges = BlurRanges(kinds=('motion',), length=(30.0, 30.0))
  whole, _ = _draw(ranges, 200)
  seen, drawn = _draw(dataclasses.replace(ranges, frame_probability=1.0), 200)
  lit = (seen > 0).sum((1, 2))
  assert lit.max() <= 4 * 9  # bilinear shares
  assert (lit < (whole > 0).sum((1, 2))).mean() > 0.9
  # Two frames are 8 px apart, and so on: shorter than a path may be. Long ones
  # are cut short as well, where one end lies far from the middle frame.
  strength, frames = drawn['strength'], drawn['frames']
  assert (strength <= np.minimum(8 * (frames - 1), 30) + 1e-3).all()
  for count in (2, 3):
    np.testing.assert_allclose(strength[frames == count], 8 * (count - 1), 1e-5)
  # The middle frame is the sharp picture: it lies where that does.
  middle = seen.shape[-1] // 2
  assert set(frames.astype(int)) == set(range(2, 10))
  assert (seen[:, middle, middle] > 0.97 / frames).all()
  x, y = _coordinates(seen)
  assert np.abs((seen * x[None]).sum((1, 2))).max() > 2


@pytest.mark.parametrize(
  'wrong',
  [
    {'kinds': ()},
    {'kinds': ('gauss',)},
    {'sigma': (2.0, 1.0)},
    {'sigma': (0.0, 1.0)},
    {'sigma': (3.0,)},
    {'length': (1.0, 2.0, 3.0)},
    {'jpeg': 90.0},
    {'noise': (-0.1, 0.1)},
    {'sharp': 1.5},
  ],
)
def test_nonsense_is_refused_by_name(wrong):
  with pytest.raises(ValueError, match=f'blur.{next(iter(wrong))}'):
    BlurRanges(**wrong)


def test_a_constant_stays_constant_up_to_the_border():
  image = jnp.full((64, 20, 27, 3), 0.7)
  psf, _ = _draw(WIDE)
  result = jax.jit(blur_lib.convolve)(image, jnp.asarray(psf[:64], jnp.float32))
  np.testing.assert_allclose(result, 0.7, atol=1e-5)
