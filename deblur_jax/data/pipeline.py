"""Examples to batches with grain: crops, turns, order, and whole pictures.

The order of training data is a pure function of (seed, step): any process, of
any number of processes, can start at any step and sees its part of the very
same global batches.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator

import grain
import numpy as np

from deblur_jax.data import names, sources
from deblur_jax.types import InputError

NumpyBatch = dict[str, np.ndarray]
"""sharp (and blur) u8[B,H,W,3], id i32[B], mask (mixed: and real) bool[B]."""

ENDLESS = 2**62
"""Examples; grain rounds the length of `repeat()` up past what Python holds."""

SHUFFLED = 256
"""Fewest examples shuffled together: smaller sets go several epochs at a time.

grain's shuffle takes milliseconds an example on a set of a few dozen.
"""

THREADS = 16
"""That make batches, at most: each holds one in memory."""


@dataclasses.dataclass(frozen=True)
class Shard:
  """Which of `count` processes this is; it loads contiguous slots."""

  index: int = 0
  count: int = 1


def train_batches(
  source: sources.Examples,
  data,
  seed: int,
  start: int = 0,
  shard: Shard = Shard(),
  margin: int = 0,
) -> Iterator[NumpyBatch]:
  """Yields this process's part of the global batches from step `start` on.

  Pictures are u8[b,S,S,3] with S = crop + 2 margin; the margin gives synthetic
  blur real surroundings and is cut off after blurring.

  Raises:
    InputError: the batch cannot be shared out evenly.
  """
  local, rest = divmod(data.batch_size, shard.count)
  if rest or not local:
    raise InputError(
      f'config.data.batch_size={data.batch_size} cannot be shared by '
      f'{shard.count} processes: use a multiple'
    )
  side = data.crop + 2 * margin

  def change(example: sources.Example, rng: np.random.Generator) -> NumpyBatch:
    return augment(example, side, rng, margin)

  dataset = (
    grain.MapDataset.source(source)
    .repeat(-(-SHUFFLED // len(source)))
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(change)[:ENDLESS]
    .batch(local)
  )
  first = start * shard.count + shard.index
  threads = min(os.cpu_count() or 2, THREADS)
  # Batches, not examples.
  read = grain.ReadOptions(threads, prefetch_buffer_size=max(threads, 4))
  yield from dataset[first :: shard.count].to_iter_dataset(read)


def augment(
  example: sources.Example,
  side: int,
  rng: np.random.Generator,
  margin: int = 0,
) -> NumpyBatch:
  """Cuts one random square, turned and mirrored at random; both sides alike.

  Among synthetic pairs, a real one needs no margin: its own is mirrored.

  Returns sharp (and blur) u8[side,side,3], id and mask without a batch axis.
  """
  border = margin if example.get('real', False) else 0
  cut = side - 2 * border
  height, width = example['sharp'].shape[:2]
  top = rng.integers(max(height - cut, 0) + 1)
  left = rng.integers(max(width - cut, 0) + 1)
  turns, mirrored = rng.integers(4), rng.integers(2)

  def change(image: np.ndarray) -> np.ndarray:
    square = image[top : top + cut, left : left + cut]
    # Evenly, so that what is mirrored lies in the margin as far as it can.
    square = np.pad(square, (*around(square, side), (0, 0)), 'symmetric')
    turned = np.rot90(square, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)

  return _row(example, example['name'], change)


def around(image: np.ndarray, side: int) -> list[tuple[int, int]]:
  """Returns what is missing of a square of `side` above, below, and beside."""
  missing = [side - length for length in image.shape[:2]]
  return [(count // 2, count - count // 2) for count in missing]


def pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Mirrors u8[H,W,3] beyond its bottom and right up to height x width."""
  below = max(height - image.shape[0], 0)
  beside = max(width - image.shape[1], 0)
  if not below and not beside:
    return image
  return np.pad(image, ((0, below), (0, beside), (0, 0)), 'symmetric')


def centre_batch(
  source: sources.Examples, side: int, count: int, multiple: int
) -> NumpyBatch:
  """Returns the central squares of up to `count` pictures: one shape.

  They are spread evenly over the split; rows are filled up to a multiple.
  """
  picks = np.linspace(0, len(source) - 1, min(count, len(source)))
  examples = []
  for index in np.unique(picks.round().astype(int)):
    example = source[int(index)]
    height, width = example['sharp'].shape[:2]
    top, left = max(height - side, 0) // 2, max(width - side, 0) // 2

    def centre(image, top=top, left=left):
      return pad(image[top : top + side, left : left + side], side, side)

    examples.append(_row(example, example['name'], centre))
  return fill(examples, -(-len(examples) // multiple) * multiple)


def whole_batches(
  source: sources.Examples, megapixels: float, repeats: int, multiple: int
) -> Iterator[tuple[list[str], NumpyBatch]]:
  """Yields (names, batch) of whole pictures, grouped by exact shape.

  A batch holds up to `megapixels`, and a multiple of `multiple` rows (the
  devices that share it); all of one shape have as many, so that one is compiled
  for. The mask is False on filled-up rows, which have no name. Every picture
  comes `repeats` times: a photograph under several synthetic blurs.
  """
  waiting = collections.defaultdict(list)
  complete = {}
  total = len(source) * repeats
  for example in source:
    shape = example['sharp'].shape
    fitting = max(int(1e6 * megapixels / (shape[0] * shape[1])), 1)
    # Even shares if all have this shape: the last would be mostly filling.
    fitting = -(-total // -(-total // fitting))
    rows = max(even(fitting, repeats) // multiple, 1) * multiple
    for name in names.variants(example['name'], repeats):
      waiting[shape].append((name, _row(example, name)))
      if len(waiting[shape]) == rows:
        yield _collect(waiting.pop(shape), rows)
        complete[shape] = rows
  for shape, queue in waiting.items():
    # Another batch size would be compiled anew.
    rows = complete.get(shape, -(-len(queue) // multiple) * multiple)
    yield _collect(queue, rows)


def even(most: int, count: int) -> int:
  """Returns up to `most` rows, such that `count` alike leave none empty."""
  if most >= count:
    return most // count * count
  return max((n for n in range(1, most + 1) if count % n == 0), default=1)


def stack(examples: list[NumpyBatch]) -> NumpyBatch:
  """Stacks examples of one shape along a new batch axis."""
  return {key: np.stack([e[key] for e in examples]) for key in examples[0]}


def fill(examples: list[NumpyBatch], rows: int) -> NumpyBatch:
  """Stacks examples and repeats of the last one, masked, to so many rows."""
  filler = {**examples[-1], 'mask': np.asarray(False)}
  return stack(examples + [filler] * (rows - len(examples)))


def _collect(
  queue: list[tuple[str, NumpyBatch]], rows: int
) -> tuple[list[str], NumpyBatch]:
  return [name for name, _ in queue], fill([row for _, row in queue], rows)


def _row(example: sources.Example, name: str, change=np.asarray) -> NumpyBatch:
  """A row of a batch: both sides changed alike, and the name's id."""
  sides = {s: change(example[s]) for s in ('blur', 'sharp') if s in example}
  number = np.asarray(names.example_id(name), np.int32)
  row = {**sides, 'id': number, 'mask': np.asarray(True)}
  return {**row, 'real': example['real']} if 'real' in example else row
