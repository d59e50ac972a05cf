"""Is the input pipeline fast enough, and what does blurring cost?

python benchmarks/pipeline.py                    needs: pip install '.[bench]'

In one run, on one machine, with the small CNN config: images per second of the
pipeline alone and with blurring, of the train step on a batch kept in memory,
of both together, and of the step without blur synthesis; the pipeline on small
and on large originals; and a PyTorch DataLoader with OpenCV doing the same.
Rounds alternate, medians are compared, and only ratios mean anything elsewhere.
Prints one JSON object, then two tables.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import cv2
import jax
import numpy as np
import skimage.data
import torch
from PIL import Image

from deblur_jax import cli, train, trained
from deblur_jax import config as config_lib
from deblur_jax import keys as keys_lib
from deblur_jax.data import pipeline, sources
from deblur_jax.families import make_family
from deblur_jax.ops import psf
from deblur_jax.ops.prepare import make_prepare
from deblur_jax.report import tables
from deblur_jax.train_lib import parallel, state

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / 'configs' / 'cnn_gaussian.py'
ROUNDS = 9
STEPS = 6
BATCHES = 100
"""Far more than are prefetched, which cost nothing when they are asked for."""
PEER_BATCHES = 16
PAUSE = 2.0
"""Seconds before each case: workers of the last one fill their buffers."""
SIDES = (600, 2400)
"""Pixels along the side of small and large originals."""


def make_photographs(folder: pathlib.Path, side: int, count: int = 6) -> None:
  """Writes photographs of side x side pixels, as JPEG."""
  folder.mkdir(parents=True)
  photo = Image.fromarray(skimage.data.astronaut()).resize((side, side))
  for i in range(count):
    photo.rotate(15 * i).save(folder / f'{i}.jpg', quality=92)


def make_config(folder: pathlib.Path):
  """The small CNN config on a folder of photographs."""
  config = config_lib.load_file(f'{CONFIG}:small')
  config.data.name = 'folder'
  config.data.manual_dir = str(folder)
  return config


def rate(function: Callable[[], object], calls: int, images: int) -> float:
  """Returns images per second of some calls, each of which makes so many."""
  begin = time.perf_counter()
  for _ in range(calls):
    function()
  return calls * images / (time.perf_counter() - begin)


class Stepper:
  """Takes train steps on batches from anywhere, waiting for each."""

  def __init__(self, config):
    self._mesh = parallel.make_mesh()
    family = make_family(config)
    init = state.make_init(config, family)
    like = parallel.abstract(init, self._mesh)
    self._state = parallel.compile_init(init, like)()
    self._step = train.make_step(config, family, like, self._mesh)

  def __call__(self, batch: pipeline.NumpyBatch) -> None:
    """Takes one step on a batch of numpy arrays."""
    batch = parallel.put_batch(batch, self._mesh)
    self._state, metrics = self._step(self._state, batch)
    jax.block_until_ready(metrics)


class TorchPhotographs(torch.utils.data.Dataset):
  """The same work as a PyTorch user writes it: decode, crop, flip, blur."""

  def __init__(self, folder: pathlib.Path, config):
    self._files = sorted(folder.glob('*.jpg'))
    self._crop = config.data.crop
    self._sigma = config.data.blur.sigma

  def __len__(self) -> int:
    return 10**6

  def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(index)
    file = self._files[rng.integers(len(self._files))]
    photo = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    top, left = (rng.integers(n - self._crop) for n in photo.shape[:2])
    sharp = photo[top : top + self._crop, left : left + self._crop]
    sharp = np.rot90(sharp, rng.integers(4))[:, :: rng.choice([-1, 1])]
    light = np.float32(sharp / 255.0) ** 2.2
    line = cv2.getGaussianKernel(31, rng.uniform(*self._sigma))
    light = cv2.filter2D(
      light, -1, line @ line.T, borderType=cv2.BORDER_REFLECT
    )
    light += rng.normal(0, 0.01, light.shape)
    blur = np.float32(np.clip(light, 0, 1) ** (1 / 2.2))
    return torch.from_numpy(blur), torch.from_numpy(sharp.copy())


def torch_batches(folder: pathlib.Path, config) -> Iterator:
  """Yields batches of the PyTorch pipeline, with a worker per core."""
  return iter(
    torch.utils.data.DataLoader(
      TorchPhotographs(folder, config),
      batch_size=config.data.batch_size,
      num_workers=os.cpu_count(),
    )
  )


def measure(root: pathlib.Path) -> dict[str, float]:
  """Returns images per second of each case: medians over the rounds."""
  configs = {}
  for side in SIDES:
    make_photographs(root / str(side), side)
    configs[side] = make_config(root / str(side))
  config = configs[SIDES[1]]
  margin = psf.psf_size(trained.blur_ranges(config)) // 2
  streams = {
    side: pipeline.train_batches(
      sources.open_split(c.data, 'train'), c.data, 0, margin=margin
    )
    for side, c in configs.items()
  }
  peer = torch_batches(root / str(SIDES[1]), config)
  raw = next(streams[SIDES[1]])
  crop = config.data.crop
  centre = raw['sharp'][:, margin : margin + crop, margin : margin + crop]
  blurred = {**raw, 'sharp': centre, 'blur': centre}
  stepper = Stepper(config)
  prepare = jax.jit(make_prepare(trained.blur_ranges(config), crop))
  keys = keys_lib.of_slots(0, 0, config.data.batch_size)
  large = streams[SIDES[1]]
  cases = {
    'pipeline, small originals': (lambda: next(streams[SIDES[0]]), BATCHES),
    'pipeline, large originals': (lambda: next(large), BATCHES),
    'pipeline and blur': (
      lambda: jax.block_until_ready(prepare(next(large), keys)),
      BATCHES,
    ),
    'PyTorch DataLoader + OpenCV, with blur': (
      lambda: next(peer),
      PEER_BATCHES,
    ),
    'step, batch in memory': (lambda: stepper(raw), STEPS),
    'step, batch in memory, no blur': (lambda: stepper(blurred), STEPS),
    'step with the pipeline': (lambda: stepper(next(large)), STEPS),
  }
  rates = {name: [] for name in cases}
  for function, _ in cases.values():  # compile
    function()
  for _, (name, (function, calls)) in itertools.product(
    range(ROUNDS), cases.items()
  ):
    time.sleep(PAUSE)
    rates[name].append(rate(function, calls, config.data.batch_size))
  return {name: statistics.median(values) for name, values in rates.items()}


def ratios(rates: dict[str, float]) -> dict[str, float]:
  """Returns what the rates mean for each other."""
  small, large, blurring, peer, step, plain, attached = rates.values()
  return {
    'pipeline / step': large / step,
    'pipeline and blur / PyTorch with blur': blurring / peer,
    'large originals / small originals, time': small / large,
    'attached / in memory, time of a step': step / attached,
    'with blur / without, time of a step': plain / step,
  }


def main() -> None:
  """Runs all cases and prints one JSON object, then two tables."""
  argparse.ArgumentParser(description=__doc__.split('\n')[0]).parse_args()
  with tempfile.TemporaryDirectory() as folder:
    rates = measure(pathlib.Path(folder))
  result = {'images_per_second': rates, 'ratios': ratios(rates)}
  print(json.dumps(result))
  for name, values in result.items():
    rows = [[key, f'{value:.2f}'] for key, value in values.items()]
    print(tables.markdown([name, ''], rows), end='\n\n')


if __name__ == '__main__':
  cli.run(main)
