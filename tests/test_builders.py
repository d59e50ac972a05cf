"""The data sets' layouts, and the traps in them."""

import collections
import shutil
from zlib import crc32

import jax
import numpy as np
import pytest
from PIL import Image
from skimage import data

from deblur_jax.config import base_config
from deblur_jax.data import check, pipeline, sources
from deblur_jax.data.builders import (
  base,
  blur_dataset,
  deblur_collection,
  mixture,
)
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.types import InputError
from tests.runs import command, picture, save

KWENTAR = {'sharp': 'S', 'defocused_blurred': 'F', 'motion_blurred': 'M'}
EXTENSIONS = ('.JPG', '.jpeg', '.jpg')


def make_kwentar(root, count=6):
  """Triplets whose names sort differently from their IDs, as downloaded."""
  for i in range(count):
    for k, (folder, letter) in enumerate(KWENTAR.items()):
      name = f'{i * 37}_PHONE-{9 - i}_{letter}{EXTENSIONS[(i + k) % 3]}'
      save(root / folder / name, picture(24, 20, seed=100 * k + i))
  return root


def make_collection(root, splits=('train', 'test'), count=5):
  for split in splits:
    for i in range(count):
      for side in ('blur', 'sharp'):
        path = root / 'DBlur' / 'CelebA' / split / side / f'{i}.png'
        save(path, picture(16, 16, seed=crc32(f'{split}{side}{i}'.encode())))
  return root


def data_config(name, root, **changes):
  settings = base_config().data
  settings.name, settings.manual_dir = name, str(root)
  settings.update(changes)
  return settings


@pytest.mark.parametrize('inside', ['', 'blur_dataset_scaled'])
@pytest.mark.parametrize('subset', ['defocus', 'motion'])
def test_kwentar_pairs_by_id(tmp_path, inside, subset):
  make_kwentar(tmp_path / inside)
  settings = data_config('blur_dataset', tmp_path, pairs='real', subset=subset)
  splits = blur_dataset.Builder.find_pairs(settings)
  pairs = [pair for part in splits.values() for pair in part]
  assert sorted(pair.name for pair in pairs) == sorted(
    str(37 * i) for i in range(6)
  )
  for pair in pairs:
    ids = {path.name.split('_')[0] for path in (pair.sharp, pair.blur)}
    assert ids == {pair.name}
  assert [len(splits[s]) for s in base.SPLITS] == [4, 1, 1]


def test_kwentar_both_roots_are_not_counted_twice(tmp_path):
  make_kwentar(tmp_path)
  shutil.copytree(tmp_path / 'sharp', tmp_path / 'blur_dataset_scaled/sharp')
  splits = blur_dataset.Builder.find_pairs(
    data_config('blur_dataset', tmp_path)
  )
  assert sum(map(len, splits.values())) == 6


def test_kwentar_missing_partner_and_bad_names(tmp_path):
  make_kwentar(tmp_path)
  settings = data_config(
    'blur_dataset', tmp_path, pairs='real', subset='motion'
  )
  next((tmp_path / 'motion_blurred').glob('37_*')).unlink()
  with pytest.raises(InputError, match='no partner for ID 37'):
    blur_dataset.Builder.find_pairs(settings)
  save(tmp_path / 'motion_blurred' / 'cover.jpg', picture())
  with pytest.raises(InputError, match=r'cover\.jpg.*ID_DEVICE_TYPE'):
    blur_dataset.Builder.find_pairs(settings)
  settings.subset = 'gaussian'
  with pytest.raises(InputError, match='defocus, motion'):
    blur_dataset.Builder.find_pairs(settings)


def test_kwentar_turned_sides_match(tmp_path):
  """Both sides are turned by their own EXIF before they are compared."""
  exif = Image.Exif()
  exif[0x0112] = 6
  for i in range(3):
    image = Image.fromarray(picture(24, 16, seed=i))
    for folder, letter in KWENTAR.items():
      path = tmp_path / folder / f'{i}_X_{letter}.jpg'
      path.parent.mkdir(exist_ok=True)
      if letter == 'S':
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
      else:
        image.save(path)
  settings = data_config(
    'blur_dataset', tmp_path, pairs='real', subset='motion'
  )
  (example,) = sources.open_split(settings, 'test')
  assert example['sharp'].shape == example['blur'].shape == (24, 16, 3)


def test_collection_makes_val_from_train(tmp_path):
  make_collection(tmp_path)
  settings = data_config(
    'deblur_collection', tmp_path, subset='CelebA', pairs='real'
  )
  splits = deblur_collection.Builder.find_pairs(settings)
  assert {s: len(pairs) for s, pairs in splits.items()} == {
    'train': 4,
    'val': 1,
    'test': 5,
  }
  assert splits['test'][0].name == 'CelebA/test/0'
  again = deblur_collection.Builder.find_pairs(settings)
  assert again == splits


def test_collection_with_sides_at_the_root_is_test(tmp_path):
  make_collection(tmp_path, splits=('.',))
  settings = data_config(
    'deblur_collection', tmp_path, subset='CelebA', pairs='real'
  )
  splits = deblur_collection.Builder.find_pairs(settings)
  assert {s: len(pairs) for s, pairs in splits.items()} == {'test': 5}
  with pytest.raises(InputError, match='no train split'):
    sources.open_split(settings, 'train')


@pytest.mark.parametrize('name', ['gaussian', 'motion', 'celeb'])
def test_missing_data_says_how_to_get_it(name, tmp_path):
  done = command(
    'main',
    f'--config=configs/cnn_{name}.py:small',
    f'--config.data.manual_dir={tmp_path}',
    f'--workdir={tmp_path / "run"}',
  )
  assert done.returncode == 2
  for words in ('kaggle.com', str(tmp_path), 'sharp', 'cnn_photos.py'):
    assert words in done.stderr
  assert 'Traceback' not in done.stderr
  assert not list((tmp_path / 'run').glob('checkpoints/*'))


def test_data_folder_from_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv('DEBLUR_DATA', str(make_kwentar(tmp_path)))
  settings = data_config('blur_dataset', '')
  assert blur_dataset.Builder.find_pairs(settings)['train']


def test_embedded_photographs_need_no_folder():
  settings = data_config('photos', '')
  names = {
    split: {example['name'] for example in sources.open_split(settings, split)}
    for split in base.SPLITS
  }
  assert names['train'] == names['val']
  assert {split: len(found) for split, found in names.items()} == {
    'train': 3,
    'val': 3,
    'test': 2,
  }
  assert not names['test'] & names['train']


def test_check_finds_a_planted_duplicate(tmp_path):
  for split in ('train', 'test'):
    for i in range(6):
      top, left = 64 * i, 200 * (split == 'test')
      photo = data.astronaut()[top : top + 64, left : left + 48]
      save(tmp_path / split / f'{i}.png', photo)
  splits = {
    split: [
      base.Pair(f'{split}/{i}', tmp_path / split / f'{i}.png') for i in range(6)
    ]
    for split in ('train', 'test')
  }
  lines, problems = check.check(splits)
  assert problems == []
  assert lines[0].startswith('train: 6 pictures, 48x64 (6); values ')
  leaked = Image.open(tmp_path / 'train/2.png').resize((40, 54))
  leaked.save(tmp_path / 'test/4.png', quality=60)
  _, problems = check.check(splits)
  assert problems == ['in two splits: train train/2 = test test/4']


def test_check_reports_shifted_and_flat_and_broken(tmp_path):
  for i in range(3):
    image = picture(96, 96, seed=i)
    save(tmp_path / 'sharp' / f'{i}.png', image)
    save(tmp_path / 'blur' / f'{i}.png', image)
  save(tmp_path / 'blur' / '1.png', picture(101, 96, seed=1)[5:])
  save(tmp_path / 'sharp' / '2.png', picture(96, 96)[:, :, :] * 0 + 7)
  pairs = sources.folder.find(tmp_path, real=True)
  broken = tmp_path / 'broken.png'
  broken.write_bytes(b'rubbish')
  _, problems = check.check({'test': [*pairs, base.Pair('bad', broken)]})
  text = '\n'.join(problems)
  assert 'broken.png' in text
  assert 'one flat colour: test 2' in text
  assert 'not aligned' in text


def make_mixture(root):
  """Photographs, pairs with splits of their own, and pairs without."""
  for i in range(10):
    save(root / 'photos' / 'train' / f'{i}.png', picture(20, 30, seed=i))
  save(root / 'photos' / 'test' / '0.png', picture(20, 30, seed=99))
  make_collection(root)
  for side in ('blur', 'sharp'):
    save(root / 'video' / side / '0.png', picture(16, 20, seed=len(side)))
  return root


MIXTURE = 'photos*3,DBlur/CelebA,video*2'


def mixture_config(root, subset=MIXTURE, **changes):
  made = make_mixture(root)
  return data_config('mixture', made, subset=subset, **changes)


def test_mixture_takes_parts_as_often_as_asked(tmp_path):
  settings = mixture_config(tmp_path, pairs='mixed')
  splits = mixture.Builder.find_pairs(settings)
  names = {s: {pair.name for pair in pairs} for s, pairs in splits.items()}
  assert not names['train'] & (names['val'] | names['test'])
  assert not any(pair.blur for s in ('val', 'test') for pair in splits[s])
  train = sources.open_split(settings, 'train')
  seen = collections.Counter(train[i]['name'] for i in range(len(train)))
  assert seen['video/0'] == 2
  assert {n for name, n in seen.items() if name.startswith('photos/')} == {3}
  assert {n for name, n in seen.items() if name.startswith('DBlur/')} == {1}
  again = sources.open_split(settings, 'train')  # now names lie in a file
  for i in range(len(train)):
    assert again[i]['name'] == train[i]['name']


def test_mixture_of_data_that_may_only_be_read(tmp_path, monkeypatch):
  def refuse(path, text):
    raise InputError(f'{path}: cannot be written')

  settings = mixture_config(tmp_path, pairs='mixed')
  sources.load_builder(settings)
  monkeypatch.setattr(sources.files, 'write_text', refuse)
  before = [one['name'] for one in sources.open_split(settings, 'train')]
  monkeypatch.undo()
  after = [one['name'] for one in sources.open_split(settings, 'train')]
  assert before == after


def test_mixture_keeps_real_pairs_and_blurs_the_others(tmp_path):
  settings = mixture_config(tmp_path, pairs='mixed', crop=16, batch_size=32)
  train = sources.open_split(settings, 'train')
  assert not train.real
  pairs = mixture.Builder.find_pairs(settings)['train']
  pairs = {pair.name: pair for pair in pairs}
  for i in range(len(train)):
    pair = pairs[train[i]['name']]
    assert train[i]['real'] == (pair.blur is not None)
    if pair.blur:
      stored = np.asarray(Image.open(pair.blur))
      np.testing.assert_array_equal(train[i]['blur'], stored)
  raw = next(pipeline.train_batches(train, settings, 0, margin=4))
  assert raw['blur'].shape == raw['sharp'].shape == (32, 24, 24, 3)
  assert raw['real'].any() and not raw['real'].all()
  # A real pair is cut from its 16 px; the margin is its own reflection.
  for row in raw['blur'][raw['real']]:
    inner = np.pad(row[4:-4, 4:-4], ((4, 4), (4, 4), (0, 0)), 'symmetric')
    np.testing.assert_array_equal(row, inner)
  prepare = make_prepare(BlurRanges(sigma=(2.0, 2.0)), crop=16)
  keys = jax.random.split(jax.random.key(0), 32)
  batch = jax.jit(prepare)(raw, keys)
  given = raw['blur'][:, 4:-4, 4:-4] / 255.0
  same = np.isclose(batch['blur'], given, atol=1e-6).all(axis=(1, 2, 3))
  np.testing.assert_array_equal(same, raw['real'])


def test_mixture_trains_on_nothing_that_a_part_keeps_back(tmp_path):
  subset = 'DBlur/CelebA,DBlur/CelebA/train/sharp*2'
  settings = mixture_config(tmp_path, subset, pairs='mixed')
  splits = mixture.Builder.find_pairs(settings)
  files = {s: {pair.sharp for pair in pairs} for s, pairs in splits.items()}
  assert files['val'] and files['train']
  assert not files['train'] & (files['val'] | files['test'])


def test_mixture_keeps_each_picture_once_for_validation_and_test(tmp_path):
  for i in range(30):
    save(tmp_path / 'mine' / f'{i}.png', picture(20, 30, seed=i))
  settings = data_config('mixture', tmp_path, subset='mine*16')
  splits = mixture.Builder.find_pairs(settings)
  assert {pair.times for pair in splits.pop('train')} == {16}
  assert splits.keys() == {'val', 'test'}
  assert {p.times for pairs in splits.values() for p in pairs} == {1}


def test_mixture_of_test_pictures_alone(tmp_path):
  save(tmp_path / 'mine' / 'test' / '0.png', picture())
  settings = data_config('mixture', tmp_path, subset='mine', pairs='mixed')
  assert mixture.Builder.find_pairs(settings).keys() == {'test'}
  with pytest.raises(InputError, match='no train split here'):
    sources.open_split(settings, 'train')


@pytest.mark.parametrize(
  'clip', ['GOPR1/{}', 'train_{}/000', 'scene/{}', 'GOPR1/{}_gamma']
)
def test_blurred_pictures_are_not_taken_for_sharp_ones(tmp_path, clip):
  for side in ('blur', 'sharp'):
    save(tmp_path / 'train' / clip.format(side) / '0.png', picture())
  for name in ('folder', 'mixture'):
    changes = {'subset': '.'} if name == 'mixture' else {}
    settings = data_config(name, tmp_path, pairs='synthetic', **changes)
    with pytest.raises(InputError, match=r'train: pairs in .*train/blur and'):
      sources.load_builder(settings)
  with pytest.raises(InputError, match='pairs in'):
    sources.open_folder(tmp_path / 'train')


def test_crops_are_no_larger_than_what_is_stored(tmp_path):
  with pytest.raises(InputError, match='crop=768: at most 512'):
    sources.open_splits(data_config('folder', tmp_path, crop=768))


@pytest.mark.parametrize(
  ('subset', 'message'),
  [
    ('photos,nowhere', 'nowhere: no such folder'),
    ('photos*many', r"'photos\*many' is not FOLDER or FOLDER\*TIMES"),
    ('photos*0', 'is not FOLDER'),
    ('', 'is not FOLDER'),
    ('video*2,video', 'two parts hold video/0'),
  ],
)
def test_mixture_refuses_what_is_none(tmp_path, subset, message):
  with pytest.raises(InputError, match=message):
    mixture.Builder.find_pairs(mixture_config(tmp_path, subset))
