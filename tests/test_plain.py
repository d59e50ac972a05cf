"""Plain areas in the place of training pictures."""

import jax
import numpy as np
import pytest

from deblur_jax.ops import plain
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.types import InputError

SIDE = 48
MANY = 96


def pictures(count=MANY):
  rng = np.random.default_rng(0)
  return rng.uniform(0, 1, (count, SIDE, SIDE, 3)).astype(np.float32)


def keys(count=MANY):
  return jax.random.split(jax.random.key(0), count)


def test_half_of_the_pictures_are_shapes_and_the_others_of_three_kinds():
  made = np.asarray(plain.simplify(pictures(), keys(), 1.0))
  assert made.min() >= 0
  assert made.max() <= 1
  kinds = {'colour': 0, 'patches': 0, 'slow': 0, 'shapes': 0}
  for image in made:
    across = np.abs(np.diff(image, axis=1)).max(axis=2)
    jumps = (across > 0.2).any(axis=0).sum()
    colours = len(np.unique(image.reshape(-1, 3), axis=0))
    if colours == 1:
      kinds['colour'] += 1
    elif colours <= 9:
      assert (across > 0).any(axis=0).sum() <= 3
      kinds['patches'] += 1
    elif jumps <= 1:  # where the borders meet
      kinds['slow'] += 1
    else:
      kinds['shapes'] += 1
      # Hard edges, and little else.
      assert np.median(across) < 0.05
      assert np.quantile(across, 0.9) < 0.2
  assert kinds.pop('shapes') > MANY / 3
  assert all(count > MANY / 12 for count in kinds.values()), kinds


def test_black_white_and_pure_colours_occur():
  bright = 0.25 + 0.7 * pictures()
  made = np.asarray(plain.simplify(bright, keys(), 1.0))
  assert (made == 1).any()
  dark = np.asarray(plain.simplify(1 - bright, keys(), 1.0))
  assert (dark == 0).any()


def test_chances_and_keys_are_each_pictures_own():
  given = pictures()
  made = np.asarray(plain.simplify(given, keys(), 0.25))
  kept = (made == given).all(axis=(1, 2, 3))
  assert 0.6 < kept.mean() < 0.9
  alone = plain.simplify(given[5:6], keys()[5:6], 0.25)
  np.testing.assert_allclose(alone[0], made[5], atol=1e-6)
  untouched = plain.simplify(given, keys(), 0.0)
  np.testing.assert_array_equal(untouched, given)


def test_real_pairs_stay_as_found_and_others_are_blurred_when_plain():
  sharp = np.uint8(255 * pictures(8))
  raw = {'blur': 255 - sharp, 'sharp': sharp, 'real': np.arange(8) % 2 == 0}
  still = BlurRanges(sharp=1.0, noise=(0.0, 0.0))
  prepare = jax.jit(make_prepare(still, plain_probability=1.0))
  batch = prepare(raw, keys(8))
  for i in range(8):
    if raw['real'][i]:
      np.testing.assert_allclose(batch['sharp'][i], sharp[i] / 255, atol=1e-6)
      np.testing.assert_allclose(
        batch['blur'][i], raw['blur'][i] / 255, atol=1e-6
      )
    else:
      assert not np.isclose(batch['sharp'][i], sharp[i] / 255).all()
      np.testing.assert_allclose(
        batch['blur'][i], batch['sharp'][i], atol=1 / 255
      )


def test_plain_pictures_are_as_noisy_as_others():
  noisy = BlurRanges(sharp=1.0, noise=(0.0, 0.1))
  prepare = jax.jit(make_prepare(noisy, plain_probability=0.5))
  sharp = np.uint8(255 * pictures())
  raw = {'sharp': sharp}
  batch = jax.tree.map(np.asarray, prepare(raw, keys()))
  kept = np.isclose(batch['sharp'], sharp / 255).all(axis=(1, 2, 3))
  means = [batch['noise'][chosen].mean() for chosen in (kept, ~kept)]
  np.testing.assert_allclose(means, 0.05, atol=0.015)


def test_pairs_that_are_all_real_stay_as_found():
  sharp = np.uint8(255 * pictures(2))
  prepare = make_prepare(BlurRanges(), plain_probability=1.0)
  batch = prepare({'blur': sharp, 'sharp': sharp}, keys(2))
  np.testing.assert_allclose(batch['sharp'], sharp / 255, atol=1e-6)


def test_no_share_is_refused():
  with pytest.raises(
    InputError, match=r'plain_probability=1.5: not in \[0,1\]'
  ):
    make_prepare(BlurRanges(), plain_probability=1.5)
