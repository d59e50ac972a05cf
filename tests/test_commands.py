"""The commands as a user types them."""

import csv
import errno
import json
import pathlib
import re
import shutil
import signal
import time
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

from deblur_jax import config as config_lib
from deblur_jax import train, trained
from deblur_jax.data import names, pipeline, sources
from deblur_jax.ops import scores
from deblur_jax.train_lib import writer
from deblur_jax.types import InputError
from tests.runs import (
  TINY_FLAGS,
  command,
  picture,
  process,
  save,
  saved_state,
  saved_steps,
  scalars,
  tiny_config,
)

CONFIG = '--config=configs/cnn_photos.py:small'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A workdir that `main` made."""
  path = tmp_path_factory.mktemp('run')
  done = command(
    'main', CONFIG, f'--workdir={path}', '--config.steps=4', *TINY_FLAGS
  )
  assert done.returncode == 0, done.stderr
  assert '| psnr' in done.stdout
  assert 'loss=' in done.stderr
  assert 'images/s' in done.stderr
  return path


def one_line(done, status, *words):
  """Checks that a command ended with one clear line."""
  assert done.returncode == status, done.stderr
  lines = [line for line in done.stderr.splitlines() if 'error:' in line]
  assert len(lines) == 1, done.stderr
  assert 'Traceback' not in done.stderr
  for word in words:
    assert str(word) in lines[0]


def test_workdir_is_complete(workdir):
  for name in (
    'config.json',
    'metrics.jsonl',
    'evaluation.json',
    'per_image.csv',
    'grid.png',
    'samples/first_batch.png',
    'samples/0000004.png',
    'checkpoints/4',
  ):
    assert (workdir / name).exists(), name
  assert list((workdir / 'tensorboard').iterdir())
  assert not list(workdir.rglob('*.tmp'))
  saved = json.loads((workdir / 'config.json').read_text())
  assert saved['name'] == 'cnn_photos:small'
  assert saved['config']['data']['crop'] == 16
  assert 'jax' in saved['versions']


def test_evaluation_json(workdir):
  record = json.loads((workdir / 'evaluation.json').read_text())
  assert record['family'] == 'cnn'
  assert record['images'] == 3
  assert record['step'] == 4
  assert record['aligned'] is True
  with (workdir / 'per_image.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0])[:3] == ['image', 'mse_input', 'mse_output']
  for name in ('mse', 'psnr', 'ssim', 'ssim_gauss'):
    for side in ('input', 'output'):
      summary = record['metrics'][name][side]
      values = [float(row[f'{name}_{side}']) for row in rows]
      assert summary['mean'] == pytest.approx(np.mean(values), rel=1e-4)
      assert summary['low'] <= summary['mean'] <= summary['high']
    before, after, gain = (
      record['metrics'][name][side]['mean']
      for side in ('input', 'output', 'gain')
    )
    assert gain == pytest.approx(after - before)


def test_metrics_lines(workdir):
  lines = writer.read_metrics(workdir)
  assert [m['step'] for m in lines if m['split'] == 'train'] == [1, 2, 3, 4]
  assert [m['step'] for m in lines if m['split'] == 'val'] == [4]


def test_evaluate_on_a_folder(workdir, tmp_path):
  for i, size in enumerate([(27, 31), (27, 31), (16, 9)]):
    image = picture(*size, seed=i)
    save(tmp_path / 'sharp' / f'{i}.png', image)
    grey = Image.fromarray(image).convert('L')
    grey.save(save(tmp_path / 'blur' / f'{i}.jpg', image))
  done = command('evaluate', f'--workdir={workdir}', f'--data={tmp_path}')
  assert done.returncode == 0, done.stderr
  folder = workdir / 'evaluations' / tmp_path.name
  record = json.loads((folder / 'evaluation.json').read_text())
  assert record['images'] == 3
  assert (folder / 'grid.png').is_file()
  with (folder / 'per_image.csv').open() as file:
    assert [row['image'] for row in csv.DictReader(file)] == ['0', '1', '2']


def test_evaluate_a_step(workdir, tmp_path):
  save(tmp_path / 'a' / 'sharp.png', picture())
  common = (f'--workdir={workdir}', f'--data={tmp_path / "a"}')
  output = tmp_path / 'out'
  done = command('evaluate', *common, '--step=2', f'--output={output}')
  assert done.returncode == 0, done.stderr
  assert json.loads((output / 'evaluation.json').read_text())['step'] == 2
  one_line(command('evaluate', *common, '--step=3'), 2, 'no checkpoint 3')


def test_restore_beside_and_into(workdir, tmp_path):
  photo = save(tmp_path / 'photo.jpg', picture(33, 21))
  grey = save(tmp_path / 'more' / 'grey.png', picture(8, 9)[..., 0])
  done = command('restore', f'--workdir={workdir}', photo, grey.parent)
  assert done.returncode == 0, done.stderr
  with Image.open(tmp_path / 'photo_deblurred.jpg') as image:
    assert image.size == (21, 33)
  with Image.open(tmp_path / 'more' / 'grey_deblurred.png') as image:
    assert (image.size, image.mode) == ((9, 8), 'L')
  output = tmp_path / 'new' / 'result.png'
  done = command('restore', f'--workdir={workdir}', f'--output={output}', photo)
  assert done.returncode == 0, done.stderr
  assert Image.open(output).format == 'PNG'


def test_compare_writes_table_and_figure(workdir, tmp_path):
  done = command('compare', f'--workdirs={workdir}', f'--output={tmp_path}')
  assert done.returncode == 0, done.stderr
  assert 'cnn_photos:small' in done.stdout
  assert (tmp_path / 'comparison.png').is_file()
  with (tmp_path / 'results.csv').open() as file:
    rows = [r for r in csv.DictReader(file) if r['family'] == 'cnn']
  assert len(rows) == len(scores.SCORES) * 2
  record = json.loads((workdir / 'evaluation.json').read_text())
  psnr = record['metrics']['psnr']['output']['mean']
  assert float(rows[3]['mean']) == pytest.approx(psnr, rel=1e-4)


def test_two_models_of_one_name_are_refused(workdir, tmp_path):
  shutil.copytree(workdir, tmp_path / 'copy')
  both = f'--workdirs={workdir},{tmp_path / "copy"}'
  done = command('compare', both, f'--output={tmp_path / "out"}')
  one_line(done, 2, 'both called cnn_photos:small')


def test_stopped_and_killed_training_goes_on_bit_exactly(tmp_path):
  """SIGTERM, then SIGKILL: the run ends as if neither had come."""
  flags = (CONFIG, *TINY_FLAGS, '--config.steps=16', '--config.ema.decay=0.9')
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  assert command('main', *flags, f'--workdir={whole}').returncode == 0
  ended, stderr = signal_after(1, signal.SIGTERM, cut, *flags)
  assert ended == 75
  stopped = saved_steps(cut)[-1]
  assert f'saved step {stopped};' in stderr.splitlines()[-1]
  ended, _ = signal_after(stopped + 1, signal.SIGKILL, cut, *flags)
  assert ended == -signal.SIGKILL
  assert stopped < saved_steps(cut)[-1] < 16
  assert command('main', *flags, f'--workdir={cut}').returncode == 0
  expected, got = saved_state(whole), saved_state(cut)
  assert expected.step == got.step == 16
  jax.tree.map(np.testing.assert_array_equal, expected, got)
  assert scalars(whole) == scalars(cut)


def signal_after(step, number, workdir, *flags):
  """Sends a signal to a training run once it has saved a step or a later one.

  Returns its exit status and what it wrote to stderr.
  """
  flags = *flags, f'--workdir={workdir}'
  child = process('main', *flags, JAX_NUM_CPU_DEVICES='4')  # as many as here
  deadline = time.monotonic() + 300
  while max(saved_steps(workdir), default=0) < step:
    assert time.monotonic() < deadline
    assert child.poll() is None
    time.sleep(0.01)
  child.send_signal(number)
  _, stderr = child.communicate()
  return child.returncode, stderr


def poison(monkeypatch, bad):
  """Puts a NaN into the batches of some steps."""
  whole = pipeline.train_batches

  def batches(*arguments):
    for number, batch in enumerate(whole(*arguments), 1):
      sharp = batch['sharp'].astype(np.float32)
      sharp[0, 0] = np.nan if number in bad else sharp[0, 0]
      yield {**batch, 'sharp': sharp}

  monkeypatch.setattr(pipeline, 'train_batches', batches)


def test_a_bad_batch_is_skipped_and_counted(monkeypatch, tmp_path):
  poison(monkeypatch, {3})
  config = tiny_config().unlock()
  config.steps = 5
  config.checkpoint.every_steps = 5
  train.train(config, tmp_path, 'tiny')
  lines = [m for m in scalars(tmp_path) if m['split'] == 'train']
  assert [m['skipped'] for m in lines] == [0, 0, 1, 1, 1]
  assert [m['net/loss'] is None for m in lines] == [0, 0, 1, 0, 0]


def test_ten_bad_batches_in_a_row_end_the_run(monkeypatch, tmp_path):
  poison(monkeypatch, range(3, 99))
  flags = (CONFIG, *TINY_FLAGS, f'--workdir={tmp_path}', '--config.steps=50')
  done = command('main', *flags)
  assert done.returncode == 3
  line = done.stderr.strip().splitlines()[-1]
  assert line.startswith('error: step 12: 10 steps in a row')
  ids = re.search(r'ids (\d+(?:, \d+){3});', line)[1].split(', ')
  shown = {int(i) for i in ids}
  known = sources.open_split(config_lib.load(tmp_path).data, 'train')
  assert shown <= {names.example_id(one['name']) for one in known}


def test_steps_may_grow_and_nothing_else(workdir, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(workdir, run)
  same = (CONFIG, *TINY_FLAGS, f'--workdir={run}')
  before = (run / 'config.json').read_text()
  other = command('main', *same, '--config.steps=4', '--config.seed=1')
  one_line(other, 2, run, 'seed: 0 -> 1')
  one_line(command('main', *same, '--config.steps=3'), 2, 'steps: 4 -> 3')
  assert (run / 'config.json').read_text() == before
  grown = command('main', *same, '--config.steps=6')
  assert grown.returncode == 0, grown.stderr
  assert trained.load(run).step == 6


def test_workdir_in_use(workdir):
  flags = (CONFIG, *TINY_FLAGS, '--config.steps=4', f'--workdir={workdir}')
  with writer.lock(workdir):
    one_line(command('main', *flags), 2, workdir, 'in use by another process')


def test_a_refused_run_leaves_the_workdir_free(workdir):
  other = config_lib.load(workdir).copy_and_resolve_references()
  other.seed += 1
  with pytest.raises(InputError, match='made with another config') as kept:
    train.claim(other, workdir, 'other', ())
  assert kept  # as a notebook keeps it
  with writer.lock(workdir):
    pass


def test_init_from(workdir, tmp_path):
  flags = (CONFIG, *TINY_FLAGS, f'--init_from={workdir}')
  started = command(
    'main',
    *flags,
    f'--workdir={tmp_path / "tuned"}',
    '--config.steps=1',
    '--config.optim.learning_rate=0.0',
  )
  assert started.returncode == 0, started.stderr
  given, tuned = (trained.load(p) for p in (workdir, tmp_path / 'tuned'))
  jax.tree.map(np.testing.assert_array_equal, given.params, tuned.params)
  assert tuned.runs[:-1] == given.runs
  assert tuned.images == given.images + tuned.config.data.batch_size
  wider = command(
    'main',
    *flags,
    f'--workdir={tmp_path / "wider"}',
    '--config.steps=1',
    '--config.model.nafnet.width=12',
  )
  one_line(wider, 2, '--init_from', workdir)


def test_dry_run_says_what_a_step_needs(tmp_path):
  done = command(
    'main',
    CONFIG,
    *TINY_FLAGS,
    f'--workdir={tmp_path / "run"}',
    '--dry_run',
  )
  assert done.returncode == 0, done.stderr
  lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
  assert lines['devices'] == '4: 4 data x 1 fsdp'
  assert 'GiB' in done.stdout and '1 all-reduce of' in lines['collectives']
  assert not (tmp_path / 'run').exists()


BAD = {
  'no config': ('main', [], 2, '--config=configs/'),
  'config file': ('main', ['--config=configs/none.py'], 2, 'none.py'),
  'config argument': ('main', [CONFIG[:-5] + 'tiny'], 2, 'tiny'),
  'config key': ('main', [CONFIG, '--config.stesp=3'], 2, 'stesp'),
  'config value': ('main', [CONFIG, '--config.steps=many'], 2, 'steps'),
  'flag': ('main', [CONFIG, '--wrokdir=x'], 2, 'wrokdir'),
  'family': ('main', [CONFIG, '--config.family=gna'], 2, 'family=gna'),
  'blur kind': (
    'main',
    [CONFIG, '--config.data.blur.kinds=("fog",)'],
    2,
    'fog',
  ),
  'dry run': (
    'main',
    [CONFIG, '--dry_run', '--config.parallel=pmap'],
    2,
    'parallel=jit only',
  ),
  'data set': ('main', [CONFIG, '--config.data.name=none'], 2, 'name=none'),
  'workdir': ('evaluate', ['--workdir=nowhere'], 2, 'nowhere'),
  'input': ('restore', ['--workdir=nowhere', 'none.jpg'], 2, 'none.jpg'),
  'no input': ('restore', [], 2, 'INPUT'),
  'no number': ('evaluate', ['--workdir=x', '--nfe=few'], 2, 'few'),
  'nothing': ('compare', ['--output=out'], 2, 'nothing to compare'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_one_line(case, tmp_path):
  module, arguments, status, word = BAD[case]
  if module == 'main':
    arguments = [*arguments, f'--workdir={tmp_path / "run"}']
  one_line(command(module, *arguments), status, word)
  assert not list(tmp_path.rglob('checkpoints/*'))


@pytest.mark.parametrize('more', [(), ('--dry_run',)])
@pytest.mark.parametrize(
  'wrong',
  [
    'data.crop=5',
    'eval.blurs=0',
    'data.blur.sigma=3',
    'steps=0',
    'model.nafnet.middle=-1',
  ],
)
def test_nonsense_is_refused_before_anything_is_written(wrong, more, tmp_path):
  flags = CONFIG, *TINY_FLAGS, f'--config.{wrong}', f'--workdir={tmp_path}/run'
  key = f'config.{wrong.partition("=")[0]}'
  one_line(command('main', *flags, *more), 2, f'error: {key}')
  assert not list(tmp_path.iterdir())


def test_bad_data_is_one_line(workdir, tmp_path):
  flags = (f'--workdir={workdir}', f'--data={tmp_path}')
  one_line(command('evaluate', *flags), 2, tmp_path, 'no pictures')
  save(tmp_path / 'blur' / 'a.png', picture())
  save(tmp_path / 'sharp' / 'b.png', picture())
  one_line(command('evaluate', *flags), 2, tmp_path, 'no partner', 'a, b')


def test_what_may_not_be_read_is_not_said_to_be_written(workdir, tmp_path):
  photo = save(tmp_path / 'photo.png', picture())
  flags = f'--workdir={workdir}', photo
  denied = PermissionError(errno.EACCES, 'Permission denied', 'config.json')
  with mock.patch.object(pathlib.Path, 'read_text', side_effect=denied):
    done = command('restore', *flags)
  one_line(done, 2, 'error: config.json: Permission denied')
  with mock.patch.object(Image, 'open', side_effect=denied):
    done = command('restore', *flags)
  assert done.returncode == 1
  assert f'failed: {photo}: cannot be read (permission denied)' in done.stderr


def test_checkpoint_of_another_network(workdir, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(workdir, run)
  saved = json.loads((run / 'config.json').read_text())
  saved['config']['model']['nafnet']['width'] = 12
  (run / 'config.json').write_text(json.dumps(saved))
  photo = save(tmp_path / 'photo.png', picture())
  done = command('restore', f'--workdir={run}', photo)
  one_line(done, 2, run, 'another network')
