"""Tiny configs and pictures for the tests."""

import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

from deblur_jax.config import base_config

ROOT = pathlib.Path(__file__).parents[1]


def tiny_config(family='cnn'):
  """A config that trains in seconds on the embedded photographs."""
  config = base_config()
  config.family = family
  config.steps = 4
  config.data.crop = 16
  config.data.batch_size = 4
  config.data.blur.sigma = (1.0, 1.5)
  config.model.nafnet.width = 8
  config.model.nafnet.encoder = (1, 1)
  config.model.nafnet.decoder = (1, 1)
  config.checkpoint.every_steps = 2
  config.eval.every_steps = 4
  config.eval.images = 4
  config.log.every_steps = 1
  return config.lock()


TINY_FLAGS = (
  '--config.data.crop=16',
  '--config.data.batch_size=4',
  '--config.data.blur.sigma=(1.0, 1.5)',
  '--config.model.nafnet.width=8',
  '--config.model.nafnet.encoder=(1, 1)',
  '--config.model.nafnet.decoder=(1, 1)',
  '--config.checkpoint.every_steps=2',
  '--config.eval.every_steps=100',
  '--config.eval.images=4',
  '--config.eval.blurs=1',
  '--config.log.every_steps=1',
)


def command(module, *arguments):
  """Runs python -m deblur_jax.MODULE as a user would."""
  return subprocess.run(
    [sys.executable, '-m', f'deblur_jax.{module}', *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def picture(height=24, width=20, seed=0):
  """A random smooth picture u8[H,W,3]."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
  image = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
  return np.asarray(image)


def save(path, image):
  """Writes a picture, making its folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)
  return path
