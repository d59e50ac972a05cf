"""Picture files to arrays: RGB, 8 bits, upright."""

import contextlib
import os
import pathlib
import struct
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from deblur_jax.types import InputError

try:
  import pillow_heif
except ImportError:  # the extra `heic`
  pass
else:
  pillow_heif.register_heif_opener()

HEIC = frozenset(('.heic', '.heif', '.hif'))
EXTENSIONS = HEIC | frozenset(
  ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp')
)
RAW = frozenset(
  (
    *('.3fr', '.arw', '.cr2', '.cr3', '.dng', '.erf', '.iiq', '.kdc', '.mos'),
    *('.mrw', '.nef', '.nrw', '.orf', '.pef', '.raf', '.rw2', '.rwl', '.srw'),
  )
)
"""Of what cameras record; many are TIFF files, whose first picture is small."""
NO_RAW = 'a raw file; export it as TIFF or JPEG'
MAX_PIXELS = 500_000_000
WHITE = {'F': 1.0, **dict.fromkeys(('I', 'I;16', 'I;16B', 'I;16L'), 65535.0)}
"""By Pillow's modes of more than 8 bits: the level of full scale."""
BROKEN = (
  OSError,
  SyntaxError,  # headers of some PNG and TIFF files
  ValueError,
  # Of later pages and frames; where it opens the first, Pillow converts them:
  EOFError,
  IndexError,
  KeyError,
  TypeError,
  struct.error,
)
"""What Pillow raises where a file cannot be read."""
BROKEN_EXIF = (*BROKEN, AttributeError)  # values of another type than a tag's
"""What it raises where EXIF data cannot be read, or not be written."""
EXIF_FIELDS = 'exif', 'Raw profile type exif'


def list_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the picture files below `folder`, sorted by relative name.

  What is hidden is left out: macOS keeps a file ._NAME.jpg beside NAME.jpg.
  Links are followed, but not to a folder that they lie in.

  Raises:
    OSError: a folder cannot be read.
  """
  return sorted(_walk(folder, frozenset()), key=pathlib.Path.as_posix)


def _walk(
  folder: pathlib.Path, above: frozenset[pathlib.Path]
) -> Iterator[pathlib.Path]:
  """Yields the pictures below `folder`, which lies in folders `above`."""
  place = folder.resolve()
  if place in above:
    return
  with os.scandir(folder) as entries:
    for entry in entries:
      path = folder / entry.name
      if entry.name.startswith('.'):
        continue
      if entry.is_dir():
        yield from _walk(path, above | {place})
      elif path.suffix.lower() in EXTENSIONS and entry.is_file():
        yield path


def read_rgb(path: pathlib.Path) -> np.ndarray:
  """Reads one picture as u8[H,W,3], turned upright by its EXIF orientation.

  Raises:
    InputError: the file is missing, truncated, not a picture, or one of 16 bits
      that Pillow cannot read.
  """
  with opened(path) as image:
    if is_deep_planar(image):
      raise InputError(
        f'{path}: 16 bits and a plane for each colour; save it interleaved'
      )
    turn_upright(image)
    return to_rgb(image)


def is_deep_planar(image: Image.Image) -> bool:
  """Whether Pillow would take an opened file's 16 bits for 8: some TIFF's."""
  return (
    image.format == 'TIFF'
    and image.mode in ('RGB', 'RGBA')
    and 16 in image.tag_v2.get(ExifTags.Base.BitsPerSample, ())
    and not any(';16' in str(part.args) for part in image.tile)
  )


@contextlib.contextmanager
def opened(
  path: pathlib.Path, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
  """Opens a picture file; what Pillow raises while it is open is told so too.

  Raises:
    InputError: the file is missing, truncated, not a picture, a raw file, of
      levels that have no full scale, or larger than `max_pixels`: a small file
      can hold more pixels than memory does.
  """
  Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below large photographs
  try:
    with Image.open(path) as image:
      if is_raw(image, path):
        raise InputError(f'{path}: {NO_RAW}')
      if image.width * image.height > max_pixels:
        raise InputError(
          f'{path}: {image.width}x{image.height} pixels; the limit is '
          f'{max_pixels} (--max_pixels in restore)'
        )
      if image.mode in ('F', 'I'):  # others hold no level beyond theirs
        low, high = image.getextrema()
        if not 0 <= low <= high <= WHITE[image.mode]:
          raise InputError(
            f'{path}: levels from {low:g} to {high:g}, of which 0 to '
            f'{WHITE[image.mode]:g} can be read; save it in 8 or 16 bits'
          )
      yield image
  except FileNotFoundError:
    raise InputError(f'{path}: no such file') from None
  except PermissionError:
    raise InputError(f'{path}: cannot be read (permission denied)') from None
  except UnidentifiedImageError:
    if path.suffix.lower() in HEIC - Image.registered_extensions().keys():
      raise InputError(
        f"{path}: HEIC takes the extra 'heic'; see Install in the README"
      ) from None
    if path.suffix.lower() in RAW:
      raise InputError(f'{path}: {NO_RAW}') from None
    raise InputError(f'{path}: not a picture that can be read') from None
  except BROKEN as error:
    reason = str(error) or 'unreadable'
    raise InputError(f'{path}: broken picture ({reason})') from None


def is_raw(image: Image.Image, path: pathlib.Path) -> bool:
  """Whether an opened file is of a camera's raw format, told as TIFF."""
  return image.format == 'TIFF' and (
    path.suffix.lower() in RAW or ExifTags.Base.DNGVersion in image.tag_v2
  )


def turn_upright(image: Image.Image) -> None:
  """Turns a picture upright in place, if EXIF data that can be read ask so."""
  with contextlib.suppress(*BROKEN_EXIF):
    image.getexif()  # now kept by `image`; none if they cannot be read
  for field in EXIF_FIELDS:
    # From which Pillow would make them anew, and fail on what is broken there.
    image.info.pop(field, None)
  ImageOps.exif_transpose(image, in_place=True)


def to_rgb(image: Image.Image) -> np.ndarray:
  """Converts any mode to u8[H,W,3]; transparency is dropped."""
  if image.mode in WHITE:
    # Pillow's own conversion clips at 255 instead of scaling.
    grey = np.asarray(image, np.float64) * (255 / WHITE[image.mode])
    image = Image.fromarray((grey + 0.5).astype(np.uint8))
  return np.asarray(image.convert('RGB'))
