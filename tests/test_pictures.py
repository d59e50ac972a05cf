"""Pictures are read right, whatever holds them."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deblur_jax.data import pictures
from deblur_jax.imaging import picture as picture_lib
from deblur_jax.types import InputError
from tests.runs import picture, random_channels


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


def test_16_bits_in_planes_are_read_as_such(tmp_path):
  pixels = random_channels(9, 7, 'RGB', np.uint16, 0)
  path = tmp_path / 'planes.tif'
  planes = np.moveaxis(pixels, -1, 0)
  tifffile.imwrite(path, planes, planarconfig='separate', photometric='rgb')
  np.testing.assert_array_equal(picture_lib.read(path).pixels, pixels)
  with pytest.raises(InputError, match='planes.tif: 16 bits and a plane'):
    pictures.read_rgb(path)


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
  with pytest.raises(FileNotFoundError):
    pictures.list_pictures(tmp_path / 'gone')


def test_links_are_followed_but_not_in_circles(tmp_path):
  real, folder = tmp_path / 'real', tmp_path / 'folder'
  (folder / '.hidden').mkdir(parents=True)
  real.mkdir()
  for path in (real / 'b.png', folder / '.hidden' / 'c.png'):
    Image.new('RGB', (4, 4)).save(path)
  (folder / 'a.png').symlink_to(real / 'b.png')
  (folder / 'lost.png').symlink_to(real / 'nothing.png')
  (folder / 'linked').symlink_to(real)
  (real / 'back').symlink_to(folder)
  names = [
    path.relative_to(folder).as_posix()
    for path in pictures.list_pictures(folder)
  ]
  assert names == ['a.png', 'linked/b.png']


def test_what_a_result_tells_of_itself_is_true(tmp_path):
  path, made = tmp_path / 'turned.jpg', tmp_path / 'made.jpg'
  exif = Image.Exif()
  exif[0x0112] = 6
  camera = exif.get_ifd(ExifTags.IFD.Exif)
  camera[ExifTags.Base.ExifImageWidth] = 24
  camera[ExifTags.Base.ExifImageHeight] = 16
  image = Image.fromarray(picture(16, 24))
  image.save(path, exif=exif, comment=b'of my garden')
  picture_lib.write(picture_lib.read(path), made)
  with Image.open(made) as image:
    camera = image.getexif().get_ifd(ExifTags.IFD.Exif)
    assert image.size == (16, 24)
    assert camera[ExifTags.Base.ExifImageWidth] == 16
    assert camera[ExifTags.Base.ExifImageHeight] == 24
    assert image.info['comment'] == b'of my garden'


LAYOUT = {
  'cropped since': {ExifTags.Base.ImageLength: 3000},
  'other colours': {ExifTags.Base.PhotometricInterpretation: 6},
  'all it has': {256: 24, 257: 16, 0x0112: 6},
}
"""Tags of how a camera's file was laid out, left in JPEG files."""


@pytest.mark.parametrize('extension', ['jpg', 'png', 'tif'])
@pytest.mark.parametrize('layout', LAYOUT)
def test_what_the_camera_told_goes_into_tiff(tmp_path, layout, extension):
  path, made = tmp_path / f'a.{extension}', tmp_path / 'b.tif'
  exif = Image.Exif()
  if extension != 'tif':
    exif.update(LAYOUT[layout])
  exif[ExifTags.Base.Make] = 'maker'
  exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 400
  exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = 'N'
  about = {'exif': exif.tobytes(), 'compression': 'raw'}
  Image.fromarray(picture(24, 16)).save(path, **about)
  read = picture_lib.read(path)
  assert picture_lib.write(read, made) == ()
  with Image.open(made) as image:
    np.testing.assert_array_equal(np.asarray(image), read.pixels)
    exif = image.getexif()
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
  assert exif[ExifTags.Base.Make] == 'maker'
  assert camera[ExifTags.Base.ISOSpeedRatings] == 400
  assert place[ExifTags.GPS.GPSLatitudeRef] == 'N'


@pytest.mark.parametrize('extension', ['tif', 'png', 'jpg', 'bmp'])
def test_a_resolution_that_is_no_number_is_dropped(tmp_path, extension):
  path, made = tmp_path / 'a.tif', tmp_path / f'b.{extension}'
  without = {tag: TiffImagePlugin.IFDRational(0, 0) for tag in (282, 283)}
  Image.fromarray(picture(16, 24)).save(path, tiffinfo=without)
  read = picture_lib.read(path)
  assert 'dpi' not in read.info
  picture_lib.write(read, made)
  assert pictures.read_rgb(made).shape == (16, 24, 3)


@pytest.mark.parametrize('name', ['a.dng', 'a.nef', 'a.tif', 'a.cr3'])
def test_raw_files_are_no_pictures(tmp_path, name):
  path = tmp_path / name
  if name == 'a.cr3':
    path.write_bytes(b'ftypcrx')
  else:  # the small picture that the first page holds
    told = {ExifTags.Base.DNGVersion: bytes((1, 4, 0, 0))}
    tags = {} if name == 'a.nef' else told
    Image.fromarray(picture(16, 24)).save(path, 'TIFF', tiffinfo=tags)
  with pytest.raises(InputError, match=f'{name}: a raw file; export it'):
    picture_lib.read(path)


def test_bitmaps_of_5_and_6_bits_are_read(tmp_path):
  levels = np.uint16([[0b11111_000000_00000, 0b00000_111111_11111]])
  header = struct.pack('<IiiHHI', 40, 2, 1, 1, 16, 3) + bytes(20)
  masks = struct.pack('<3I', 0b11111 << 11, 0b111111 << 5, 0b11111)
  start = 14 + len(header) + len(masks)
  path = tmp_path / 'a.bmp'
  path.write_bytes(
    b'BM'
    + struct.pack('<III', start + 4, 0, start)
    + header
    + masks
    + levels.tobytes()
  )
  got = picture_lib.read(path)
  assert got.notes == ()
  np.testing.assert_array_equal(got.pixels, [[(255, 0, 0), (0, 255, 255)]])


def deep_files():
  """What of 16 bits only 8 are read of."""
  colours = picture(9, 12).astype('>u2') * 257
  grey = colours[..., 0]
  size = b'12 9 65535\n'
  signed, inks = io.BytesIO(), io.BytesIO()
  tifffile.imwrite(
    signed, (grey // 2).astype(np.int16), photometric='minisblack'
  )
  tifffile.imwrite(
    inks, np.zeros((9, 12, 4), np.uint16), photometric='separated'
  )
  return {
    'a.ppm': b'P6 ' + size + colours.tobytes(),
    'a.pgm': b'P5 ' + size + grey.tobytes(),
    'signed.tif': signed.getvalue(),
    'inks.tif': inks.getvalue(),
  }


@pytest.mark.parametrize('name', deep_files())
def test_bits_that_are_lost_are_told(tmp_path, name):
  path = tmp_path / name
  path.write_bytes(deep_files()[name])
  got = picture_lib.read(path)
  assert got.pixels.dtype == np.uint8
  assert got.notes[0] == '16 bits became 8'


@pytest.mark.parametrize('wide', [False, True])
def test_colours_beyond_srgb_are_told(tmp_path, wide):
  heic, png = tmp_path / 'a.heic', tmp_path / 'a.png'
  image = Image.fromarray(picture(24, 16))
  image.save(heic, color_primaries=12 if wide else 1)
  gamma = PngImagePlugin.PngInfo()
  gamma.add(b'gAMA', struct.pack('>I', 100_000 if wide else 45_455))
  image.save(png, pnginfo=gamma)
  told = ('that its colours are not of sRGB is not kept',) if wide else ()
  for path in (heic, png):
    assert picture_lib.read(path).notes == told


def test_no_resolution_is_made_up(tmp_path):
  path, made = tmp_path / 'a.tif', tmp_path / 'b.tif'
  Image.fromarray(picture(16, 24)).save(path)
  picture_lib.write(picture_lib.read(path), made)
  with Image.open(made) as image:
    assert ExifTags.Base.XResolution not in image.tag_v2


@pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
def test_heic_is_a_format_like_any_other(tmp_path, mode):
  path, made = tmp_path / 'a.heic', tmp_path / 'b.heic'
  pixels = np.kron(
    random_channels(4, 6, mode, np.uint8, 0), np.ones((8, 8, 1), np.uint8)
  )
  exif = Image.Exif()
  exif[0x0112], exif[0x010F] = 6, 'maker'
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  Image.fromarray(pixels).save(
    path, quality=100, exif=exif.tobytes(), icc_profile=profile
  )
  assert picture_lib.write(picture_lib.read(path), made, 100) == ()
  got = picture_lib.read(made)
  assert got.notes == ()
  assert got.info['icc_profile'] == profile
  with Image.open(made) as image:
    assert dict(image.getexif())[0x010F] == 'maker'
  wanted = np.rot90(pixels, -1).astype(int)
  assert np.abs(got.pixels - wanted[..., :3]).mean() < 12  # half the colours
  if mode == 'RGBA':
    assert np.abs(got.alpha - wanted[..., 3]).mean() < 2


def test_heic_of_ten_bits_says_so(tmp_path):
  path = tmp_path / 'ten.hif'
  levels = np.full((16, 24, 3), 30_000, np.uint16)
  pillow_heif.from_bytes('RGB;16', (24, 16), levels.tobytes()).save(path)
  got = picture_lib.read(path)
  assert got.notes == ('10 bits became 8',)
  assert np.abs(got.pixels - 30_000 / 257).max() < 2


@pytest.mark.parametrize('kept', [0.0, 0.5, 0.99])
def test_broken_heic_is_told(tmp_path, kept):
  path = tmp_path / 'a.heic'
  Image.fromarray(picture(24, 16)).save(path)
  path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
  with pytest.raises(InputError, match=r'a\.heic: (not a|broken) picture'):
    picture_lib.read(path)


def test_heic_without_the_extra_names_it(tmp_path, monkeypatch):
  path = tmp_path / 'a.heic'
  path.write_bytes(b'ftypheic')
  monkeypatch.delitem(Image.EXTENSION, '.heic')
  with pytest.raises(InputError, match="takes the extra 'heic'"):
    picture_lib.read(path)
