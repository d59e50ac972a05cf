"""Tiles cover a picture, are joined without a trace, and are few shapes."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_jax import contenders, runner, trained
from deblur_jax.imaging import tiling
from deblur_jax.restorer import Restorer
from deblur_jax.types import InputError
from tests.artefacts import psnr, seam_ratio
from tests.runs import lively_model, picture

sides = st.integers(1, 700)


@settings(deadline=None, max_examples=50)
@given(sides, sides, st.sampled_from([160, 256, 512]))
def test_tiles_cover_the_picture_with_weights_of_one(height, width, side):
  pixels = np.ones((height, width, 1), np.float32)
  tiles = tiling.Tiles(height, width, side)
  whole = np.zeros_like(pixels)
  places = list(tiles)
  assert len(places) == len(tiles)
  for place in places:
    tiles.add(whole, tiles.cut(pixels, place), place)
  np.testing.assert_allclose(whole, 1, atol=1e-6)
  steps = np.array(places) + tiling.MARGIN
  assert not (steps % tiling.MULTIPLE).any()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_mirrored_is_numpys_symmetric_padding(height, width, seed):
  pixels = picture(height, width, seed)
  shape = tuple(map(tiling.mirrored_side, (height, width)))
  before = tiling.MARGIN
  pads = [
    (before, s - n - before)
    for s, n in zip(shape, pixels.shape[:2], strict=True)
  ]
  expected = np.pad(pixels, [*pads, (0, 0)], 'symmetric')
  got = tiling.mirrored(pixels, (-before, -before), shape)
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
  ('family', 'bound'), [('cnn', 50), ('gan', 50), ('diffusion', 40)]
)
def test_tiles_give_what_the_whole_picture_gives(family, bound):
  model = lively_model(family)
  pixels, side = picture(150, 222), 160
  whole = Restorer([model]).restore(pixels, 'a')
  tiled = Restorer([model], tile=side).restore(pixels, 'a')
  assert (whole.tiles, tiled.tiles) == (1, 6)
  changed = psnr(whole.pixels, pixels / np.float32(255))
  assert changed < 35, 'the model does nothing'
  assert psnr(whole.pixels, tiled.pixels) >= bound
  assert seam_ratio(whole.pixels, tiled.pixels, side) <= 1.05


def test_tiles_are_larger_than_what_pools_look_at():
  model, pixels = lively_model(), picture(150, 222)
  assert Restorer([model], tile=160).restore(pixels).tiles == 6
  with model.config.unlocked():
    model.config.data.crop = 88  # 132 pixels, and 96 that tiles share
  assert Restorer([model], tile=160).restore(pixels).tiles == 1
  assert Restorer([model], tile=160).restore(picture(150, 225)).tiles == 2


def test_evaluation_and_restoring_give_the_same():
  model = lively_model()
  pixels = picture(45, 33)
  blur = (pixels / np.float32(255))[None]
  ids = np.zeros(1, np.int32)
  expected = jax.jit(trained.make_restore(model.config, model.family))(
    model.params, blur, ids
  )
  got = Restorer([model]).restore(pixels).pixels
  np.testing.assert_allclose(got, expected[0], atol=1e-6)


def test_many_sizes_are_compiled_at_most_four_times(monkeypatch):
  traced = []
  make = trained.make_restore_part

  def counting(config, family):
    part = make(config, family)

    def count(params, blur, *rest):
      traced.append(blur.shape)
      return part(params, blur, *rest)

    return count

  monkeypatch.setattr(trained, 'make_restore_part', counting)
  monkeypatch.setattr(runner, 'SIDES', (192,))
  monkeypatch.setattr(runner, 'SMALL_SIDE', 160)
  restore = Restorer([lively_model()])
  sizes = [(1, 1), (1, 90), (7, 5), (63, 65), (130, 40), (300, 20), (40, 330)]
  for size in sizes:
    restored = restore(picture(*size))
    assert restored.shape == (*size, 3)
    assert restored.dtype == np.uint8
  assert len(traced) == len(set(traced)) <= 4, traced


def test_ensemble_of_a_symmetric_picture_is_symmetric():
  restore = Restorer([lively_model()], ensemble=True)
  quarter = picture(20, 20)
  left = np.concatenate([quarter, quarter[::-1]])
  pixels = np.concatenate([left, left[:, ::-1]], 1)
  made = restore.restore(pixels)
  np.testing.assert_allclose(made.pixels, made.pixels[::-1], atol=1e-5)
  assert made.tiles == 1


def test_strength_mixes_with_the_input():
  model, pixels = lively_model(), picture()
  given, full = pixels / np.float32(255), Restorer([model]).restore(pixels)
  for strength in (0.0, 0.25):
    mixed = Restorer([model], strength=strength).restore(pixels)
    expected = given + strength * (full.pixels - given)
    np.testing.assert_allclose(mixed.pixels, expected, atol=1e-6)


def test_cascade_is_one_model_after_the_other():
  first, second = lively_model(), lively_model('gan', seed=1)
  pixels = picture()
  passed = Restorer([first]).restore(pixels).pixels.clip(0, 1)
  expected = Restorer([second]).restore(passed).pixels
  got = Restorer([first, second]).restore(pixels).pixels
  np.testing.assert_array_equal(got, expected)


def test_a_cascade_is_scored_as_it_restores():
  models = lively_model(), lively_model('gan', seed=1)
  pixels = picture()
  batch = {'blur': pixels[None] / np.float32(255), 'id': np.zeros(1, np.int32)}
  scored, _ = contenders.cascade(*models).run(batch)
  change = Restorer(models)(pixels).astype(int) - scored[0]
  assert np.abs(change).max() <= 1


def test_little_memory_makes_small_tiles_and_too_little_one_line(monkeypatch):
  run = runner.Runner(lively_model())
  room = 0.0
  monkeypatch.setattr(runner.Runner, '_room', property(lambda _: room))
  small, large = (run._lacking(run._at_once, n, n) for n in (256, 512))
  assert 100 < small / (run._at_once * 256**2) < 10_000
  assert small < large < 5 * small
  room = large - 1
  assert run._side(small=False) == 256
  room = 1e5
  with pytest.raises(InputError, match='too little memory.*--memory'):
    Restorer([lively_model()])(picture(600, 600))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'strength': 1.5}, '--strength=1.5'),
    ({'tile': 20}, '--tile=20'),
    ({'memory': -1.0}, '--memory=-1'),
  ],
)
def test_nonsense_is_refused(options, message):
  with pytest.raises(InputError, match=message):
    Restorer([lively_model()], **options)


@pytest.mark.parametrize(
  'pixels',
  [
    np.zeros((4, 4), np.uint8),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.float64),
  ],
)
def test_what_is_no_picture_is_refused(pixels):
  with pytest.raises(InputError, match='is no picture'):
    Restorer([lively_model()])(pixels)


def test_constant_pictures_stay_constant_at_the_border():
  model = lively_model()
  zeros = jax.tree.map(np.zeros_like, model.params['net']['params']['ending'])
  model.params['net']['params']['ending'] = zeros
  for colour in [(33, 25, 23), (0, 0, 0), (255, 255, 255)]:
    flat = np.broadcast_to(np.uint8(colour), (50, 41, 3))
    np.testing.assert_array_equal(Restorer([model])(flat), flat)
