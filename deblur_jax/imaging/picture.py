"""One picture file: its pixels, and what must survive restoring them."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from deblur_jax import files
from deblur_jax.data import pictures

QUALITY = 95
"""Of JPEG and WebP results."""

GREY_MODES = ('1', 'L', 'LA', 'I', 'I;16', 'F')


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture, upright.

  Attributes:
    pixels: u8[H,W,3].
    alpha: u8[H,W], or None.
    grey: whether the file has one channel of light.
    info: EXIF data and colour profile, by Pillow's names.
  """

  pixels: np.ndarray
  alpha: np.ndarray | None = None
  grey: bool = False
  info: dict[str, Any] = dataclasses.field(default_factory=dict)


def read(path: pathlib.Path) -> Picture:
  """Reads the first frame of a picture file.

  Raises:
    InputError: the file is missing, truncated or not a picture.
  """
  image = pictures.open_upright(path)
  alpha = None
  if image.has_transparency_data:
    alpha = np.asarray(image.convert('RGBA'))[..., 3]
  # A CMYK profile would colour the RGB result wrongly.
  profile = image.mode != 'CMYK' and image.info.get('icc_profile')
  info = {'exif': image.getexif().tobytes(), 'icc_profile': profile}
  return Picture(
    pixels=pictures.to_rgb(image),
    alpha=alpha,
    grey=image.mode in GREY_MODES,
    info={key: value for key, value in info.items() if value},
  )


def write(picture: Picture, path: pathlib.Path) -> None:
  """Writes a picture in the format of the path's extension, whole.

  Raises:
    InputError: the file cannot be written.
  """
  image = Image.fromarray(picture.pixels)
  if picture.alpha is not None and path.suffix.lower() not in ('.jpg', '.jpeg'):
    image.putalpha(Image.fromarray(picture.alpha))
  if picture.grey:
    image = image.convert('LA' if image.mode == 'RGBA' else 'L')
  with files.whole(path) as temporary:
    image.save(temporary, quality=QUALITY, **picture.info)
