"""The origin project's network on the embedded photographs: the baseline.

A plain convolutional network, 3-64-128-256-128-64-3 channels with ReLU and a
sigmoid, trained with the squared error. Other results are compared with it.

python -m deblur_jax.main --config=configs/baseline_photos.py
  all kinds of blur; one modern GPU.
python -m deblur_jax.main --config=configs/baseline_photos.py:small
  Gaussian blur of sigma 1-2.5; two CPU cores. All its layers work at full
  size, so a step costs about ten of cnn_photos.py:small: it gets a tenth.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  config = presets.photos(small)
  config.family = 'cnn'
  config.model.name = 'encoder_decoder'
  config.loss = 'mse'
  config.optim.b2 = 0.999
  config.optim.weight_decay = 0.0
  if small:
    config.steps //= 10
  return config
