"""Restores and scores all pictures of a test, and writes what comes of it."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
import tqdm
from ml_collections import ConfigDict

from deblur_jax import config as config_lib
from deblur_jax import contenders, files, trained
from deblur_jax.data import align, names, pipeline, sources
from deblur_jax.ops import scores
from deblur_jax.ops.psf import KINDS
from deblur_jax.report import figures, results, statistics, tables
from deblur_jax.train_lib import parallel, processes
from deblur_jax.types import Batch

JSON = 'evaluation.json'
CSV = 'per_image.csv'
GRID = 'grid.png'
GRID_ROWS = 6
DRAWN = 'kind', 'strength', 'noise', 'jpeg'
"""What tables tell of synthetic blur."""
KEPT_PIXELS = 16_000_000
"""Pictures that are kept as files besides those of the grid."""

Row = dict[str, Any]
"""One line of per_image.csv: image, METRIC_input, METRIC_output, ..."""


@dataclasses.dataclass(frozen=True)
class Test:
  """Pictures to be scored on.

  Attributes:
    source: the pictures.
    dataset: what tables call them.
    split: of the data set; 'all' for a folder.
    config: whose `data.blur` and `eval` say how sharp ones are blurred.
    inputs: scores of the blurred sides by image, kept from the first contender
      for all others.
  """

  source: sources.Examples
  dataset: str
  split: str
  config: ConfigDict
  inputs: dict[str, Row] = dataclasses.field(default_factory=dict)

  @property
  def repeats(self) -> int:
    """Returns how many synthetic blurs each photograph is under."""
    return 1 if self.source.real else self.config.eval.blurs

  @property
  def is_told(self) -> bool:
    """Returns whether the PSF is known of every picture, and all of it."""
    blur = self.config.data.blur
    more = 'local_probability', 'level_probability', 'frame_probability'
    return not (self.source.real or any(blur[name] for name in more))

  @property
  def fingerprint(self) -> str:
    """Tells the pictures and the blur on them from others."""
    blur = None if self.source.real else self.config.data.blur.to_json()
    told = self.source.mark, blur, self.repeats, self.config.eval.seed
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

  @functools.cached_property
  def degrade(self) -> Callable[[Batch], Batch]:
    """Makes the blurred sides; compiled once for all contenders."""
    return jax.jit(trained.make_degrade(self.config, parallel.make_mesh()))


@dataclasses.dataclass(frozen=True)
class Scored:
  """One restored test picture and its scores; pictures u8[H,W,3]."""

  row: Row
  pictures: tuple[np.ndarray, np.ndarray, np.ndarray]
  duration: contenders.Duration


@dataclasses.dataclass(frozen=True)
class Collected:
  """What came of all pictures of a test.

  Attributes:
    rows: their scores.
    grid: some pictures, for the grid.
    durations: how long each took.
    shifts: how far the sides of real pairs are apart, by image.
    kept: images whose pictures were written.
  """

  rows: list[Row] = dataclasses.field(default_factory=list)
  grid: list[Scored] = dataclasses.field(default_factory=list)
  durations: list[contenders.Duration] = dataclasses.field(default_factory=list)
  shifts: dict[str, tuple[float, float]] = dataclasses.field(
    default_factory=dict
  )
  kept: set[str] = dataclasses.field(default_factory=set)


def open_test(config: ConfigDict, data: str = '') -> Test:
  """Opens pictures to be scored on.

  Args:
    config: of a model.
    data: '' for the test split of its own data set; FILE.py[:ARGUMENT] for that
      of another config, with the blur asked for there; PATH/{blur,sharp}, or a
      folder of sharp pictures, blurred as in the model's training.

  Raises:
    InputError: the pictures or the config are missing or cannot be read.
  """
  if not data:
    source = sources.open_split(config.data, 'test')
    return Test(source, config.data.name, 'test', config)
  if config_lib.is_spec(data):
    other = config_lib.load_file(data)
    name = config_lib.default_workdir(data).name
    return Test(sources.open_split(other.data, 'test'), name, 'test', other)
  path = pathlib.Path(data)
  folder = path / 'test' if (path / 'test').is_dir() else path
  own = folder.resolve()
  name = f'{own.parent.name}_test' if own.name == 'test' else own.name
  return Test(sources.open_folder(folder), name, 'all', config)


def judge(
  contender: contenders.Contender, test: Test, output: pathlib.Path
) -> dict[str, Any]:
  """Scores a contender and writes evaluation.json, the CSV and the grid.

  Returns:
    What evaluation.json holds; {} in all processes but the first.
  """
  found = collect(contender, test, output)
  if not processes.is_first():
    return {}
  found.rows.sort(key=lambda row: row['image'])
  record = {
    **describe_contender(contender),
    'dataset': test.dataset,
    'split': test.split,
    'test': test.fingerprint,
    'images': len(found.rows),
    'ms_per_image': round(1e3 * mean_seconds(found.durations), 3),
    **align.verdict(found.shifts),
    'metrics': summarise(found.rows),
  }
  forget_pictures(output, found.kept)
  write(output, record, found.rows, found.grid)
  return record


def collect(
  contender: contenders.Contender, test: Test, output: pathlib.Path
) -> Collected:
  """Scores all pictures, and writes as many as there is room for."""
  total = len(test.source) * test.repeats
  shown = set(np.linspace(0, total - 1, GRID_ROWS).astype(int))
  found, room = Collected(), KEPT_PIXELS
  progress = tqdm.tqdm(
    score_all(contender, test),
    desc=f'{contender.name} on {test.dataset}',
    total=total,
    unit=' images',
    dynamic_ncols=True,
    disable=not processes.is_first(),
  )
  with futures.ThreadPoolExecutor() as pool:
    saving = []
    for i, scored in enumerate(progress):
      image = scored.row['image']
      found.rows.append(scored.row)
      found.durations.append(scored.duration)
      if test.source.real:
        blur, _, sharp = scored.pictures
        found.shifts[image] = align.shift(blur, sharp)
      if i in shown:
        found.grid.append(scored)
      room -= scored.pictures[0][..., 0].size
      if i in shown or room > 0:
        found.kept.add(image)
        saving.append(pool.submit(keep_pictures, scored, output))
    for saved in saving:
      saved.result()  # raises what went wrong
  return found


def mean_seconds(durations: Sequence[contenders.Duration]) -> float:
  """Mean without the first call of each shape, a slow one, if others follow."""
  later = [one.seconds for one in durations if not one.first]
  return float(np.mean(later or [one.seconds for one in durations]))


def describe_contender(contender: contenders.Contender) -> dict[str, Any]:
  """Returns what evaluation.json says of the contender itself."""
  return {
    'family': contender.family,
    'model': contender.network,
    'config': contender.name,
    'made_of': [list(part) for part in contender.made_of],
    'step': max((step for _, step, _ in contender.made_of), default=0),
    'sampler': dict(contender.sampler),
    'parameters': contender.parameters,
    'gmacs_per_megapixel': round(contender.macs() / 1e9, 3),
    'training_images': contender.training_images,
    'training_minutes': round(contender.training_minutes, 2),
  }


def score_all(contender: contenders.Contender, test: Test) -> Iterator[Scored]:
  """Restores and scores every picture of a test.

  Yields:
    Scores of 8-bit pictures: results are clipped and rounded first. All
    processes restore, the first one alone scores.
  """
  mesh = parallel.make_mesh()
  batches = pipeline.whole_batches(
    test.source, test.config.eval.megapixels, test.repeats, mesh.size
  )
  with futures.ThreadPoolExecutor() as pool:
    for names, raw in batches:
      batch = test.degrade(parallel.put_whole_batch(raw, mesh))
      restored, duration = contender.run(batch)
      # Of all rows, those that fill a batch up too: they take as long.
      own = duration._replace(seconds=duration.seconds / len(restored))
      blur = trained.to_uint8(batch['blur'])
      drawn = processes.to_host({k: batch[k] for k in DRAWN if k in batch})
      if not processes.is_first():
        continue
      sides = blur, restored, raw['sharp']
      pictures = list(zip(*sides, strict=True))[: len(names)]
      scored = pool.map(functools.partial(score, test), names, pictures)
      columns = describe_blur(drawn)
      for i, row in enumerate(scored):
        row |= {name: values[i] for name, values in columns}
        yield Scored(row, pictures[i], own)


def score(
  test: Test, name: str, pictures: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Row:
  """Returns the scores of blurred and restored against sharp; u8[H,W,3]."""
  blur, restored, sharp = pictures
  if name not in test.inputs:
    test.inputs[name] = {
      f'{metric}_input': function(blur, sharp)
      for metric, function in scores.SCORES.items()
    }
  row = {'image': name}
  for metric, function in scores.SCORES.items():
    row[f'{metric}_input'] = test.inputs[name][f'{metric}_input']
    row[f'{metric}_output'] = function(restored, sharp)
  return row


def describe_blur(drawn: pipeline.NumpyBatch) -> list[tuple[str, Sequence]]:
  """Returns columns that tell the synthetic blur; none for real pairs."""
  if not drawn:
    return []
  kinds = [KINDS[int(kind)] for kind in drawn['kind']]
  numbers = {name: drawn[name].round(4).tolist() for name in DRAWN[1:]}
  return [
    ('blur_kind', kinds),
    *((f'blur_{name}', values) for name, values in numbers.items()),
  ]


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, dict]]:
  """Returns {metric: {'input', 'output', 'gain': summary}} of the rows.

  A gain is a mean of differences: a picture that has an infinite PSNR on one
  side counts in none, where a difference of the means would count it in one.
  """
  groups = names.photographs([row['image'] for row in rows])

  def sides(name: str) -> dict[str, dict]:
    before, after = (
      [row[f'{name}_{side}'] for row in rows] for side in ('input', 'output')
    )
    gain = [b - a for a, b in zip(before, after, strict=True)]
    values = {'input': before, 'output': after, 'gain': gain}
    return {k: statistics.summary(v, groups) for k, v in values.items()}

  return {name: sides(name) for name in scores.SCORES}


def write(
  output: pathlib.Path,
  record: dict[str, Any],
  rows: Sequence[Row],
  grid: Sequence[Scored],
) -> None:
  """Writes the three files of an evaluation."""
  tables.write_csv(output / CSV, rows)
  picture = figures.grid(
    [scored.pictures for scored in grid],
    [captions(scored.row) for scored in grid],
  )
  figures.save(picture, output / GRID)
  files.write_text(output / JSON, json.dumps(record, indent=2) + '\n')


def forget_pictures(output: pathlib.Path, kept: Collection[str]) -> None:
  """Deletes what an earlier evaluation kept, but for the images kept now.

  Reports would show it beside scores that it has nothing to do with.
  """
  path = output / CSV
  earlier = (
    [row['image'] for row in tables.read_csv(path)] if path.is_file() else []
  )
  was, now = (
    {
      results.picture_path(output, image, side)
      for side in results.SIDES
      for image in images
    }
    for images in (earlier, kept)
  )
  for picture in was - now:
    picture.unlink(missing_ok=True)


def keep_pictures(scored: Scored, output: pathlib.Path) -> None:
  """Writes all sides of a picture below an evaluation's folder."""
  name = scored.row['image']
  for side, picture in zip(results.SIDES, scored.pictures, strict=True):
    figures.save(picture, results.picture_path(output, name, side))


def captions(row: Row) -> list[str]:
  """Returns what stands under blur, restored and sharp in the grid."""

  def scores_of(side: str) -> str:
    psnr, ssim = row[f'psnr_{side}'], row[f'ssim_{side}']
    return f'PSNR {psnr:.2f} dB  SSIM {ssim:.3f}'

  return [
    f'input: {scores_of("input")}',
    f'output: {scores_of("output")}',
    f'sharp: {row["image"]}',
  ]
