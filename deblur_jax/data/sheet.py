"""Draws a contact sheet of synthetic blur: kernels, and photographs under them.

python -m deblur_jax.data.sheet --output=PATH.png [--config=FILE.py[:small]]
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from PIL import Image
from skimage import util

from deblur_jax import cli, files
from deblur_jax import config as config_lib
from deblur_jax.ops import blur, psf
from deblur_jax.ranges import blur_ranges

COLUMNS = 8
TILE = 160
"""Side of a kernel's and of a photograph's picture, in pixels."""
CORNERS = ((60, 150), (20, 20), (330, 180), (240, 330))
"""Where the photographs are cut from the astronaut, (top, left)."""


def sheet(ranges: psf.BlurRanges) -> np.ndarray:
  """Returns u8[H,W,3]: per kind a row of kernels over the blurred pictures."""
  photo = skimage.data.astronaut()
  cuts = [photo[t : t + TILE, x : x + TILE] for t, x in CORNERS]
  sharp = jnp.asarray(np.stack(cuts * (COLUMNS // len(cuts))) / 255.0)
  rows = []
  for kind in ranges.kinds:
    one = dataclasses.replace(ranges, kinds=(kind,), sharp=0.0)
    keys = jax.random.split(jax.random.key(0), COLUMNS)
    blurred, drawn = jax.jit(blur.degrade, static_argnums=2)(sharp, keys, one)
    rows += [*map(kernel_picture, np.asarray(drawn['psf']))]
    rows += [*np.round(np.asarray(blurred) * 255).astype(np.uint8)]
  return util.montage(
    np.stack(rows),
    channel_axis=-1,
    grid_shape=(2 * len(ranges.kinds), COLUMNS),
    padding_width=4,
    fill=(255, 255, 255),
  )


def kernel_picture(kernel: np.ndarray) -> np.ndarray:
  """Returns f32[K,K] as u8[TILE,TILE,3], enlarged, its maximum white."""
  levels = np.round(255 * kernel / kernel.max()).astype(np.uint8)
  large = Image.fromarray(levels).resize((TILE, TILE), Image.Resampling.NEAREST)
  return np.asarray(large.convert('RGB'))


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(
    prog='python -m deblur_jax.data.sheet', description=__doc__.split('\n')[0]
  )
  parser.add_argument(
    '--output', type=pathlib.Path, required=True, help='PNG file to write'
  )
  parser.add_argument('--config', help='FILE.py[:small]; default: all kinds')
  flags = parser.parse_args()
  if flags.config:
    ranges = blur_ranges(config_lib.load_file(flags.config))
  else:
    ranges = psf.BlurRanges(kinds=psf.KINDS[1:], anisotropy=0.3)
  with files.whole(flags.output) as temporary:
    Image.fromarray(sheet(ranges)).save(temporary, 'PNG')
  print(flags.output)


if __name__ == '__main__':
  cli.run(main)
