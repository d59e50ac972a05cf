"""Statistics, tables and figures."""

import math
import pathlib

import numpy as np
import pytest

from deblur_jax import judge
from deblur_jax.ops import scores
from deblur_jax.report import (
  experiment,
  figures,
  results,
  statistics,
  tables,
)


def test_interval_holds_the_mean_and_shrinks_with_n():
  rng = np.random.default_rng(0)
  widths = []
  for count in (10, 1000):
    values = rng.normal(3.0, 1.0, count)
    low, high = statistics.interval(values, [str(i) for i in range(count)])
    assert low < values.mean() < high
    widths.append(high - low)
  # The standard error: 2 x 1.96 / sqrt(n).
  assert widths[1] == pytest.approx(2 * 1.96 / math.sqrt(1000), rel=0.15)
  assert widths[0] > 5 * widths[1]


@pytest.mark.parametrize('photographs', [2, 3, 10, 19, 20])
def test_nothing_is_clear_too_often(photographs):
  rng = np.random.default_rng(photographs)
  trials, groups = 400, [str(i // 2) for i in range(2 * photographs)]
  clear = 0
  for _ in range(trials):
    shift = rng.normal(size=photographs).repeat(2)
    a, b = shift + rng.normal(size=(2, 2 * photographs))
    clear += statistics.paired(a, b, groups, 1)['clear']
  assert clear / trials < 0.1


def test_a_lost_infinity_is_a_loss():
  restored = [45.0, 45.0, 30.0, math.inf]
  blurred = [math.inf, 40.0, 30.0, math.inf]
  pair = statistics.paired(restored, blurred, list('abcd'), 1)
  assert (pair['n'], pair['infinite'], pair['empty']) == (2, 1, 1)
  assert pair['wins'] == (0 + 1 + 0.5 + 0.5) / 4


def test_thirds_of_one_strength_are_one():
  rows = [
    {'blur_kind': kind, 'blur_strength': strength}
    for kind, strength in [('sharp', 0.0)] * 9
    + [('gaussian', 1.0 + i) for i in range(9)]
  ]
  found = {name: len(own) for name, own in experiment.by_blur(rows).items()}
  assert found.pop('sharp 0.0-0.0 px') == 9
  assert list(found.values()) == [3, 3, 3]


def test_blurs_of_one_photograph_are_no_independent_pictures():
  values = [1.0] * 8 + [2.0] * 8 + [3.0] * 8
  three = statistics.summary(values, ['a'] * 8 + ['b'] * 8 + ['c'] * 8)
  assert three['mean'] == 2.0
  assert three['low'] < 1.0 and three['high'] > 3.0
  single = statistics.summary(values, [str(i) for i in range(24)])
  assert single['low'] > 1.0


def test_scores_agree_by_how_they_rank_on_each_picture():
  rng = np.random.default_rng(0)
  hard = rng.normal(size=(40, 1))  # how hard a picture is, for both alike
  ranks = rng.permuted(np.tile(np.arange(5.0), (40, 1)), axis=1)
  scores = {
    'psnr': 9 * hard + ranks,
    'mse': 3 * hard + np.exp(ranks),
    'eye': 9 * hard - ranks,
    'flat': np.tile(hard, 5),
  }
  scores['psnr'][0, 0] = math.inf  # one of five is left out
  taus = statistics.rank_correlations(scores)
  assert taus['psnr', 'mse'] == pytest.approx(1)
  assert taus['psnr', 'eye'] == pytest.approx(-1)
  assert math.isnan(taus['psnr', 'flat'])


@pytest.mark.parametrize(
  ('models', 'names'),
  [
    ({'cnn': 'nafnet'}, ['the blurred input']),
    ({'cnn': 'nafnet', 'gan': 'nafnet'}, ['the blurred input', 'cnn']),
    ({'old': 'encoder_decoder', 'cnn': 'nafnet'}, ['old']),
    (
      {'old': 'encoder_decoder', 'gan': 'nafnet', 'cnn': 'nafnet'},
      ['old', 'gan'],
    ),
  ],
)
def test_differences_are_to_the_baseline_and_to_the_first_of_others(
  models, names
):
  def result(name, network):
    record = {
      'config': name,
      'family': 'cnn',
      'model': network,
      'made_of': [[name, 1, '']],
      'metrics': {'psnr': {}},
    }
    rows = [{'image': 'a', 'psnr_input': 1.0, 'psnr_output': 2.0}]
    return results.Result(record, rows, pathlib.Path())

  told = result('wiener (true PSF)', 'wiener')
  told.record.update(family='classical', made_of=[])
  made = [result(*model) for model in models.items()]
  section = results.Section('test', [told, *made])
  found = experiment.references(section)
  assert list(found) == names
  value = 1.0 if names[0].startswith('the') else 2.0
  assert found[names[0]] == {'psnr': [value]}


def test_an_unknown_training_is_no_training_of_zero():
  records = [
    {
      'config': name,
      'family': 'cnn',
      'made_of': [[name, 1, '']],
      'training_images': images,
      'training_minutes': images / 10,
      'parameters': 1000,
      'gmacs_per_megapixel': 1.0,
      'ms_per_image': 2.0,
    }
    for name, images in (('ours', 80), ('converted', 0))
  ]
  made = [results.Result(record, [], pathlib.Path()) for record in records]
  section = results.Section('test', made)
  words = experiment.state_budget([section], 'images')
  assert words.endswith('images seen in training: ours 80, converted unknown.')
  alone = results.Section('test', made[:1])
  assert 'the same' in experiment.state_budget([alone], 'images')
  ours, converted = experiment.cost_table(section).rows
  assert ours[-2:] == ['8.0', '80']
  assert converted[-2:] == ['-', '-']


@pytest.mark.parametrize('groups', ['aa', 'ab'])
def test_few_photographs_have_no_interval_and_prove_nothing(groups):
  summary = statistics.summary([31.0, 29.0], list(groups))
  assert (summary['mean'], summary['low'], summary['high']) == (
    30.0,
    None,
    None,
  )
  assert tables.between('psnr', summary) == '-'
  pair = statistics.paired([31.0, 29.0], [30.9, 28.9], list(groups), 1)
  assert pair['wins'] == 1.0
  assert not pair['clear']


def test_infinite_and_empty_are_counted_not_averaged():
  summary = statistics.summary([30.0, math.inf, math.nan], ['a', 'b', 'c'])
  assert summary['mean'] == 30.0
  assert (summary['n'], summary['infinite'], summary['empty']) == (1, 1, 1)
  nothing = statistics.summary([math.nan], ['a'])
  assert nothing['mean'] is None


def test_gain_is_of_pictures_finite_on_both_sides():
  rows = [
    {'image': name}
    | {
      f'{metric}_{side}': psnr
      for metric in scores.SCORES
      for side, psnr in (('input', before), ('output', after))
    }
    for name, before, after in [
      ('blurred', 20.0, 23.0),
      ('left sharp', math.inf, 50.0),
      ('left sharp, as it was', math.inf, math.inf),
    ]
  ]
  summary = judge.summarise(rows)['psnr']
  assert summary['output']['mean'] == 36.5
  assert summary['gain']['mean'] == 3.0
  assert summary['gain']['n'] == 1


def test_markdown_columns_line_up():
  text = tables.markdown(['a', 'bb'], [['x', '1'], ['yyy', '22']])
  lines = text.split('\n')
  assert len({len(line) for line in lines}) == 1
  assert lines[1].startswith('| :--')


def test_printable_cells():
  row = {'image': 'x', 'psnr': math.inf, 'ssim': math.nan, 'n': 3}
  assert tables.printable(row) == {
    'image': 'x',
    'psnr': 'inf',
    'ssim': '',
    'n': 3,
  }


def test_grid_keeps_pixels():
  red = np.full((10, 12, 3), (200, 0, 0), np.uint8)
  half = np.full((8, 12, 3), 0.5, np.float32)
  sheet = figures.grid([[red, half]])
  gap = figures.GAP
  np.testing.assert_array_equal(sheet[gap : gap + 10, gap : gap + 12], red)
  second = sheet[gap : gap + 8, 2 * gap + 12 : 2 * gap + 24]
  assert (second == 128).all()


def test_grid_enlarges_what_is_too_narrow_for_captions():
  picture = np.random.default_rng(0).integers(0, 256, (8, 60, 3), np.uint8)
  sheet = figures.grid([[picture]], [['output\nPSNR 20.00']])
  gap, factor = figures.GAP, 4
  assert factor * 60 == figures.READABLE
  shown = sheet[gap : gap + factor * 8, gap : gap + factor * 60]
  np.testing.assert_array_equal(shown[::factor, ::factor], picture)
  below = sheet[gap + factor * 8 :]
  assert len(below) == 2 * figures.LINE + gap
  for line in (0, 1):  # both are written
    assert (below[line * figures.LINE :][: figures.LINE] < 255).any()


def test_sheets_of_a_stack_keep_their_pixels():
  small = np.zeros((4, 5, 3), np.uint8)
  large = np.full((3, 7, 3), 9, np.uint8)
  sheet = figures.stack([small, large])
  assert sheet.shape == (7, 7, 3)
  np.testing.assert_array_equal(sheet[:4, :5], small)
  np.testing.assert_array_equal(sheet[4:], large)
  assert (sheet[:4, 5:] == figures.PAPER).all()


def test_captions_never_run_into_each_other():
  white = np.full((8, figures.READABLE, 3), 255, np.uint8)
  words = 'a mean of many models with long names ' * 4
  sheet = figures.grid([[white, white]], [[words, words]])
  columns = (sheet < 200).any((0, 2))
  half = len(columns) // 2
  assert sheet.shape[1] > 2 * figures.READABLE + 3 * figures.GAP
  assert columns[: half - figures.GAP].any()
  assert not columns[half - figures.GAP // 2 : half + figures.GAP // 2].any()
