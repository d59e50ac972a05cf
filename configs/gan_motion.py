"""GAN on camera shake and linear motion on the kwentar scenes.

python -m deblur_jax.main --config=configs/gan_motion.py
  one GPU of 48 GB, or of 24 GB with --config.accumulate=2.
  Its loss needs VGG16, of the extra `perceptual`; without that, the
  discriminator's features take its place.
python -m deblur_jax.main --config=configs/gan_motion.py:small
  two CPU cores, about an hour; paths of 5-21 px.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.gan(presets.motion(small), small)
