"""NAFNet for all kinds of blur at once: defocus, camera shake, small motion.

python -m deblur_jax.main --config=configs/cnn_universal.py
  one GPU of 32 GB, or of 24 GB with --config.accumulate=2; 17.1 M parameters.
python -m deblur_jax.main --config=configs/cnn_universal.py:small
  two CPU cores, about an hour. The model in the box, `--model=cnn`, went on
  from there: docs/training.md tells the parts.

The data are folders of one's own: see deblur_jax/data/builders/mixture.py.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.cnn(presets.universal(small), small)
