"""Batches are cut alike, in one order, and complete."""

import itertools
import time

import numpy as np
import pytest

from deblur_jax.config import base_config
from deblur_jax.data import names, pipeline, sources
from deblur_jax.types import InputError
from tests.runs import picture


def data_config(**changes):
  data = base_config().data
  data.crop, data.batch_size = 8, 4
  data.update(changes)
  return data


def examples(count=6, real=True, size=(24, 20)):
  def read(index):
    sharp = picture(*size, seed=index)
    sides = {'blur': 255 - sharp} if real else {}
    return {'name': f'p{index}', 'sharp': sharp, **sides}

  return sources.Examples(read, count, real)


def take(batches, count):
  return list(itertools.islice(batches, count))


def assert_equal(one, other):
  assert one.keys() == other.keys()
  for key in one:
    np.testing.assert_array_equal(one[key], other[key])


def test_both_sides_are_cut_alike():
  data = data_config()
  for batch in take(pipeline.train_batches(examples(), data, 0), 5):
    assert batch['sharp'].shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(batch['blur'], 255 - batch['sharp'])


def test_order_depends_on_seed_and_step_alone():
  data = data_config()
  whole = take(pipeline.train_batches(examples(), data, 7), 6)
  for start in range(6):
    rest = pipeline.train_batches(examples(), data, 7, start=start)
    for one, other in zip(whole[start:], take(rest, 6 - start), strict=True):
      assert_equal(one, other)
  other = take(pipeline.train_batches(examples(), data, 8), 6)
  assert any(
    (a['id'] != b['id']).any() for a, b in zip(whole, other, strict=True)
  )


def test_a_few_batches_are_read_ahead(monkeypatch):
  monkeypatch.setattr('os.cpu_count', lambda: 2)  # more cores, more batches
  read, source = [], examples()

  def counted(index):
    read.append(index)
    return source[index]

  counting = sources.Examples(counted, len(source), source.real)
  batches = pipeline.train_batches(counting, data_config(batch_size=32), 0)
  next(batches)
  time.sleep(0.5)
  assert 32 <= len(read) <= 7 * 32


@pytest.mark.parametrize('count', [2, 4])
def test_processes_together_load_the_same_batches(count):
  data = data_config()
  whole = take(pipeline.train_batches(examples(), data, 0, start=2), 3)
  parts = [
    take(
      pipeline.train_batches(
        examples(), data, 0, 2, pipeline.Shard(index, count)
      ),
      3,
    )
    for index in range(count)
  ]
  for step, batch in enumerate(whole):
    shares = [part[step] for part in parts]
    joined = {k: np.concatenate([s[k] for s in shares]) for k in batch}
    assert_equal(joined, batch)


def test_every_picture_comes_equally_often():
  data = data_config(batch_size=2 * pipeline.SHUFFLED)
  source = examples(pipeline.SHUFFLED // 4)
  (batch,) = take(pipeline.train_batches(source, data, 0), 1)
  _, counts = np.unique(batch['id'], return_counts=True)
  assert counts.tolist() == [8] * len(source)


def test_small_pictures_are_mirrored_up_to_the_crop():
  data = data_config(crop=32)
  (batch,) = take(pipeline.train_batches(examples(), data, 0), 1)
  assert batch['sharp'].shape == (4, 32, 32, 3)


@pytest.mark.parametrize('sides', [(32, 32), (40, 48), (90, 35)])
def test_what_is_mirrored_lies_in_the_margin(sides):
  rows, columns = np.indices(sides)
  places = np.stack([rows, columns, rows], -1).astype(np.uint8)
  example = {'name': 'a', 'sharp': places}
  margin, crop = 10, 32
  cut = slice(margin, margin + crop)
  for seed in range(20):
    row = pipeline.augment(
      example, crop + 2 * margin, np.random.default_rng(seed), margin
    )
    assert row['sharp'].shape == (52, 52, 3)
    seen = row['sharp'][cut, cut, :2].reshape(-1, 2)
    assert len(np.unique(seen, axis=0)) == crop**2


def test_uneven_share_is_refused():
  with pytest.raises(InputError, match='cannot be shared by 3'):
    shard = pipeline.Shard(0, 3)
    next(pipeline.train_batches(examples(), data_config(), 0, shard=shard))


def test_whole_batches_keep_every_picture_once():
  def read(index):
    return {'name': f'p{index}', 'sharp': picture(20 + index % 2, 20, index)}

  source = sources.Examples(read, 7, False)
  seen = {}
  for some, batch in pipeline.whole_batches(source, 2 * 4e-4, 2, 1):
    assert batch['mask'].sum() == len(some)
    for row, name in enumerate(some):
      index = int(name.split('@')[0][1:])
      assert name not in seen
      seen[name] = batch['id'][row]
      np.testing.assert_array_equal(batch['sharp'][row], read(index)['sharp'])
  assert len(seen) == 14
  assert len(set(seen.values())) == 14


@pytest.mark.parametrize('repeats', [1, 2, 12])
def test_only_the_number_of_a_blur_is_taken_off_a_name(repeats):
  pictures = ['photo', 'me@home_1', 'cat@3x', 'IMG@0', 'IMG@1', 'IMG@2']
  blurred = [v for name in pictures for v in names.variants(name, repeats)]
  wanted = [name for name in pictures for _ in range(repeats)]
  assert names.photographs(blurred) == wanted
  some = ['IMG@1', 'IMG@2']
  assert names.photographs(some) == some


def test_whole_batches_share_pictures_out_evenly():
  def read(index):
    return {'name': f'p{index}', 'sharp': picture(20, 20, index)}

  source = sources.Examples(read, 8, False)
  batches = list(pipeline.whole_batches(source, 6 * 4e-4, 1, 1))
  assert [len(names) for names, _ in batches] == [4, 4], 'not 6 and 2 of 6'
  assert all(batch['mask'].all() for _, batch in batches)


@pytest.mark.parametrize(
  ('most', 'count', 'rows'),
  [(7, 8, 4), (3, 8, 2), (20, 8, 16), (8, 8, 8), (5, 1, 5), (0, 8, 1)],
)
def test_variants_of_a_photograph_fill_their_batches(most, count, rows):
  assert pipeline.even(most, count) == rows


def test_ids_hang_on_names_only():
  assert names.example_id('chelsea@3') == names.example_id('chelsea@3')
  assert 0 <= names.example_id('x') < 2**31
