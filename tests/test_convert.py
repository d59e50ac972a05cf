"""Torch's files are read as arrays, and the official NAFNet computes alike."""

import collections
import os
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from deblur_jax import convert, trained
from deblur_jax.models.nafnet import NAFNet
from deblur_jax.types import InputError
from tests.runs import command, picture, save

FIELDS = {'width': 8, 'encoder': (1, 2), 'middle': 1, 'decoder': (1, 0)}


def official(width=8, encoder=(1, 2), middle=1, decoder=(1, 0)):
  """Random weights under the names of the official network."""
  rng = np.random.default_rng(0)
  weights = {}

  def add(name, *shape):
    weights[name] = rng.normal(0, 0.2, shape).astype(np.float32)

  def conv(name, out, into, side=1, bias=True):
    add(f'{name}.weight', out, into, side, side)
    if bias:
      add(f'{name}.bias', out)

  def block(name, c):
    for i, (out, into) in enumerate(
      [(2 * c, c), (2 * c, 1), (c, c), (2 * c, c), (c, c)], 1
    ):
      conv(f'{name}.conv{i}', out, into, 3 if i == 2 else 1)
    conv(f'{name}.sca.1', c, c)
    for norm in ('norm1', 'norm2'):
      add(f'{name}.{norm}.weight', c)
      add(f'{name}.{norm}.bias', c)
    for skip in ('beta', 'gamma'):
      add(f'{name}.{skip}', 1, c, 1, 1)

  conv('intro', width, 3, 3)
  conv('ending', 3, width, 3)
  c = width
  for level, count in enumerate(encoder):
    for number in range(count):
      block(f'encoders.{level}.{number}', c)
    conv(f'downs.{level}', 2 * c, c, 2)
    c *= 2
  for number in range(middle):
    block(f'middle_blks.{number}', c)
  for level, count in enumerate(decoder):
    conv(f'ups.{level}.0', 2 * c, c, 1, bias=False)
    c //= 2
    for number in range(count):
      block(f'decoders.{level}.{number}', c)
  return weights


@pytest.mark.parametrize('middle', [0, 1])
def test_official_names_make_our_tree(middle):
  fields, params = convert.nafnet(official(middle=middle))
  assert fields == {**FIELDS, 'middle': middle}
  net = NAFNet(**fields)
  blur = jnp.zeros((1, 8, 8, 3))
  expected = jax.eval_shape(net.init, jax.random.key(0), blur)
  shapes = jax.tree.map(jnp.shape, params)
  assert shapes == jax.tree.map(lambda leaf: leaf.shape, expected)
  assert jnp.isfinite(net.apply(params, blur)).all()


def test_other_weights_are_refused():
  weights = official()
  del weights['middle_blks.0.beta']
  with pytest.raises(InputError, match='middle_blks.0.beta'):
    convert.nafnet(weights)


def test_safetensors_are_read(tmp_path):
  path = tmp_path / 'net.safetensors'
  safetensors.numpy.save_file(official(), path)
  read = convert.read_state_dict(path)
  np.testing.assert_array_equal(read['intro.bias'], official()['intro.bias'])


class Attack:
  """A pickle that would run a command."""

  def __reduce__(self):
    return os.system, ('true',)


@pytest.mark.parametrize('content', [Attack(), 7, [1, 2]])
def test_torch_files_run_no_code(content, tmp_path):
  path = tmp_path / 'net.pth'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('net/data.pkl', pickle.dumps(content))
  with pytest.raises(InputError, match=r'net.pth: no weights'):
    convert.nafnet(convert.read_state_dict(path))


@pytest.mark.parametrize(
  'name', ['missing.pth', 'rubbish.pth', 'x.safetensors']
)
def test_broken_files_are_named(name, tmp_path):
  path = tmp_path / name
  if name != 'missing.pth':
    path.write_bytes(b'rubbish')
  with pytest.raises(InputError, match=name):
    convert.read_state_dict(path)


def test_a_converted_file_is_a_model_like_any(tmp_path):
  path, workdir = tmp_path / 'small.safetensors', tmp_path / 'run'
  safetensors.numpy.save_file(official(), path)
  flags = 'convert', path, f'--workdir={workdir}'
  assert command(*flags).returncode == 0
  model = trained.load(workdir)
  assert model.name == 'small'
  assert model.config.model.nafnet.encoder == FIELDS['encoder']
  _, params = convert.nafnet(official())
  jax.tree.map(np.testing.assert_array_equal, model.params['net'], params)
  photo = save(tmp_path / 'photo.png', picture())
  done = command('restore', f'--workdir={workdir}', photo)
  assert done.returncode == 0, done.stderr
  again = command(*flags)
  assert again.returncode == 2
  assert 'holds a model' in again.stderr


@pytest.mark.parametrize('offset_and_strides', [(0, (-4, 4)), (-1, (1, 1))])
def test_no_tensor_reaches_beyond_its_storage(offset_and_strides):
  offset, strides = offset_and_strides
  with pytest.raises(ValueError, match='beyond its storage'):
    convert._tensor(np.zeros(8, np.float32), offset, (2, 2), strides)


def test_what_torch_notes_beside_the_tensors_is_no_hindrance(tmp_path):
  weights = collections.OrderedDict(count=3)
  weights._metadata = {'': {'version': 1}}
  path = tmp_path / 'net.pth'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('net/data.pkl', pickle.dumps(weights, protocol=2))
  assert convert.read_state_dict(path) == {}  # the count is no tensor


def test_names_of_a_parallel_training_are_those_of_its_network(tmp_path):
  path = tmp_path / 'net.safetensors'
  parallel = {f'module.{name}': value for name, value in official().items()}
  safetensors.numpy.save_file(parallel, path)
  assert convert.read_state_dict(path).keys() == official().keys()


@pytest.mark.slow
def test_files_of_torch_itself_are_read(tmp_path):
  torch = pytest.importorskip('torch')
  weights = {k: torch.tensor(v) for k, v in official().items()}
  weights['intro.bias'] = torch.arange(16.0)[::2]  # not contiguous
  path = tmp_path / 'net.pth'
  weights['ending.bias'] = torch.nn.Parameter(weights['ending.bias'])
  weights['intro.weight'] = weights['intro.weight'].bfloat16()
  torch.save({'params': weights, 'epoch': 3}, path)
  read = convert.read_state_dict(path)
  assert read.keys() == weights.keys()
  for name, tensor in weights.items():
    wanted = tensor.detach().float().numpy()
    np.testing.assert_array_equal(read[name].astype(np.float32), wanted)


def random_peer():
  """The plain torch network of the benchmarks, no weight of it zero."""
  torch = pytest.importorskip('torch')
  from benchmarks.torch_nafnet import NAFNet as Peer

  torch.manual_seed(0)
  peer = Peer(*FIELDS.values()).eval()
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  return torch, peer


@pytest.mark.slow
def test_output_is_that_of_the_peer(tmp_path):
  torch, peer = random_peer()
  path = tmp_path / 'net.pth'
  torch.save(peer.state_dict(), path)
  fields, params = convert.nafnet(convert.read_state_dict(path))
  blur = torch.rand(2, 256, 256, 3)
  with torch.no_grad():
    expected = peer(blur.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
  assert (expected - blur).abs().mean() > 0.01
  got = NAFNet(**fields).apply(params, blur.numpy())
  np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


@pytest.mark.slow
def test_the_peer_is_the_official_network():
  torch, peer = random_peer()
  module = 'spandrel.architectures.NAFNet.__arch.NAFNet_arch'
  official_net = pytest.importorskip(module, exc_type=ImportError).NAFNet(
    width=FIELDS['width'],
    middle_blk_num=FIELDS['middle'],
    enc_blk_nums=FIELDS['encoder'],
    dec_blk_nums=FIELDS['decoder'],
  )
  official_net.load_state_dict(peer.state_dict())
  blur = torch.rand(1, 3, 70, 61)
  with torch.no_grad():
    torch.testing.assert_close(peer(blur), official_net.eval()(blur))
