"""NAFNet on Gaussian and defocus blur of the kwentar scenes.

python -m deblur_jax.main --config=configs/cnn_gaussian.py
  one GPU of 32 GB, or of 24 GB with --config.accumulate=2.
python -m deblur_jax.main --config=configs/cnn_gaussian.py:small
  two CPU cores, about 40 minutes; sigma 0.5-3, radius 1-5.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.cnn(presets.gaussian(small), small)
