"""The data sets' layouts, and the traps in them."""

import shutil

import pytest
from PIL import Image
from skimage import data

from deblur_jax.config import base_config
from deblur_jax.data import check, sources
from deblur_jax.data.builders import base, blur_dataset, deblur_collection
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
        save(path, picture(16, 16, seed=hash((split, side, i)) % 999))
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
