"""GAN on the embedded photographs.

python -m deblur_jax.main --config=configs/gan_photos.py
  all kinds of blur; one GPU of 48 GB, or of 24 GB with
  --config.accumulate=2.
  Its loss needs VGG16, of the extra `perceptual`; without that, the
  discriminator's features take its place.
  Three photographs make a check of the whole path, not a model to use.
python -m deblur_jax.main --config=configs/gan_photos.py:small
  Gaussian blur of sigma 1-2.5; two CPU cores, one or two minutes.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.gan(presets.photos(small), small)
