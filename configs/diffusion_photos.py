"""Diffusion on the embedded photographs.

python -m deblur_jax.main --config=configs/diffusion_photos.py
  all kinds of blur; one GPU of 40 GB with
  --config.accumulate=4, or eight without.
  Three photographs make a check of the whole path, not a model to use.
python -m deblur_jax.main --config=configs/diffusion_photos.py:small
  Gaussian blur of sigma 1-2.5; two CPU cores, one or two minutes.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.diffusion(presets.photos(small), small)
