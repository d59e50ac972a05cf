"""The baseline network on the embedded photographs.

python -m deblur_jax.main --config=configs/baseline_photos.py
  all kinds of blur; one modern GPU (24 GB).
  Three photographs make a check of the whole path, not a model to use.
python -m deblur_jax.main --config=configs/baseline_photos.py:small
  Gaussian blur of sigma 1-2.5; two CPU cores, one or two minutes.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.baseline(presets.photos(small), small)
