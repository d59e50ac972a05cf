"""NAFNet on camera shake and linear motion on the kwentar scenes.

python -m deblur_jax.main --config=configs/cnn_motion.py
  one GPU of 32 GB, or of 24 GB with --config.accumulate=2.
python -m deblur_jax.main --config=configs/cnn_motion.py:small
  two CPU cores, about 40 minutes; paths of 5-21 px.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.cnn(presets.motion(small), small)
