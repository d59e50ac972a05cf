"""The protocol of each data set: what every family is given alike.

A config in configs/ is one of these plus its own network and loss. The small
forms are sized for two CPU cores and about two minutes of training.
"""

from ml_collections import ConfigDict

from deblur_jax.config import base_config


def photos(small: bool) -> ConfigDict:
  """The embedded photographs, under 8 fixed blurs each in the test."""
  config = base_config()
  config.data.name = 'photos'
  config.data.blur.kinds = ('gaussian', 'defocus', 'motion', 'linear')
  config.eval.blurs = 8
  if small:
    two_cores(config)
    config.data.blur.kinds = ('gaussian',)
    config.data.blur.sigma = (1.0, 2.5)
    config.data.blur.noise = (0.002, 0.005)
  return config


def two_cores(config: ConfigDict) -> None:
  """Shrinks crop, batch, steps and intervals."""
  config.steps = 900
  config.data.crop = 64
  config.data.batch_size = 8
  config.checkpoint.every_steps = 100
  config.eval.every_steps = 300
  config.log.every_steps = 10
