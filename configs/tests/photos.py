"""Photographs under blur of wide ranges, to test any model on.

python -m deblur_jax.evaluate --data=configs/tests/photos.py:gaussian
  gaussian, defocus or motion; all, one of the three for each picture; or sharp,
  which asks that nothing be changed.

The pictures are those of $DEBLUR_DATA/photos/test.
"""

from deblur_jax.config import base_config
from deblur_jax.types import InputError

KINDS = 'gaussian', 'defocus', 'motion'
ARGUMENTS = *KINDS, 'all', 'sharp'


def get_config(argument='gaussian'):
  if argument not in ARGUMENTS:
    raise InputError(
      f'config argument {argument!r}: use {", ".join(ARGUMENTS)}'
    )
  config = base_config()
  config.data.name = 'mixture'
  config.data.subset = 'photos'
  blur = config.data.blur
  blur.sigma, blur.anisotropy = (1.0, 4.0), 1.0
  blur.radius = (2.0, 7.0)
  blur.length = (9.0, 41.0)
  blur.noise = (0.002, 0.02)
  if argument == 'sharp':
    blur.sharp, blur.noise = 1.0, (0.0, 0.0)
  else:
    blur.kinds = KINDS if argument == 'all' else (argument,)
  return config
