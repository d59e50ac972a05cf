"""Pictures are read right, paired right, split stably and cut alike."""

import io
import itertools
import pathlib
import struct
import time
import zlib
from concurrent import futures
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from deblur_jax.config import base_config
from deblur_jax.data import pictures, pipeline, sources
from deblur_jax.data.builders import base, folder
from deblur_jax.imaging import picture as picture_lib
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


def test_exif_orientation_is_applied(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # turn a quarter clockwise
  image = picture(24, 16)
  path = tmp_path / 'turned.png'
  Image.fromarray(image).save(path, exif=exif)
  np.testing.assert_array_equal(pictures.read_rgb(path), np.rot90(image, -1))


def exif_bytes(*tags):
  """EXIF data of (number, type, bytes) each, as a camera might write them."""
  table, beyond = struct.pack('<H', len(tags)), b''
  end = 8 + 2 + 12 * len(tags) + 4
  for number, kind, value in tags:
    place = value.ljust(4, b'\0')
    if len(value) > 4:
      place, beyond = struct.pack('<I', end + len(beyond)), beyond + value
    table += struct.pack('<HHI', number, kind, 1) + place
  return b'Exif\0\0II*\0' + struct.pack('<I', 8) + table + bytes(4) + beyond


BROKEN_EXIF = {
  'text for a number': (0x011A, 2, b'a'),
  'below zero': (0x8769, 9, struct.pack('<i', -5)),
  'not a number': (0x011A, 12, struct.pack('<d', np.nan)),
  'a number for text': (0x010E, 11, struct.pack('<f', 1.5)),
}


@pytest.mark.parametrize('extension', ['jpg', 'png', 'webp'])
@pytest.mark.parametrize('broken', BROKEN_EXIF)
def test_broken_exif_leaves_the_picture_upright(tmp_path, broken, extension):
  turned = 0x0112, 3, struct.pack('<H', 6)
  path = tmp_path / f'turned.{extension}'
  exif = exif_bytes(turned, BROKEN_EXIF[broken])
  Image.fromarray(picture(24, 16)).save(path, exif=exif)
  assert pictures.read_rgb(path).shape == (16, 24, 3)
  got = picture_lib.read(path)
  assert got.pixels.shape == (16, 24, 3)
  assert got.notes == ('broken EXIF data were dropped',)
  picture_lib.write(got, path)
  assert pictures.read_rgb(path).shape == (16, 24, 3)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', '1'])
def test_every_mode_becomes_rgb(tmp_path, mode):
  image = Image.fromarray(picture()).convert(mode)
  path = tmp_path / ('picture.tif' if mode == 'CMYK' else 'picture.png')
  image.save(path)
  expected = np.asarray(image.convert('RGB'))
  np.testing.assert_array_equal(pictures.read_rgb(path), expected)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
  levels = np.linspace(0, 65535, 256).round().astype(np.uint16)
  path = tmp_path / 'deep.png'
  Image.fromarray(levels.reshape(16, 16)).save(path)
  got = pictures.read_rgb(path)[..., 0].ravel()
  np.testing.assert_array_equal(got, np.arange(256))


def test_floats_of_the_unit_range_are_scaled(tmp_path):
  levels = np.linspace(0, 1, 256, dtype=np.float32)
  path = tmp_path / 'float.tif'
  Image.fromarray(levels.reshape(16, 16)).save(path)
  got = pictures.read_rgb(path)[..., 0].ravel()
  np.testing.assert_array_equal(got, np.arange(256))


@pytest.mark.parametrize('level', [np.float32(255), np.int32(70_000)])
def test_levels_without_a_full_scale_are_refused(tmp_path, level):
  path = tmp_path / 'levels.tif'
  Image.fromarray(np.full((4, 4), level)).save(path)
  with pytest.raises(
    InputError, match='levels.tif: levels from .* 8 or 16 bit'
  ):
    pictures.read_rgb(path)


@pytest.mark.parametrize('pairs', ['rael', 'mixed'])
def test_unknown_pairs_are_refused(tmp_path, pairs):
  make_pairs(tmp_path)
  with pytest.raises(
    InputError, match=f'config.data.pairs={pairs}: folder has'
  ):
    sources.open_split(data_config(tmp_path, pairs), 'train')


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
  image = picture(4, 5)
  deep = image.astype('>u2') * 256
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in deep)
  header = struct.pack('>IIBBBBB', 5, 4, 16, 2, 0, 0, 0)
  chunks = {b'IHDR': header, b'IDAT': zlib.compress(rows), b'IEND': b''}
  content = b'\x89PNG\r\n\x1a\n'
  for kind, body in chunks.items():
    check = struct.pack('>I', zlib.crc32(kind + body))
    content += struct.pack('>I', len(body)) + kind + body + check
  path = tmp_path / 'deep.png'
  path.write_bytes(content)
  np.testing.assert_array_equal(pictures.read_rgb(path), image)


@pytest.mark.parametrize('broken', ['truncated.jpg', 'text.png', 'empty.bmp'])
def test_broken_files_are_named(tmp_path, broken):
  buffer = io.BytesIO()
  Image.fromarray(picture(64, 64)).save(buffer, 'JPEG')
  content = {
    'truncated.jpg': buffer.getvalue()[: len(buffer.getvalue()) // 2],
    'text.png': b'not a picture',
    'empty.bmp': b'',
  }[broken]
  path = tmp_path / broken
  path.write_bytes(content)
  with pytest.raises(InputError, match=broken):
    pictures.read_rgb(path)


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
  rglob = pathlib.Path.rglob

  def shuffled(self, pattern):
    return list(rng.permutation(list(rglob(self, pattern))))

  with mock.patch.object(pathlib.Path, 'rglob', shuffled):
    assert folder.match(tmp_path / 'blur', tmp_path / 'sharp') == found


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


def test_own_splits_are_honoured(tmp_path):
  for split, count in (('train', 5), ('test', 2)):
    make_pairs(tmp_path / split, count)
  splits = folder.Builder.find_pairs(data_config(tmp_path, 'real'))
  assert {s: len(pairs) for s, pairs in splits.items()} == {
    'train': 4,
    'val': 1,
    'test': 2,
  }


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
  data = data_config('')
  for batch in take(pipeline.train_batches(examples(), data, 0), 5):
    assert batch['sharp'].shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(batch['blur'], 255 - batch['sharp'])


def test_order_depends_on_seed_and_step_alone():
  data = data_config('')
  whole = take(pipeline.train_batches(examples(), data, 7), 6)
  for start in range(6):
    rest = pipeline.train_batches(examples(), data, 7, start=start)
    for one, other in zip(whole[start:], take(rest, 6 - start), strict=True):
      assert_equal(one, other)
  other = take(pipeline.train_batches(examples(), data, 8), 6)
  assert any(
    (a['id'] != b['id']).any() for a, b in zip(whole, other, strict=True)
  )


def test_a_few_batches_are_read_ahead():
  read, source = [], examples()

  def counted(index):
    read.append(index)
    return source[index]

  counting = sources.Examples(counted, len(source), source.real)
  batches = pipeline.train_batches(counting, data_config('', batch_size=32), 0)
  next(batches)
  time.sleep(0.5)
  assert 32 <= len(read) <= 7 * 32


@pytest.mark.parametrize('count', [2, 4])
def test_processes_together_load_the_same_batches(count):
  data = data_config('')
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
  data = data_config('', batch_size=2 * pipeline.SHUFFLED)
  source = examples(pipeline.SHUFFLED // 4)
  (batch,) = take(pipeline.train_batches(source, data, 0), 1)
  _, counts = np.unique(batch['id'], return_counts=True)
  assert counts.tolist() == [8] * len(source)


def test_small_pictures_are_mirrored_up_to_the_crop():
  data = data_config('', crop=32)
  (batch,) = take(pipeline.train_batches(examples(), data, 0), 1)
  assert batch['sharp'].shape == (4, 32, 32, 3)


def test_uneven_share_is_refused():
  with pytest.raises(InputError, match='cannot be shared by 3'):
    shard = pipeline.Shard(0, 3)
    next(pipeline.train_batches(examples(), data_config(''), 0, shard=shard))


def test_whole_batches_keep_every_picture_once():
  def read(index):
    return {'name': f'p{index}', 'sharp': picture(20 + index % 2, 20, index)}

  source = sources.Examples(read, 7, False)
  seen = {}
  for names, batch in pipeline.whole_batches(source, 2 * 4e-4, 2, 1):
    assert batch['mask'].sum() == len(names)
    for row, name in enumerate(names):
      index = int(pipeline.photograph(name)[1:])
      assert name not in seen
      seen[name] = batch['id'][row]
      np.testing.assert_array_equal(batch['sharp'][row], read(index)['sharp'])
  assert len(seen) == 14
  assert len(set(seen.values())) == 14


def test_only_the_number_of_a_blur_is_taken_off_a_name():
  for name in ('photo', 'me@home_1', 'cat@3x'):
    for variant in pipeline.variants(name, 12):
      assert pipeline.photograph(variant) == name
    assert pipeline.photograph(name) == name


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
  assert sources.example_id('chelsea@3') == sources.example_id('chelsea@3')
  assert 0 <= sources.example_id('x') < 2**31
