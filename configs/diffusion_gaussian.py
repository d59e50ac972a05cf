"""Diffusion on Gaussian and defocus blur of the kwentar scenes.

python -m deblur_jax.main --config=configs/diffusion_gaussian.py
  one GPU of 40 GB with --config.accumulate=4, or eight without.
python -m deblur_jax.main --config=configs/diffusion_gaussian.py:small
  two CPU cores, about an hour; sigma 0.5-3, radius 1-5.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.diffusion(presets.gaussian(small), small)
