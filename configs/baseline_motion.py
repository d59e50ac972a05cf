"""The baseline network on camera shake and linear motion on the kwentar scenes.

python -m deblur_jax.main --config=configs/baseline_motion.py
  one modern GPU (24 GB).
python -m deblur_jax.main --config=configs/baseline_motion.py:small
  two CPU cores, about 40 minutes; paths of 5-21 px.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.baseline(presets.motion(small), small)
