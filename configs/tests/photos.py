"""Photographs under one kind of blur, to test any model on.

python -m deblur_jax.evaluate --data=configs/tests/photos.py:gaussian
  gaussian, defocus, motion or sharp; the last asks that nothing be changed.

The pictures are those of photos/test in `config.data.manual_dir`.
"""

from deblur_jax.config import base_config
from deblur_jax.types import InputError

KINDS = 'gaussian', 'defocus', 'motion', 'sharp'


def get_config(argument='gaussian'):
  if argument not in KINDS:
    raise InputError(f'config argument {argument!r}: use {", ".join(KINDS)}')
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
    blur.kinds = (argument,)
  return config
