"""Tiny configs and pictures for the tests."""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import pathlib
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pyvips
from PIL import Image

from deblur_jax import cli, trained
from deblur_jax import config as config_lib
from deblur_jax.families import make_family
from deblur_jax.train_lib import parallel, state, writer
from deblur_jax.train_lib.checkpoint import Checkpoints
from deblur_jax.types import Family

ROOT = pathlib.Path(__file__).parents[1]
CHANNELS = {'L': 1, 'LA': 2, 'RGB': 3, 'RGBA': 4}
"""Of a picture, by mode."""
PICTURES = pathlib.Path(os.environ['TFDS_DATA_DIR']) / 'pictures'
"""A data set of small pictures: they are scored in no time."""


def tiny_config():
  """A config that trains in seconds on small pictures."""
  config = config_lib.base_config()
  config.steps = 4
  config.data.name = 'folder'
  config.data.manual_dir = str(PICTURES)
  config.data.crop = 16
  config.data.batch_size = 4
  config.data.blur.sigma = (1.0, 1.5)
  for model in (config.model, config.predictor):
    model.nafnet.width = 8
    model.nafnet.encoder = (1,)
    model.nafnet.middle = 0
    model.nafnet.decoder = (1,)
  config.model.unet.channels = 8
  config.model.unet.multipliers = (1, 2)
  config.model.unet.blocks = 1
  config.model.rrdb.channels = 8
  config.model.rrdb.growth = 4
  config.model.rrdb.blocks = 1
  config.model.rrdb.levels = 1
  config.discriminator.channels = 8
  config.discriminator.layers = (1, 2)
  config.gan.perceptual = 'matching'
  config.sampler.nfe = 2
  config.checkpoint.every_steps = 2
  config.eval.every_steps = 4
  config.eval.images = 4
  config.log.every_steps = 1
  return config.lock()


def lively_model(family='cnn', seed=0, **changes):
  """A tiny model whose weights are all random, so that it does something."""
  config = tiny_config().unlock()
  config.family = family
  config.model.name = 'unet' if family == 'diffusion' else 'nafnet'
  config.update_from_flattened_dict(changes)
  made = make_family(config)
  key = jax.random.key(seed)
  blur = np.zeros((1, 16, 16, 3), np.float32)
  params = jax.jit(made.init)(key, {'blur': blur, 'sharp': blur})
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(key, len(leaves))
  moved = [
    leaf + 0.1 * jax.random.normal(k, leaf.shape)
    for leaf, k in zip(leaves, keys, strict=True)
  ]
  return trained.Model(
    pathlib.Path(),
    config,
    made,
    jax.tree.unflatten(tree, moved),
    (trained.Run(family, step=1, images=0, minutes=0.0),),
  )


def linear_family(ema=()):
  """Two networks of one number each; each loss pulls only its own."""

  def init(key, batch):
    del key, batch
    return {name: {'w': jnp.float32(0.5)} for name in ('first', 'second')}

  def make_loss(name, other):
    def loss(params, batch, key, at):
      del key, at
      own, constant = params[name]['w'], params[other]['w']
      value = jnp.mean((own * batch['blur'] - constant - batch['sharp']) ** 2)
      return value, {'w': own}

    return loss

  losses = {
    'first': make_loss('first', 'second'),
    'second': make_loss('second', 'first'),
  }
  return Family(init, losses, ('first', 'second'), lambda *a: a[1], ema)


def raw_batch(rows=8, side=8, seed=0):
  rng = np.random.default_rng(seed)
  shape = (rows, side, side, 3)
  return {
    'blur': rng.integers(0, 255, shape, np.uint8),
    'sharp': rng.integers(0, 255, shape, np.uint8),
    'id': np.arange(rows, dtype=np.int32),
    'mask': np.ones(rows, bool),
  }


TINY_FLAGS = (
  '--config.data.name=folder',
  f'--config.data.manual_dir={PICTURES}',
  '--config.data.crop=16',
  '--config.data.batch_size=4',
  '--config.data.blur.sigma=(1.0, 1.5)',
  '--config.model.nafnet.width=8',
  '--config.model.nafnet.encoder=(1,)',
  '--config.model.nafnet.middle=0',
  '--config.model.nafnet.decoder=(1,)',
  '--config.checkpoint.every_steps=2',
  '--config.eval.every_steps=100',
  '--config.eval.images=4',
  '--config.eval.blurs=1',
  '--config.log.every_steps=1',
)


CONFIG_FILE = """
import sys
sys.path.insert(0, {root!r})
from tests.runs import tiny_config
def get_config():
  config = tiny_config().unlock()
  config.update_from_flattened_dict({changes!r})
  return config
"""


def tiny_file(path, **changes):
  """Writes a config file: `tiny_config`, changed where asked; a__b is a.b."""
  flat = {key.replace('__', '.'): value for key, value in changes.items()}
  path.write_text(CONFIG_FILE.format(root=str(ROOT), changes=flat))
  return path


def process(module, *arguments, cwd=ROOT, **environment):
  """Starts python -m deblur_jax.MODULE as a user would; returns the Popen."""
  return subprocess.Popen(
    [sys.executable, '-m', f'deblur_jax.{module}', *map(str, arguments)],
    cwd=cwd,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
  )


@dataclasses.dataclass(frozen=True)
class Done:
  """How a command ended."""

  returncode: int
  stdout: str
  stderr: str


def command(module, *arguments):
  """Runs a command inside this process: what `process` does, sooner."""
  main = importlib.import_module(f'deblur_jax.{module}').main
  argv = [f'deblur_jax.{module}', *map(str, arguments)]
  stdout, stderr = io.StringIO(), io.StringIO()
  with (
    mock.patch.object(sys, 'argv', argv),
    contextlib.chdir(ROOT),
    contextlib.redirect_stdout(stdout),
    contextlib.redirect_stderr(stderr),
  ):
    try:
      cli.run(main)
    except SystemExit as end:
      status = end.code
  return Done(status, stdout.getvalue(), stderr.getvalue())


def restored(workdir, *arguments):
  """Status, stdout and stderr of the restore command with a workdir."""
  done = command('restore', f'--workdir={workdir}', *arguments)
  return done.returncode, done.stdout, done.stderr


def json_lines(text):
  """What a command prints with --json."""
  return [json.loads(line) for line in text.splitlines()]


def finish(child, status=0):
  """Waits for a process that must end so; returns its stdout and stderr."""
  stdout, stderr = child.communicate()
  assert child.returncode == status, stderr[-3000:]
  return stdout, stderr


def untrained(workdir, **changes):
  """Makes the workdir of a tiny model that gives pictures back as they are."""
  config = tiny_config().unlock()
  config.update_from_flattened_dict(changes)
  init = state.make_init(config, make_family(config))
  config_lib.save(config, workdir, 'untrained')
  with Checkpoints(workdir) as checkpoints:
    checkpoints.save(jax.jit(init)(), 1, None)
  return workdir


def saved_steps(workdir):
  """The steps of all whole checkpoints."""
  found = workdir.glob('checkpoints/*')
  return sorted(int(path.name) for path in found if path.name.isdecimal())


def scalars(workdir):
  """What was logged, line by line, without what a clock says."""
  lines = writer.read_metrics(workdir)
  return [{k: v for k, v in m.items() if k != 'minutes'} for m in lines]


def saved_state(workdir):
  """The newest checkpoint, all of it, on the host."""
  config = config_lib.load(workdir)
  init = state.make_init(config, make_family(config))
  like = parallel.abstract(init, parallel.make_mesh())
  with Checkpoints(workdir, read_only=True) as checkpoints:
    return jax.device_get(checkpoints.restore(checkpoints.latest(), like))


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


def save_pictures(folder=PICTURES):
  """Writes a data set of small pictures."""
  for split, count in (('train', 6), ('val', 2), ('test', 3)):
    for i in range(count):
      save(folder / split / f'{i}.png', picture(seed=i))


def random_channels(height, width, mode, dtype, seed):
  """Random [H,W,C]; what is grey has to stay so."""
  rng = np.random.default_rng(seed)
  shape = height, width, CHANNELS[mode]
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save_channels(path, channels):
  """Writes [H,W,C] of either depth, with another writer than ours."""
  if channels.dtype == np.uint8:
    flat = channels[..., 0] if channels.shape[2] == 1 else channels
    Image.fromarray(flat).save(path)
  else:
    kind = 'grey16' if channels.shape[2] < 3 else 'rgb16'
    pyvips.Image.new_from_array(channels, interpretation=kind).write_to_file(
      str(path)
    )
