"""The origin project's network for all kinds of blur at once, to measure by.

python -m deblur_jax.main --config=configs/baseline_universal.py
  one modern GPU (24 GB).
python -m deblur_jax.main --config=configs/baseline_universal.py:small
  600 steps, which take one busy CPU core a little more than an hour.

The data are folders of one's own: see deblur_jax/data/builders/mixture.py.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.baseline(presets.universal(small), small)
