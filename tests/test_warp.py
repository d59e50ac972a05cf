"""Videos whose every pixel has a shift of its own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from deblur_jax.ops import blur, psf, warp

PHOTO = skimage.data.astronaut()[:80, 180:260] / np.float32(255)
PATH = jnp.array([[-6.0, 2.0], [0.0, 0.0], [5.0, 3.0]])
EVERYWHERE = jnp.ones((40, 40, 1))


def mean(key=0, path=PATH, frames=3.0, place=EVERYWHERE):
  return warp.mean_of_frames(
    jnp.asarray(PHOTO), path, jnp.asarray(frames), place, jax.random.key(key)
  )


def centre(image):
  return image[20:60, 20:60]


@pytest.mark.parametrize('reach', [3.0, 60.0])  # far beyond the border, too
def test_pixels_are_looked_up_where_they_come_from(reach):
  rng = np.random.default_rng(0)
  shifts = rng.uniform(-reach, reach, (40, 30, 2)).astype(np.float32)
  rows, columns = np.mgrid[20:60, 25:55]
  places = rows - shifts[..., 1], columns - shifts[..., 0]
  expected = [
    scipy.ndimage.map_coordinates(channel, places, order=1, mode='nearest')
    for channel in np.moveaxis(PHOTO, -1, 0)
  ]
  found = warp.shifted(jnp.asarray(PHOTO), jnp.asarray(shifts))
  np.testing.assert_allclose(found, np.stack(expected, -1), atol=1e-5)


def test_what_rests_is_the_middle_frame():
  half = EVERYWHERE.at[:, 20:].set(0)
  found = mean(place=half)
  np.testing.assert_allclose(found[:, 20:], centre(PHOTO)[:, 20:], atol=1e-6)
  assert jnp.abs(found - centre(PHOTO))[:, :20].mean() > 0.01
  found = mean(path=0 * PATH)
  np.testing.assert_allclose(found, centre(PHOTO), atol=1e-6)


def test_frames_that_there_are_not_are_left_out():
  fewer = mean(path=PATH[:2])
  more = mean(path=PATH[:2], frames=2.0)
  two = mean(frames=2.0)
  np.testing.assert_allclose(two, more, atol=1e-6)
  # Of three, one is missing.
  np.testing.assert_allclose(fewer, 2 / 3 * two, atol=1e-6)


def test_shifts_change_over_the_picture_and_are_no_longer_than_the_path():
  # What is looked up are places themselves.
  rows, columns = jnp.mgrid[:80, :80]
  places = jnp.stack([columns, rows], -1).astype(jnp.float32)
  step = jnp.array([[3.0, 4.0]])
  for seed in range(20):
    found = warp.mean_of_frames(
      places, step, jnp.ones(()), EVERYWHERE, jax.random.key(seed)
    )
    shifts = places[20:60, 20:60] - found
    assert jnp.abs(shifts).max() < 5 + 1e-3
    assert jnp.ptp(shifts, axis=(0, 1)).max() > 0.5
    # An affine function: its second differences are zero.
    for axis in (0, 1):
      assert jnp.abs(jnp.diff(shifts, 2, axis)).max() < 1e-3


def test_a_path_is_that_of_the_psf():
  ranges = psf.BlurRanges(kinds=('motion',), frame_probability=1.0)
  for seed in range(10):
    kernel, drawn = psf.sample_psf(jax.random.key(seed), ranges)
    count = int(drawn['frames'])
    path = np.asarray(drawn['path'])[:count]
    middle = path[[(count - 1) // 2, count // 2]]
    assert (np.abs(middle).max(axis=1) < 1e-4).any()
    assert len(np.unique(path.round(4), axis=0)) == count
    line = np.arange(len(kernel)) - len(kernel) // 2
    mean = [(kernel.sum(axis) * line).sum() for axis in (0, 1)]
    # Frames have whole points of a path, and so not quite the same time each.
    np.testing.assert_allclose(path.mean(0), mean, atol=0.3)


def test_videos_bend_as_often_as_asked():
  ranges = psf.BlurRanges(
    kinds=('motion',),
    length=(9.0, 9.0),
    noise=(0.0, 0.0),
    frame_probability=0.7,
  )
  sharp = jnp.repeat(jnp.asarray(PHOTO)[None], 64, 0)
  keys = jax.random.split(jax.random.key(1), 64)
  made = {}
  for share in (0.0, 0.5, 1.0):
    some = dataclasses.replace(ranges, bend_probability=share)
    made[share], drawn = blur.degrade(sharp, keys, some, 40)
  videos = np.asarray(drawn['frames']) > 0
  assert {value.shape[1:] for value in made.values()} == {(40, 40, 3)}
  assert 30 <= videos.sum() <= 60
  bent, half = (
    np.asarray((made[share] != made[0.0]).any((1, 2, 3))) for share in (1, 0.5)
  )
  assert not (bent & ~videos).any()
  # What moves may lie outside of the central square.
  assert bent.sum() >= 0.9 * videos.sum()
  assert 0.25 * videos.sum() < half.sum() < 0.75 * videos.sum()
  assert not (half & ~bent).any()
