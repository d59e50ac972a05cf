"""Pictures are paired right, split stably and prepared once."""

import contextlib
import itertools
import os
import pathlib
from concurrent import futures
from unittest import mock

import numpy as np
import pytest

from deblur_jax.config import base_config
from deblur_jax.data import sources
from deblur_jax.data.builders import base, folder
from deblur_jax.types import InputError
from tests.runs import picture, save


def data_config(root, pairs='synthetic', **changes):
  data = base_config().data
  data.name, data.manual_dir, data.pairs = 'folder', str(root), pairs
  data.crop, data.batch_size = 8, 4
  data.update(changes)
  return data


def make_pairs(root, count=10, size=(24, 20)):
  for i in range(count):
    image = picture(*size, seed=i)
    save(root / 'sharp' / f'{i}.png', image)
    save(root / 'blur' / f'{i}.png', 255 - image)
  return root


@pytest.mark.parametrize('pairs', ['rael', 'mixed'])
def test_unknown_pairs_are_refused(tmp_path, pairs):
  make_pairs(tmp_path)
  with pytest.raises(
    InputError, match=f'config.data.pairs={pairs}: folder has'
  ):
    sources.open_split(data_config(tmp_path, pairs), 'train')


def test_pairs_match_by_name_whatever_the_extension(tmp_path):
  for i, (one, other) in enumerate([('.png', '.PNG'), ('.jpg', '.JPEG')]):
    save(tmp_path / 'blur' / f'{i}{one}', picture(seed=i))
    save(tmp_path / 'sharp' / f'{i}{other}', picture(seed=i))
  pairs = folder.match(tmp_path / 'blur', tmp_path / 'sharp')
  assert [pair.name for pair in pairs] == ['0', '1']
  assert all(pair.blur.stem == pair.sharp.stem for pair in pairs)


@pytest.mark.parametrize('seed', range(3))
def test_pairs_do_not_hang_on_the_order_of_the_directory(tmp_path, seed):
  make_pairs(tmp_path)
  found = folder.match(tmp_path / 'blur', tmp_path / 'sharp')
  rng = np.random.default_rng(seed)
  scan, seen = os.scandir, []

  @contextlib.contextmanager
  def shuffled(place):
    with scan(place) as entries:
      ordered = sorted(entries, key=lambda entry: entry.name)
    mixed = [ordered[i] for i in rng.permutation(len(ordered))]
    seen.append([entry.name for entry in mixed])
    yield mixed

  with mock.patch.object(os, 'scandir', shuffled):
    assert folder.match(tmp_path / 'blur', tmp_path / 'sharp') == found
  assert seen[0] != seen[1], 'the sides came in one order'


def test_a_missing_partner_is_named(tmp_path):
  make_pairs(tmp_path, 3)
  (tmp_path / 'blur' / '1.png').unlink()
  with pytest.raises(InputError, match='no partner.* for 1$'):
    folder.match(tmp_path / 'blur', tmp_path / 'sharp')


def test_unequal_sizes_are_named(tmp_path):
  make_pairs(tmp_path, 3)
  save(tmp_path / 'blur' / '1.png', picture(24, 21))
  with pytest.raises(InputError, match=r'blur/1\.png is 21x24 .* 20x24'):
    list(sources.open_folder(tmp_path))


def test_empty_folder(tmp_path):
  with pytest.raises(InputError, match='no pictures'):
    sources.open_folder(tmp_path)
  with pytest.raises(InputError, match='no such folder'):
    sources.open_folder(tmp_path / 'nowhere')


def named(names):
  return [base.Pair(name, pathlib.Path(f'{name}.png')) for name in names]


@pytest.mark.parametrize('count', [3, 4, 10, 57])
def test_splits_are_whole_disjoint_and_stable(count):
  pairs = named(f'{i}' for i in range(count))
  splits = base.split_pairs(pairs)
  parts = list(itertools.chain(*splits.values()))
  assert sorted(parts, key=lambda p: p.name) == sorted(
    pairs, key=lambda p: p.name
  )
  assert all(splits.values())
  again = base.split_pairs(pairs[::-1])
  assert {s: set(p) for s, p in again.items()} == {
    s: set(p) for s, p in splits.items()
  }


def test_two_pictures_cannot_be_split():
  with pytest.raises(InputError, match='at least 3'):
    base.split_pairs(named(['a', 'b']))


def test_missing_val_comes_out_of_train():
  pairs = named(f'{i}' for i in range(20))
  splits = base.complete({'train': pairs, 'test': named(['t'])})
  assert [p.name for p in splits['test']] == ['t']
  assert len(splits['val']) == 2
  assert set(splits['val']) | set(splits['train']) == set(pairs)
  assert not set(splits['val']) & set(splits['train'])


@pytest.mark.parametrize('size', [(30, 70), (64, 64), (65, 200), (10, 10)])
def test_tiles_cover_everything(size):
  seen = np.zeros(size, int)
  for box in base.tiles((0, 0, *size), 64):
    assert box[2] <= 64
    assert box[3] <= 64
    assert box[2:] == (min(size[0], 64), min(size[1], 64))
    base.cut(seen, box)[...] += 1
  assert seen.min() >= 1


def test_folder_source_end_to_end(tmp_path):
  data = data_config(make_pairs(tmp_path), 'real')
  splits = {split: sources.open_split(data, split) for split in base.SPLITS}
  assert {split: len(s) for split, s in splits.items()} == {
    'train': 8,
    'val': 1,
    'test': 1,
  }
  for example in itertools.chain(*splits.values()):
    image = picture(seed=int(example['name']))
    np.testing.assert_array_equal(example['sharp'], image)
    np.testing.assert_array_equal(example['blur'], 255 - image)


def test_prepared_again_only_when_the_source_changed(tmp_path):
  data = data_config(make_pairs(tmp_path))
  first = sources.load_builder(data).data_dir
  assert sources.load_builder(data).data_dir == first
  save(tmp_path / 'sharp' / '0.png', picture(seed=99))
  assert sources.load_builder(data).data_dir != first


def test_runs_begun_together_prepare_once(tmp_path):
  data = data_config(make_pairs(tmp_path))
  with futures.ThreadPoolExecutor() as pool:
    builders = list(pool.map(sources.load_builder, [data] * 4))
  assert len({builder.data_dir for builder in builders}) == 1
  assert all(builder.info.splits['train'].num_examples for builder in builders)


def test_what_another_run_has_just_prepared_is_found(tmp_path, monkeypatch):
  data = data_config(make_pairs(tmp_path))
  begin, begun = folder.Builder.__init__, []

  def overtaken(builder, *args, **kwargs):
    begin(builder, *args, **kwargs)
    if not begun:
      begun.append(builder)
      sources.load_builder(data)

  monkeypatch.setattr(folder.Builder, '__init__', overtaken)
  assert sources.load_builder(data).info.splits['train'].num_examples


def test_bad_file_stops_or_is_skipped(tmp_path):
  make_pairs(tmp_path, 4)
  (tmp_path / 'sharp' / '2.png').write_bytes(b'rubbish')
  with pytest.raises(InputError, match=r'2\.png'):
    sources.load_builder(data_config(tmp_path))
  builder = sources.load_builder(data_config(tmp_path, skip_bad=True))
  sizes = [info.num_examples for info in builder.info.splits.values()]
  assert sum(sizes) == 3
  for path in (tmp_path / 'sharp').iterdir():
    path.write_bytes(b'rubbish')
  with pytest.raises(InputError, match='folder/train: no picture can be read'):
    sources.load_builder(data_config(tmp_path, skip_bad=True))


def test_own_splits_are_honoured(tmp_path):
  for split, count in (('train', 5), ('test', 2)):
    make_pairs(tmp_path / split, count)
  splits = folder.Builder.find_pairs(data_config(tmp_path, 'real'))
  assert {s: len(pairs) for s, pairs in splits.items()} == {
    'train': 4,
    'val': 1,
    'test': 2,
  }
