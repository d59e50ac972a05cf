"""GAN on Gaussian and defocus blur of the kwentar scenes.

python -m deblur_jax.main --config=configs/gan_gaussian.py
  one GPU of 48 GB, or of 24 GB with --config.accumulate=2.
  Its loss needs VGG16, of the extra `perceptual`; without that, the
  discriminator's features take its place.
python -m deblur_jax.main --config=configs/gan_gaussian.py:small
  two CPU cores, about an hour; sigma 0.5-3, radius 1-5.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.gan(presets.gaussian(small), small)
