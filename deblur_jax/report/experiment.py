"""From the scores of all contenders to the blocks of the report."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deblur_jax.ops.scores import BETTER
from deblur_jax.report import curves, figures, showcase, statistics, tables
from deblur_jax.report.document import (
  Block,
  Bold,
  Figure,
  Heading,
  Slider,
  Table,
  Text,
)
from deblur_jax.report.results import Result, Section

EYES = ('lpips_alex', 'ssim')
"""Scores said to see as eyes do, by preference: set against PSNR."""

BUDGETS = {
  'images': ('training_images', 'images seen in training', 0),
  'minutes': ('training_minutes', 'minutes of training', 1),
}
SAME = 1.1
"""Ratio up to which two budgets count as one."""
SHOWN = 3
"""Disagreements of each data set."""
PICTURES, PLOTS = 'figures', 'plots'
"""Folders of the report's figures."""
INPUT = 'blurred input'
"""What tables and plots call the blurred side."""


def describe(
  sections: Sequence[Section],
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
  budget: str,
  output: pathlib.Path,
) -> list[Block]:
  """Returns the whole report.

  Args:
    sections: one for each test.
    histories: lines of metrics.jsonl by model.
    budget: 'images' or 'minutes'.
    output: folder of the report; plots are written below it.
  """
  figure = output / 'comparison.png'
  figures.save(showcase.overview(sections), figure)
  blocks = [Heading('Comparison', 1), Text(state_budget(sections, budget))]
  if not any(EYES[0] in section.metrics for section in sections):
    blocks.append(Text(NO_LPIPS))
  for section in sections:
    blocks += describe_section(section, output)
  lines = learning_curves(histories)
  if any(lines.values()):
    plot = output / PLOTS / 'training.png'
    curves.training(plot, lines)
    blocks += [Heading('Training'), Figure(plot, 'Validation PSNR by step')]
  caption = 'Blurred, restored and sharp; details to the right'
  blocks += [Heading('Pictures'), Figure(figure, caption)]
  return [*blocks, Heading('How to read this'), *map(Text, NOTES)]


NO_LPIPS = (
  "No lpips columns: pip install 'deblur-jax[perceptual]' and the same command "
  'again add them.'
)
AGREEMENT = (
  "Kendall's rank correlation of the models and cascades on one picture, as a "
  'mean over the pictures.'
)
NOTES = (
  'Scores are means over the test pictures, on 8-bit RGB. Brackets hold 95 % '
  'intervals over photographs, as several blurs of one photograph are no '
  "independent pictures: of a bootstrap, or, of fewer than 20, of Student's t. "
  'Of fewer than three there is none (-).',
  'mse (in squared grey levels), psnr and ssim (7x7 uniform windows) are '
  "scikit-image's. ssim_gauss is that of Wang et al. 2004; ssim_matlab3d is "
  'what most deblurring papers print, and higher. lpips_* are of Zhang et al. '
  '2018: less is closer. sharpness is the mean gradient as a share of the '
  "original's.",
  'Differences are paired, picture by picture; bold ones have an interval that '
  'excludes zero. Wins count the pictures on which a row is better. Intervals '
  'are of these very weights: another training may differ by more.',
  'Methods with the true PSF are told what the models must guess: they are a '
  'mark to measure by, and no competitors.',
)


def describe_section(section: Section, output: pathlib.Path) -> Iterator[Block]:
  """Yields the blocks of one test; its figures lie below `output`."""
  first = section.results[0]
  photographs = len(set(first.groups()))
  yield Heading(section.dataset)
  yield Text(
    f'{len(first.rows)} test pictures of {photographs} photographs.'
    + ('' if first.record['aligned'] else ' NOT ALIGNED: scores say little.')
  )
  yield score_table(section)
  if missing := left_out(section):
    yield Text(f'Left out of the means: {missing}.')
  for name, columns in references(section).items():
    yield Heading(f'Difference to {name}', 3)
    yield difference_table(section, name, columns)
  yield Heading('Cost', 3)
  yield cost_table(section)
  if 'blur_kind' in first.rows[0]:
    yield Heading('PSNR gained, by blur', 3)
    yield breakdown_table(section)
  if len(learned(section)) > 1:
    yield Heading('Do the scores agree?', 3)
    yield Text(AGREEMENT)
    yield correlation_table(section)
  yield from disagreement_figures(section, output / PICTURES)
  yield tradeoff_figure(section, output / PLOTS)
  yield from sliders(section)


def state_budget(sections: Sequence[Section], budget: str) -> str:
  """Says whether the trained models had the same budget, where it is known."""
  key, words, digits = BUDGETS[budget]
  spent = {
    result.name: result.record[key] if result.is_known else math.nan
    for section in sections
    for result in section.results
    if result.trained_alone
  }
  low, high = min(spent.values()), max(spent.values())
  if high <= SAME * low and not any(map(math.isnan, spent.values())):
    return f'Budget: the same for all models, up to {high:,.{digits}f} {words}.'
  each = ', '.join(
    f'{name} {"unknown" if math.isnan(value) else f"{value:,.{digits}f}"}'
    for name, value in spent.items()
  )
  return f'Budget: NOT the same for all models; {words}: {each}.'


def score_table(section: Section) -> Table:
  """The blurred input and every contender, under every metric."""
  metrics = section.metrics
  first = section.results[0].record
  rows = [[INPUT, *tables.means(first, metrics, 'input')]]
  rows += [
    [result.name, *tables.means(result.record, metrics, 'output')]
    for result in section.results
  ]
  return Table(['model', *metrics], rows)


def left_out(section: Section) -> str:
  """Says which means leave pictures out, and why; '' where none does."""
  first = section.results[0].record
  shown = [(INPUT, first, 'input')]
  shown += [(one.name, one.record, 'output') for one in section.results]
  return '; '.join(
    f'{name}, {metric}: {count} {reason}'
    for name, record, side in shown
    for metric, sides in record['metrics'].items()
    for reason in ('infinite', 'empty')
    if (count := sides[side][reason])
  )


def references(section: Section) -> dict[str, dict[str, list[float]]]:
  """Returns what differences are taken to, its scores by metric.

  That is the baseline, or the input where there is none, and the first of
  several other models.
  """
  known = [metric for metric in section.metrics if metric in BETTER]

  def scores_of(result: Result, side: str) -> dict[str, list[float]]:
    return {metric: result.column(f'{metric}_{side}') for metric in known}

  models = [result for result in section.results if result.trained_alone]
  baselines = [result for result in models if result.is_baseline]
  others = [result for result in models if not result.is_baseline]
  found = {result.name: scores_of(result, 'output') for result in baselines[:1]}
  found = found or {f'the {INPUT}': scores_of(section.results[0], 'input')}
  if len(others) > 1:
    found[others[0].name] = scores_of(others[0], 'output')
  return found


def difference_table(
  section: Section, name: str, columns: Mapping[str, Sequence[float]]
) -> Table:
  """Paired differences to a reference, with how often they are gains."""
  rows = []
  for result in section.results:
    if result.name == name:
      continue
    cells = []
    for metric, values in columns.items():
      paired = statistics.paired(
        result.column(f'{metric}_output'),
        values,
        result.groups(),
        BETTER[metric],
      )
      cells.append(difference(metric, paired))
    rows.append([result.name, *cells])
  return Table(['model', *columns], rows)


def difference(metric: str, paired: Mapping[str, Any]) -> str:
  """Formats one paired difference."""
  if paired['mean'] is None:
    return '-'
  text = (
    f'{tables.signed(metric, paired["mean"])} '
    f'[{tables.between(metric, paired)}], wins {100 * paired["wins"]:.0f} %'
  )
  if missing := paired['infinite'] + paired['empty']:
    text += f' ({missing} left out)'
  return Bold(text) if paired['clear'] else text


def cost_table(section: Section) -> Table:
  """What each contender takes, to train and to restore."""
  header = [
    'model',
    'M parameters',
    'GMACs per megapixel',
    'ms per image',
    'training minutes',
    'training images',
  ]
  rows = []
  for result in section.results:
    record = result.record
    count = record['parameters']
    spent = [
      f'{count / 1e6:.2f}',
      f'{record["gmacs_per_megapixel"]:.1f}',
      f'{record["ms_per_image"]:.0f}',
      f'{record["training_minutes"]:.1f}',
      f'{record["training_images"]:,}',
    ]
    if not count:
      spent[0] = '-'
    if not record['gmacs_per_megapixel']:
      spent[1] = '-'
    if not result.is_known:
      spent[3:] = ['-', '-']
    rows.append([result.name, *spent])
  return Table(header, rows)


def breakdown_table(section: Section) -> Table:
  """Mean PSNR gain for each kind of blur, weak, medium and strong."""
  rows, first = [], section.results[0].rows
  columns = list(by_blur(first))
  for result in section.results:
    cells = []
    for members in by_blur(result.rows).values():
      gains = [row['psnr_output'] - row['psnr_input'] for row in members]
      finite = [gain for gain in gains if math.isfinite(gain)]
      cells.append(f'{np.mean(finite):+.2f}' if finite else '-')
    rows.append([result.name, *cells])
  return Table(['model', *columns], rows)


def by_blur(
  rows: Sequence[Mapping[str, Any]],
) -> dict[str, list[Mapping[str, Any]]]:
  """Sorts rows by kind of blur, and into thirds by its strength in px.

  Thirds of one and the same strength are one.
  """
  groups = {}
  for kind in sorted({row['blur_kind'] for row in rows}):
    own = [row for row in rows if row['blur_kind'] == kind]
    own.sort(key=lambda row: row['blur_strength'])
    for part in np.array_split(np.arange(len(own)), 3):
      if len(part):
        members = [own[i] for i in part]
        low, high = (members[i]['blur_strength'] for i in (0, -1))
        name = f'{kind} {low:.1f}-{high:.1f} px'
        groups.setdefault(name, []).extend(members)
  return groups


def learned(section: Section) -> list[Result]:
  """Returns the results of single models and of cascades."""
  others = 'classical', 'ensemble'
  return [one for one in section.results if one.record['family'] not in others]


def correlation_table(section: Section) -> Table:
  """How alike the metrics rank what was learned, picture by picture."""
  section = dataclasses.replace(section, results=learned(section))
  columns = {
    metric: sign * section.outputs(metric)
    for metric, sign in {**BETTER, 'sharpness': 1}.items()
    if metric in section.metrics
  }
  taus = statistics.rank_correlations(columns)
  taus |= {(b, a): tau for (a, b), tau in taus.items()}
  rows = [
    [a, *('' if a == b else f'{taus[a, b]:.2f}' for b in columns)]
    for a in columns
  ]
  return Table(['', *columns], rows)


def disagreement_figures(
  section: Section, folder: pathlib.Path
) -> Iterator[Figure]:
  """Yields the pictures on which PSNR and a score of the eye disagree most."""
  results = section.results
  eye = next((m for m in EYES if np.isfinite(section.outputs(m)).any()), 'psnr')
  images = [row['image'] for row in results[0].rows]
  kept = [
    i
    for i, image in enumerate(images)
    if all(r.picture(image, 'restored').is_file() for r in results)
  ]
  scores = [
    BETTER[metric] * section.outputs(metric)[kept] for metric in ('psnr', eye)
  ]
  finite = [np.where(np.isfinite(s), s, np.nan) for s in scores]
  if not kept or len(results) < 2 or eye == 'psnr':
    return
  found = statistics.disagreements(*finite, SHOWN)
  for number, (row, liked, other) in enumerate(found):
    image = images[kept[row]]
    path = folder / f'{section.dataset}_disagree_{number}.png'
    pair = [(results[liked], 'psnr'), (results[other], eye)]
    figures.save(showcase.side_by_side(image, pair), path)
    caption = (
      f'Where PSNR and {eye} disagree most: on {image}, PSNR prefers '
      f'{results[liked].name}, {eye} prefers {results[other].name}'
    )
    yield Figure(path, caption)


def tradeoff_figure(section: Section, folder: pathlib.Path) -> Figure:
  """PSNR against LPIPS, or against sharpness where there is no LPIPS."""
  first = section.results[0].record['metrics']
  known = 'lpips_alex' in section.metrics and first['lpips_alex']['output']['n']
  detail = 'lpips_alex' if known else 'sharpness'
  path = folder / f'{section.dataset}_tradeoff.png'
  sides = [(section.results[0].record, 'input')]
  sides += [(result.record, 'output') for result in section.results]
  points = [
    tuple(record['metrics'][m][side]['mean'] for m in ('psnr', detail))
    for record, side in sides
  ]
  curves.tradeoff(
    path,
    ('PSNR (dB)', detail),
    points,
    [INPUT, *(result.name for result in section.results)],
    section.dataset,
    joined=False,
  )
  return Figure(path, f'{section.dataset}: distortion against {detail}')


def sliders(section: Section) -> Iterator[Slider]:
  """Yields blurred against restored, the first picture under each model."""
  for result in section.results:
    image = result.first_kept()
    if image and result.trained_alone:
      yield Slider(
        result.picture(image, 'blur'),
        result.picture(image, 'restored'),
        f'{section.dataset}, {image}: blurred (left), {result.name} (right)',
      )


def learning_curves(
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, list[tuple[float, float]]]:
  """Returns (step, validation PSNR) by model."""
  return {
    name: [
      (line['step'], line['psnr'])
      for line in lines
      if line['split'] == 'val' and line.get('psnr') is not None
    ]
    for name, lines in histories.items()
  }
