"""Makes the pictures of the README and of the cards of the models in the box.

python docs/pictures.py

Each row is a photograph that comes with scikit-image and that no model in the
box has seen: blurred, restored by each of them, and sharp.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import skimage
from PIL import Image

from deblur_jax import zoo
from deblur_jax.ops import blur, psf
from deblur_jax.report import figures
from deblur_jax.restorer import Restorer

DOCS = pathlib.Path(__file__).parent
BLURS = {
  'defocus': ('radius', 'defocus, radius'),
  'motion': ('length', 'camera path,'),
  'gaussian': ('sigma', 'Gaussian, sigma'),
}
"""The key of BlurRanges and the words of each kind."""

CASES = {
  'in_the_box': [
    # file, rows and columns from which 256x256 are shown, blur, px, noise
    ('chelsea.png', (20, 60), 'defocus', 4.0, 0.005),
    ('astronaut.png', (0, 100), 'motion', 19.0, 0.005),
    ('rocket.jpg', (90, 190), 'gaussian', 2.5, 0.005),
  ],
  'failures': [
    ('coffee.png', (60, 180), 'motion', 41.0, 0.02),
    ('chelsea.png', (20, 60), 'defocus', 10.0, 0.005),
    ('astronaut.png', (0, 100), 'gaussian', 5.0, 0.02),
  ],
}
SIDE = 256
QUALITY = 88


def degrade(
  sharp: np.ndarray, kind: str, strength: float, noise: float
) -> np.ndarray:
  """Returns a photograph u8[H,W,3] under one blur."""
  key, _ = BLURS[kind]
  ranges = psf.BlurRanges(
    kinds=(kind,), noise=(noise, noise), **{key: (strength, strength)}
  )
  made, _ = blur.degrade(
    jnp.float32(sharp)[None] / 255, jax.random.key(1)[None], ranges
  )
  return np.asarray(jnp.round(made[0] * 255).astype(jnp.uint8))


def main() -> None:
  """Writes one JPEG for each entry of CASES."""
  folder = pathlib.Path(skimage.__file__).parent / 'data'
  restorers = {name: Restorer.load(name) for name in zoo.names()}
  for name, cases in CASES.items():
    rows, captions = [], []
    for file, (top, left), kind, strength, noise in cases:
      sharp = np.asarray(Image.open(folder / file).convert('RGB'))
      blurred = degrade(sharp, kind, strength, noise)
      restored = [restore(blurred, file) for restore in restorers.values()]
      part = np.s_[top : top + SIDE, left : left + SIDE]
      rows.append([side[part] for side in (blurred, *restored, sharp)])
      words = f'{BLURS[kind][1]} {strength:g} px, noise {noise:.1%}'
      captions.append([words, *restorers, 'sharp'])
    grid = figures.grid(rows, captions)
    Image.fromarray(grid).save(DOCS / f'{name}.jpg', quality=QUALITY)
    print(DOCS / f'{name}.jpg')


if __name__ == '__main__':
  main()
