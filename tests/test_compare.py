"""The whole experiment on tiny models: rows, statistics, report, restarts."""

import csv
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from deblur_jax import compare, contenders, judge, trained
from deblur_jax.data import sources
from deblur_jax.ops import scores
from deblur_jax.report import document
from deblur_jax.types import InputError
from tests.runs import (
  TINY_FLAGS,
  command,
  lively_model,
  picture,
  save,
  tiny_config,
)

MODELS = {
  'cnn': ('cnn_gaussian', ()),
  'baseline': (
    'baseline_gaussian',
    ('--config.model.encoder_decoder.channels=(8,)',),
  ),
}
NAMES = ('cnn_gaussian:small', 'baseline_gaussian:small')
CASCADE = '--cascade=cnn>baseline_gaussian:small'


@pytest.fixture(scope='module')
def workdirs(tmp_path_factory):
  made = {}
  for family, (config, flags) in MODELS.items():
    made[family] = tmp_path_factory.mktemp(family) / 'run'
    done = command(
      'main',
      f'--config=configs/{config}.py:small',
      f'--workdir={made[family]}',
      *TINY_FLAGS,
      '--config.steps=2',
      *flags,
      '--config.eval.blurs=2',
    )
    assert done.returncode == 0, done.stderr
  return made


def run(workdirs, output, *flags):
  listed = ','.join(map(str, workdirs.values()))
  return command(
    'compare', f'--workdirs={listed}', f'--output={output}', *flags
  )


@pytest.fixture(scope='module')
def report(workdirs, tmp_path_factory):
  output = tmp_path_factory.mktemp('report')
  done = run(workdirs, output, CASCADE, '--ensemble')
  assert done.returncode == 0, done.stderr
  return output


def read(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_every_row_is_there(report):
  rows = read(report / 'results.csv')
  names = list(dict.fromkeys(row['config'] for row in rows))
  assert names == [
    'richardson_lucy (true PSF)',
    'wiener (true PSF)',
    *NAMES,
    ' > '.join(NAMES),
    *(f'{name} x8' for name in NAMES),
    'mean of all models',
  ]
  assert len(rows) == len(names) * len(scores.SCORES) * 2
  for row in rows:
    if row['mean']:  # LPIPS needs larger pictures
      assert float(row['low']) <= float(row['mean']) <= float(row['high'])
  known = {row['metric'] for row in rows if row['mean']}
  assert known >= {'mse', 'psnr', 'ssim', 'ssim_matlab3d', 'sharpness'}


def test_all_contenders_see_the_same_blur(report):
  rows = read(report / 'per_image.csv')
  inputs = {}
  for row in rows:
    inputs.setdefault(row['image'], set()).add(row['psnr_input'])
  assert len(inputs) == 3 * 2
  assert all(len(values) == 1 for values in inputs.values())


def test_both_reports_hold_the_numbers(report):
  record = json.loads(
    next(report.glob('evaluations/*/cnn*_x8/evaluation.json')).read_text()
  )
  psnr = f'{record["metrics"]["psnr"]["output"]["mean"]:.2f}'
  for name in ('report.md', 'report.html'):
    text = (report / name).read_text()
    assert psnr in text
    assert 'Difference to baseline_gaussian:small' in text
  page = (report / 'report.html').read_text()
  assert page.count('type="range"') == len(MODELS)
  assert 'src="data:image/png;base64,' in page
  assert 'src="http' not in page and 'href=' not in page


def test_markdown_shows_the_figures(report):
  text = (report / 'report.md').read_text()
  links = re.findall(r'!\[.*\]\((.*)\)', text)
  assert {'comparison.png', 'plots/training.png'} < set(links)
  assert all((report / link).is_file() for link in links)


def test_a_missing_extra_drops_its_columns_and_says_so(report):
  table, *_ = (report / 'report.md').read_text().partition('### Difference')
  there = 'lpips_alex' in scores.SCORES
  assert bool(re.search(r'\| +lpips_alex', table)) == there
  assert ("pip install 'deblur-jax[perceptual]'" in table) != there


def test_page_in_a_browser(report):
  """Opened offline: the table holds the scores, the slider uncovers."""
  browser_path = shutil.which('chromium')
  if not browser_path:
    pytest.skip('needs chromium on the path')
  api = pytest.importorskip('playwright.sync_api')
  psnr = [
    f'{float(row["mean"]):.2f}'
    for row in read(report / 'results.csv')
    if row['metric'] == 'psnr' and row['side'] == 'output'
  ]
  with api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=browser_path, args=['--no-sandbox']
    )
    page = browser.new_page(offline=True)
    page.goto((report / 'report.html').as_uri())
    table = page.locator('table').first.inner_text()
    assert all(value in table for value in psnr)
    slider = page.locator('.slider').first
    after = slider.locator('.after')
    for key, share in (('Home', '0%'), ('End', '100%')):
      slider.locator('input').press(key)
      clip = after.evaluate('image => getComputedStyle(image).clipPath')
      assert clip.endswith(f'{share})'), clip
    widths = 'images => images.map(image => image.naturalWidth)'
    assert min(page.locator('img').evaluate_all(widths)) > 0
    browser.close()


def test_again_is_the_same_and_scores_nothing_anew(workdirs, report):
  def stamps():
    found = report.rglob('evaluation.json')
    return {path: path.stat().st_mtime_ns for path in found}

  def texts():
    names = ('results.csv', 'per_image.csv', 'report.md', 'report.html')
    return [(report / name).read_text() for name in names]

  before = stamps(), texts()
  done = run(workdirs, report, CASCADE, '--ensemble')
  assert done.returncode == 0, done.stderr
  assert (stamps(), texts()) == before


def test_folders_are_further_tests(workdirs, tmp_path):
  for i in range(3):
    image = picture(36, 40, seed=50 + i)
    save(tmp_path / 'mine' / 'sharp' / f'{i}.png', image)
    save(tmp_path / 'mine' / 'blur' / f'{i}.png', image // 2)
  one = {'cnn': workdirs['cnn']}
  done = run(one, tmp_path / 'out', f'--data={tmp_path / "mine"}')
  assert done.returncode == 0, done.stderr
  rows = read(tmp_path / 'out' / 'results.csv')
  assert {row['dataset'] for row in rows} == {'folder', 'mine'}
  told = [row for row in rows if row['family'] == 'classical']
  assert {row['dataset'] for row in told} == {'folder'}


def test_self_ensemble_is_the_same_for_a_turned_picture(workdirs):
  contender = contenders.self_ensemble(trained.load(workdirs['cnn']))
  blur = np.float32(picture(20, 24)[None] / 255)
  ids = np.arange(1, dtype=np.int32)
  straight, _ = contender.run({'blur': blur, 'id': ids})
  turned, _ = contender.run({'blur': np.rot90(blur, 1, (1, 2)), 'id': ids})
  difference = np.rot90(turned, -1, (1, 2)).astype(int) - straight
  assert np.abs(difference).max() <= 1


def test_time_is_shared_by_all_rows_of_a_batch():
  def read(index):
    sharp = picture(seed=index)
    return {'name': f'p{index}', 'blur': sharp, 'sharp': sharp}

  def run(batch):
    restored = trained.to_uint8(batch['blur'])
    return restored, contenders.Duration(float(len(restored)))

  config = tiny_config().unlock()
  config.eval.megapixels = 2 * picture()[..., 0].size / 1e6
  test = judge.Test(sources.Examples(read, 3, True), 'mine', 'all', config)
  contender = contenders.Contender('still', 'cnn', 'none', run)
  scored = list(judge.score_all(contender, test))
  assert len(scored) == 3, (
    'of which the last one shares its batch with a filler'
  )
  assert {one.duration.seconds for one in scored} == {1.0}


def test_other_pictures_or_weights_are_scored_anew(tmp_path):
  for side in ('blur', 'sharp'):
    save(tmp_path / 'mine' / side / '0.png', picture(seed=0))
  runs = []

  def run(batch):
    runs.append(1)
    return trained.to_uint8(0.5 * batch['blur']), contenders.Duration(1.0)

  def score(mark='weights'):
    test = judge.open_test(tiny_config(), str(tmp_path / 'mine'))
    made_of = (('still', 1, mark),)
    one = contenders.Contender('still', 'cnn', 'none', run, made_of)
    made = compare.result(one, test, tmp_path / 'scores')
    return made.record['metrics']['psnr']['output']['mean']

  first = score()
  assert score() == first and len(runs) == 1
  save(tmp_path / 'mine' / 'blur' / '0.png', picture(seed=1))
  assert score() != first and len(runs) == 2
  score('others')
  assert len(runs) == 3


def test_pictures_of_an_earlier_evaluation_are_not_left(tmp_path, monkeypatch):
  def run(batch):
    return trained.to_uint8(0.5 * batch['blur']), contenders.Duration(1.0)

  def kept(count):
    for i in range(count):
      for side in ('blur', 'sharp'):
        save(tmp_path / 'mine' / side / f'{i}.png', picture(seed=count))
    test = judge.open_test(tiny_config(), str(tmp_path / 'mine'))
    one = contenders.Contender('still', 'cnn', 'none', run)
    compare.result(one, test, tmp_path / 'scores')
    return set((tmp_path / 'scores' / 'pictures').iterdir())

  first = kept(8)
  assert len(first) == 8 * 3
  monkeypatch.setattr(judge, 'KEPT_PIXELS', 0)
  second = kept(9)
  assert len(second) == judge.GRID_ROWS * 3
  assert len(second - first) == 3


def test_models_that_are_tested_alike_share_a_test(workdirs, tmp_path):
  model = trained.load(workdirs['cnn'])

  def tests(**changes):
    other = model.config.copy_and_resolve_references().unlock()
    other.data.update(changes)
    both = {
      tmp_path / 'a': model,
      tmp_path / 'b': dataclasses.replace(model, config=other),
    }
    return [len(group) for _, group, _ in compare.plan(both, ())]

  assert tests(plain_probability=0.5) == [2]
  assert tests(blur={'sigma': (7.0, 8.0)}) == [1, 1]
  for number in range(10):
    save(tmp_path / f'{number}.png', picture(seed=number))
  assert tests(manual_dir=str(tmp_path)) == [1, 1]


def test_a_cascade_was_trained_as_long_as_its_distinct_runs():
  early = trained.Run('cnn', 60, 480, 1.5)
  first = dataclasses.replace(lively_model(), runs=(early,))
  late = early, trained.Run('gan', 20, 160, 0.5)
  last = dataclasses.replace(lively_model('gan'), runs=late)
  both = contenders.cascade(first, last)
  assert both.training_images == 480 + 160
  assert both.training_minutes == 2.0
  converted = trained.Run('nafnet', 0, 0, 0.0)
  first = dataclasses.replace(first, runs=(converted, early))
  assert contenders.of_model(first).training_images == 0  # nobody knows
  assert contenders.cascade(first, last).training_images == 0


def test_a_cascade_is_made_of_samplers_too():
  first = lively_model()
  lasts = [lively_model('diffusion', **{'sampler.nfe': nfe}) for nfe in (1, 3)]
  made = [contenders.cascade(first, last).sampler for last in lasts]
  assert [sampler['cnn'] for sampler in made] == [{}, {}]
  assert [sampler['diffusion']['nfe'] for sampler in made] == [1, 3]


@pytest.mark.parametrize(
  ('wrong', 'words'),
  [
    ({'data': ['nowhere']}, 'nowhere'),
    ({'cascades': [('cnn', 'difusion')]}, 'no difusion'),
  ],
)
def test_typing_errors_show_before_anything_is_trained(
  wrong, words, tmp_path, monkeypatch
):
  monkeypatch.setattr(compare.train, 'train', pytest.fail)
  wanted = compare.Wanted(configs=['configs/cnn_photos.py:small'], **wrong)
  with pytest.raises(InputError, match=words):
    compare.compare(wanted, tmp_path / 'report')


@pytest.mark.parametrize('text', ['cnn', 'cnn>', 'a>b>c'])
def test_nonsense_cascades_are_refused(text):
  with pytest.raises(InputError, match='FIRST>SECOND'):
    compare.parse_cascades(text)


def test_cascade_of_a_missing_model_is_named(workdirs, tmp_path):
  done = run(workdirs, tmp_path / 'out', '--cascade=cnn>diffusion')
  assert done.returncode == 2
  assert 'no diffusion among the models' in done.stderr
  assert not (tmp_path / 'out').exists()


def test_page_escapes_and_markdown_marks(tmp_path):
  blocks = [
    document.Heading('A <b> & c', 1),
    document.Table(['x', 'y'], [['one', document.Bold('<2>')]]),
  ]
  page = document.page(blocks)
  assert '<h1>A &lt;b&gt; &amp; c</h1>' in page
  assert '<b>&lt;2&gt;</b>' in page
  assert '| **<2>** |' in document.markdown(blocks, tmp_path)


@pytest.mark.parametrize('part', ['local', 'level', 'frame'])
def test_a_kernel_is_told_where_it_is_all_of_the_blur(part):
  config = tiny_config().unlock()
  assert judge.open_test(config, None).is_told
  config.data.blur[f'{part}_probability'] = 0.5
  assert not judge.open_test(config, None).is_told


def test_tests_on_one_data_set_are_told_apart_by_their_blur():
  first = tiny_config().unlock()
  second = first.copy_and_resolve_references()
  second.data.blur.kinds = ('motion', 'linear')
  third = second.copy_and_resolve_references()
  third.data.blur.length = (3.0, 5.0)
  tests = [judge.open_test(config, None) for config in (first, second)]
  assert compare.distinct(tests[:1]) == ['folder']
  kinds = '_'.join(first.data.blur.kinds)
  assert compare.distinct(tests) == [f'folder_{kinds}', 'folder_motion_linear']
  tests.append(judge.open_test(third, None))
  assert compare.distinct(tests)[1:] == [
    'folder_motion_linear_1',
    'folder_motion_linear_2',
  ]
