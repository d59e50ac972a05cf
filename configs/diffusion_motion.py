"""Diffusion on camera shake and linear motion on the kwentar scenes.

python -m deblur_jax.main --config=configs/diffusion_motion.py
  one GPU of 40 GB with --config.accumulate=4, or eight without.
python -m deblur_jax.main --config=configs/diffusion_motion.py:small
  two CPU cores, about an hour; paths of 5-21 px.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.diffusion(presets.motion(small), small)
