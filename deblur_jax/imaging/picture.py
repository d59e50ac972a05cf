"""One picture file: its pixels, and what must survive restoring them."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyvips
from PIL import ExifTags, Image

from deblur_jax import files
from deblur_jax.data import pictures
from deblur_jax.types import InputError

QUALITY = 95
"""Of JPEG, WebP and HEIC results."""

GREY_MODES = ('1', 'L', 'LA', 'La', 'I', 'F')
TIFF = frozenset(('.tif', '.tiff'))
DEEP = TIFF | {'.png'}
"""Formats that hold 16 bits."""
JPEG = frozenset(('.jpg', '.jpeg', '.jfif'))
OPAQUE = JPEG | {'.bmp'}
"""Formats that hold no transparency."""
JPEG_SEGMENT = 65_000
"""Bytes of metadata that JPEG surely holds in one piece."""
DESCRIPTIVE = {
  ExifTags.Base.ImageDescription,
  ExifTags.Base.Make,
  ExifTags.Base.Model,
  ExifTags.Base.Software,
  ExifTags.Base.DateTime,
  ExifTags.Base.Artist,
  ExifTags.Base.Copyright,
  ExifTags.IFD.Exif,
  ExifTags.IFD.GPSInfo,
}
"""EXIF tags that may go to or from TIFF files, whose others are layout."""
SRGB_PRIMARIES = 1, 2
"""Of HEIC's nclx profiles (ITU-T H.273): BT.709, which sRGB has; not told."""
SRGB_GAMMA = 1 / 2.2
"""That PNG files tell of sRGB."""
MM_PER_INCH = 25.4
VIPS_FIELDS = {'exif': 'exif-data', 'icc_profile': 'icc-profile-data'}
LUMA = np.float32([0.299, 0.587, 0.114])
"""Of red, green and blue (ITU-R BT.601), as Pillow makes grey."""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture, upright.

  Attributes:
    pixels: u8[H,W,3] or u16[H,W,3].
    alpha: [H,W] of that type, or None.
    grey: whether the file has one channel of light.
    info: EXIF data, colour profile and resolution, by Pillow's names.
    notes: what of the file is not kept.
  """

  pixels: np.ndarray
  alpha: np.ndarray | None = None
  grey: bool = False
  info: dict[str, Any] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


def read(path: pathlib.Path, max_pixels: int = pictures.MAX_PIXELS) -> Picture:
  """Reads the first frame of a picture file.

  Raises:
    InputError: the file is missing, truncated, too large or not a picture.
  """
  with pictures.opened(path, max_pixels) as image:
    deep, notes = is_deep(image), unkept(image)
    if deep:
      pixels, alpha, grey = read_deep(path)
    else:
      pictures.turn_upright(image)
      pixels, alpha = pictures.to_rgb(image), read_alpha(image)
      grey = image.mode in GREY_MODES
    info = read_info(image)
    try:
      info |= read_exif(image, pixels.shape[:2])
    except pictures.BROKEN_EXIF:
      notes.append('broken EXIF data were dropped')
  return Picture(pixels, alpha, grey, info, tuple(notes))


def unkept(image: Image.Image) -> list[str]:
  """Says what of an opened file's first frame is not kept."""
  notes = []
  frames = getattr(image, 'n_frames', 1)
  if frames > 1:
    notes.append(f'the first of {frames} frames')
  bits = bits_of(image)
  if bits > 8 and not is_deep(image):
    notes.append(f'{bits} bits became 8')
  if image.mode == 'CMYK':
    notes.append('CMYK became RGB')
  if 'icc_profile' not in image.info and not is_srgb(image):
    notes.append('that its colours are not of sRGB is not kept')
  return notes


def bits_of(image: Image.Image) -> int:
  """Returns the bits of a channel of an opened file, 8 where Pillow has 8."""
  if image.mode == 'F':
    return 32
  wide = [part.args[1] > 255 for part in image.tile if part[0] == 'ppm']
  if image.mode.startswith('I') or holds_16(image) or any(wide):
    return 16
  return image.info.get('bit_depth', 8)  # told of HEIC alone


def holds_16(image: Image.Image) -> bool:
  """Whether an opened file has 16 bits, which Pillow cuts to 8 in colour."""
  if image.format not in ('PNG', 'TIFF'):
    return False  # BMP's 'BGR;16' is of 5 and 6 bits
  raw = [image.mode, *(str(part.args) for part in image.tile)]
  return any(';16' in word for word in raw) or pictures.is_deep_planar(image)


def is_deep(image: Image.Image) -> bool:
  """Whether an opened file's 16 bits can be kept."""
  return image.mode != 'CMYK' and holds_16(image)


def is_srgb(image: Image.Image) -> bool:
  """Whether a picture without a colour profile is one of sRGB."""
  told = image.info.get('nclx_profile', {})
  gamma = image.info.get('gamma', SRGB_GAMMA)
  primaries = told.get('color_primaries', SRGB_PRIMARIES[0])
  return primaries in SRGB_PRIMARIES and abs(gamma - SRGB_GAMMA) < 0.01


def read_deep(
  path: pathlib.Path,
) -> tuple[np.ndarray, np.ndarray | None, bool]:
  """Returns u16[H,W,3], alpha and whether it is grey, upright.

  Raises:
    InputError: the file is broken.
  """
  try:
    # It would remember a file's former contents by its name.
    image = pyvips.Image.new_from_file(
      str(path), fail_on='truncated', revalidate=True
    )
    channels = np.atleast_3d(image.autorot().numpy())
  except pyvips.Error as error:
    reason = ' '.join(str(error).split())
    raise InputError(f'{path}: broken picture ({reason})') from None
  count = channels.shape[2]
  grey = count < 3
  pixels = channels[..., :1].repeat(3, -1) if grey else channels[..., :3]
  alpha = channels[..., -1] if count in (2, 4) else None
  return pixels, alpha, grey


def read_alpha(image: Image.Image) -> np.ndarray | None:
  """Returns the transparency u8[H,W] of a picture, if it has any."""
  if not image.has_transparency_data:
    return None
  return np.asarray(image.convert('RGBA'))[..., 3]


def read_info(image: Image.Image) -> dict[str, Any]:
  """Returns the metadata that a result keeps, but for EXIF data."""
  names = ['comment', 'xmp']
  guessed = (
    image.format == 'TIFF' and ExifTags.Base.XResolution not in image.tag_v2
  )
  if not guessed and np.isfinite(np.float64(image.info.get('dpi', 0))).all():
    names.append('dpi')
  if image.mode != 'CMYK':  # whose profile would colour the result wrongly
    names.append('icc_profile')
  return {name: image.info[name] for name in names if image.info.get(name)}


def read_exif(image: Image.Image, shape: tuple[int, int]) -> dict[str, bytes]:
  """Returns {'exif': data} without the orientation, {} if there is none.

  Args:
    image: an opened file.
    shape: height and width, upright.

  Raises:
    One of `pictures.BROKEN_EXIF`.
  """
  exif = image.getexif()
  if image.format == 'TIFF':
    keep_descriptive(exif)
  exif.pop(ExifTags.Base.Orientation, None)
  if ExifTags.IFD.Exif in exif:
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    sides = ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifImageWidth
    camera |= {k: n for k, n in zip(sides, shape, strict=True) if k in camera}
  return {'exif': exif.tobytes()} if exif else {}


def keep_descriptive(exif: Image.Exif) -> None:
  """Drops, in place, what tells how a TIFF file is laid out."""
  for tag in set(exif) - DESCRIPTIVE:
    del exif[tag]


def is_writable(path: pathlib.Path) -> bool:
  """Whether pictures can be written in the format of a path's extension."""
  formats = Image.registered_extensions()
  return formats.get(path.suffix.lower()) in Image.SAVE


def write(
  picture: Picture, path: pathlib.Path, quality: int = QUALITY
) -> tuple[str, ...]:
  """Writes a picture in the format of the path's extension, whole.

  Returns:
    What the format could not keep.

  Raises:
    InputError: the file cannot be written.
  """
  extension, lost = path.suffix.lower(), []
  if picture.alpha is not None and extension in OPAQUE:
    lost.append(f'{extension} holds no transparency')
    picture = dataclasses.replace(picture, alpha=None)
  if extension in JPEG:
    for name in ('exif', 'xmp', 'comment'):
      if len(picture.info.get(name, b'')) > JPEG_SEGMENT:
        lost.append(f'{extension} holds no {name.upper()} data of this length')
        picture = without(picture, name)
  deep = picture.pixels.dtype == np.uint16
  if deep and extension not in DEEP:
    lost.append(f'{extension} holds 8 bits: 16 were cut')
    picture, deep = shallow(picture), False
  if deep and extension != '.png' and 'exif' in picture.info:
    lost.append('16-bit TIFF: EXIF data was dropped')
  with files.whole(path) as temporary:
    if deep:
      write_deep(picture, temporary)
    else:
      write_shallow(picture, temporary, quality)
  return tuple(lost)


def without(picture: Picture, name: str) -> Picture:
  """Drops one part of a picture's metadata."""
  info = {key: value for key, value in picture.info.items() if key != name}
  return dataclasses.replace(picture, info=info)


def shallow(picture: Picture) -> Picture:
  """Rounds a picture of 16 bits to 8."""

  def cut(channel: np.ndarray | None) -> np.ndarray | None:
    if channel is None:
      return None
    return ((channel.astype(np.uint32) + 128) // 257).astype(np.uint8)

  return dataclasses.replace(
    picture, pixels=cut(picture.pixels), alpha=cut(picture.alpha)
  )


def channels_of(picture: Picture) -> np.ndarray:
  """Returns [H,W,1 to 4] as a file holds it: grey or colour, and alpha."""
  pixels = picture.pixels
  if picture.grey:
    pixels = np.round(pixels @ LUMA).astype(pixels.dtype)[..., None]
  if picture.alpha is None:
    return pixels
  return np.concatenate([pixels, picture.alpha[..., None]], -1)


def write_shallow(picture: Picture, path: pathlib.Path, quality: int) -> None:
  """Writes 8 bits.

  Raises:
    OSError: the file cannot be written.
  """
  channels = channels_of(picture)
  if channels.shape[2] == 1:
    channels = channels[..., 0]
  if path.suffix.lower() in TIFF:
    how = tiff_options(picture.info)
  else:
    how = {'quality': quality}
  if path.suffix.lower() in JPEG:
    # What was sharpened is not to lose half of its colours' resolution.
    how['subsampling'] = 0 if quality >= 90 else 2
  try:
    Image.fromarray(channels).save(path, **(picture.info | how))
  except OSError:
    raise
  except (*pictures.BROKEN, RuntimeError) as error:
    # Larger than the format holds, for one, or a tag that TIFF cannot.
    raise OSError(str(error)) from None


def tiff_options(info: Mapping[str, Any]) -> dict[str, Any]:
  """Returns how Pillow is to write 8 bits as TIFF, with what EXIF data."""
  exif = Image.Exif()
  exif.load(info.get('exif', b''))
  keep_descriptive(exif)
  # Pillow cannot write the camera's tags into compressed files.
  nested = {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo} & set(exif)
  compression = 'raw' if nested else 'tiff_adobe_deflate'
  return {'compression': compression, 'exif': exif}


def write_deep(picture: Picture, path: pathlib.Path) -> None:
  """Writes 16 bits.

  Raises:
    OSError: the file cannot be written.
  """
  kind = 'grey16' if picture.grey else 'rgb16'
  channels = np.ascontiguousarray(channels_of(picture))
  image = pyvips.Image.new_from_array(channels, interpretation=kind)
  per_mm = [dots / MM_PER_INCH for dots in picture.info.get('dpi', (72, 72))]
  image = image.copy(xres=float(per_mm[0]), yres=float(per_mm[1]))
  for name, field in VIPS_FIELDS.items():
    if name in picture.info:
      image.set_type(pyvips.GValue.blob_type, field, picture.info[name])
  how = {} if path.suffix.lower() == '.png' else {'compression': 'deflate'}
  try:
    image.write_to_file(str(path), **how)
  except pyvips.Error as error:
    raise OSError(' '.join(str(error).split())) from None
