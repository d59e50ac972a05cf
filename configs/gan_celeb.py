"""GAN on the CelebA face pairs of the DBlur bundle.

python -m deblur_jax.main --config=configs/gan_celeb.py
  one modern GPU (24 GB).
  Its loss needs VGG16, of the extra `perceptual`; without that, the
  discriminator's features take its place.
python -m deblur_jax.main --config=configs/gan_celeb.py:small
  two CPU cores, about an hour.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.gan(presets.celeb(small), small)
