"""Weights from elsewhere: torch files of the official NAFNet become ours.

python -m deblur_jax.convert NAFNet-GoPro-width32.pth --workdir=runs/nafnet
python -m deblur_jax.restore --workdir=runs/nafnet photo.jpg

Files are read as arrays alone: no code that a pickle may hold is run.
"""

import collections
import dataclasses
import io
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from deblur_jax import cli
from deblur_jax import config as config_lib
from deblur_jax.families import make_family
from deblur_jax.train_lib import parallel, state, writer
from deblur_jax.train_lib.checkpoint import Checkpoints, has_checkpoints
from deblur_jax.types import InputError, Params

StateDict = Mapping[str, np.ndarray]

WRAPPERS = ('params_ema', 'params', 'state_dict')
"""Keys that a file may hold its weights under, the best first."""
PARALLEL = 'module.'
"""What torch's DataParallel puts before all names."""

CROP = 256
"""Side of what the official networks were trained on."""


def convert(path: pathlib.Path, workdir: pathlib.Path) -> None:
  """Makes a workdir of a file of weights: a model like any that is trained.

  Args:
    path: of the official network; see `read_state_dict`.
    workdir: where evaluate, restore and compare will find it.

  Raises:
    InputError: the file holds other things, or the workdir holds a model.
  """
  fields, params = nafnet(read_state_dict(path))
  if has_checkpoints(workdir):
    raise InputError(f'{workdir}: holds a model; choose another --workdir')
  config = config_lib.base_config()
  config.model.nafnet.update(fields)
  config.data.crop = CROP
  config.ema.decay = 0.0
  made = make_family(config)
  like = parallel.abstract(
    state.make_init(config, made), parallel.make_mesh(config.mesh)
  )
  with writer.lock(workdir):
    config_lib.save(config, workdir, path.stem)
    now = parallel.compile_init(state.make_init(config, made), like)()
    placed = parallel.place({'net': params}, parallel.shardings(now.params))
    with Checkpoints(workdir) as checkpoints:
      checkpoints.save(dataclasses.replace(now, params=placed), 0, None)


def read_state_dict(path: pathlib.Path) -> StateDict:
  """Reads the arrays of a .safetensors file, or of a .pth or .pt of torch.

  Raises:
    InputError: the file is missing, or holds anything but arrays.
  """
  try:
    if path.suffix == '.safetensors':
      return _alone(safetensors.numpy.load_file(path))
    return _unwrapped(_read_torch(path))
  except FileNotFoundError:
    raise InputError(f'{path}: no such file') from None
  except (OSError, *NOT_WEIGHTS) as error:
    raise InputError(f'{path}: no weights that can be read ({error})') from None


def nafnet(weights: StateDict) -> tuple[dict[str, Any], Params]:
  """Returns the fields of a NAFNet and its parameters.

  Args:
    weights: of the official network, by its names.

  Raises:
    InputError: they are of another network.
  """
  try:
    encoder = _count_levels(weights, 'encoders')
    decoder = _count_levels(weights, 'decoders')
    tree = {
      'intro': _convolution(weights, 'intro'),
      'ending': _convolution(weights, 'ending'),
    }
    middle = _count(weights, 'middle_blks')
    if middle:
      tree['middle'] = _blocks(weights, 'middle_blks')
    for level, count in enumerate(encoder):
      tree[f'down_{level}'] = _convolution(weights, f'downs.{level}')
      if count:
        tree[f'encoder_{level}'] = _blocks(weights, f'encoders.{level}')
    for level, count in enumerate(decoder):
      tree[f'up_{level}'] = _convolution(weights, f'ups.{level}.0')
      if count:
        tree[f'decoder_{level}'] = _blocks(weights, f'decoders.{level}')
  except KeyError as error:
    raise InputError(f'not the weights of a NAFNet: no {error}') from None
  fields = {
    'width': tree['intro']['kernel'].shape[-1],
    'encoder': encoder,
    'middle': middle,
    'decoder': decoder,
  }
  return fields, {'params': tree}


def _count(weights: StateDict, prefix: str) -> int:
  """Returns how many numbers come right after a prefix."""
  start = f'{prefix}.'
  found = {
    name[len(start) :].split('.')[0]
    for name in weights
    if name.startswith(start)
  }
  return len(found)


def _count_levels(weights: StateDict, prefix: str) -> tuple[int, ...]:
  """Returns the number of blocks of each level."""
  ends = {'encoders': 'downs', 'decoders': 'ups'}
  levels = _count(weights, ends[prefix])
  return tuple(_count(weights, f'{prefix}.{level}') for level in range(levels))


def _convolution(weights: StateDict, name: str) -> dict[str, np.ndarray]:
  """OIHW becomes HWIO."""
  layer = {'kernel': weights[f'{name}.weight'].transpose(2, 3, 1, 0)}
  if f'{name}.bias' in weights:
    layer['bias'] = weights[f'{name}.bias']
  return layer


def _blocks(weights: StateDict, prefix: str) -> dict[str, Any]:
  """The blocks of a level, stacked along a new first axis."""
  blocks = [
    _block(weights, f'{prefix}.{number}')
    for number in range(_count(weights, prefix))
  ]
  return _stack(blocks)


def _block(weights: StateDict, name: str) -> dict[str, Any]:
  tree = {
    f'conv{i}': _convolution(weights, f'{name}.conv{i}') for i in range(1, 6)
  }
  tree['sca'] = _convolution(weights, f'{name}.sca.1')
  for norm in ('norm1', 'norm2'):
    tree[norm] = {
      'scale': weights[f'{name}.{norm}.weight'],
      'bias': weights[f'{name}.{norm}.bias'],
    }
  for skip in ('beta', 'gamma'):
    tree[skip] = weights[f'{name}.{skip}'].reshape(-1)
  return tree


def _stack(trees: list) -> Any:
  if isinstance(trees[0], dict):
    return {key: _stack([tree[key] for tree in trees]) for key in trees[0]}
  return np.stack(trees)


def _unwrapped(loaded: Any) -> StateDict:
  """Returns the arrays under the names that training scripts save them by."""
  inside = next((loaded[key] for key in WRAPPERS if key in loaded), loaded)
  if not isinstance(inside, dict):
    raise TypeError('no dictionary of tensors')
  return _alone({k: v for k, v in inside.items() if isinstance(v, np.ndarray)})


def _alone(weights: StateDict) -> StateDict:
  """Names the weights of a parallel training as those of its network."""
  if not all(name.startswith(PARALLEL) for name in weights):
    return weights
  return {name.removeprefix(PARALLEL): v for name, v in weights.items()}


def _read_torch(path: pathlib.Path) -> Any:
  """Reads torch's zip format: one pickle, and one raw file a storage."""
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    pickled = next(name for name in names if name.endswith('/data.pkl'))
    folder = pickled.removesuffix('data.pkl')

    def storage(key: str, dtype: np.dtype) -> np.ndarray:
      return np.frombuffer(archive.read(f'{folder}data/{key}'), dtype)

    return _TensorsOnly(io.BytesIO(archive.read(pickled)), storage).load()


NOT_WEIGHTS = (
  safetensors.SafetensorError,
  zipfile.BadZipFile,
  pickle.UnpicklingError,
  StopIteration,
  EOFError,
  KeyError,
  TypeError,
  ValueError,
)
"""What reading another file as weights can end in."""

_DTYPES = {
  'FloatStorage': np.float32,
  'DoubleStorage': np.float64,
  'HalfStorage': np.float16,
  'BFloat16Storage': jnp.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
}


class _TensorsOnly(pickle.Unpickler):
  """Reads pickles of dictionaries of tensors; anything else might run code."""

  def __init__(
    self,
    stream: io.BytesIO,
    storage: Callable[[str, np.dtype], np.ndarray],
  ):
    super().__init__(stream)
    self._storage = storage

  def find_class(self, module: str, name: str) -> Any:
    """Returns what stands for one of torch's names in a pickle."""
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict  # it has room for torch's _metadata
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _tensor
    if (module, name) == ('torch._utils', '_rebuild_parameter'):
      return lambda data, *rest: data
    if module == 'torch' and name in _DTYPES:
      return np.dtype(_DTYPES[name])
    raise pickle.UnpicklingError(f'{module}.{name} is no array')

  def persistent_load(self, pid: tuple) -> np.ndarray:
    """Returns the storage that a pickle refers to."""
    _, dtype, key, _, _ = pid
    return self._storage(key, dtype)


def _tensor(
  storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *rest
) -> np.ndarray:
  """Cuts a tensor out of its storage, as torch's own function does."""
  del rest
  last = offset + sum(
    (side - 1) * stride for side, stride in zip(shape, strides, strict=True)
  )
  least = min(offset, *shape, *strides)
  if least < 0 or (min(shape, default=1) and last >= len(storage)):
    raise ValueError('a tensor reaches beyond its storage')
  view = np.lib.stride_tricks.as_strided(
    storage[offset:],
    shape,
    [stride * storage.itemsize for stride in strides],
    writeable=False,
  )
  return np.array(view)


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(
    'python -m deblur_jax.convert', description=__doc__.split('\n')[0]
  )
  parser.add_argument('file', type=pathlib.Path, help='.pth or .safetensors')
  parser.add_argument(
    '--workdir', type=pathlib.Path, required=True, help='folder that is made'
  )
  flags = parser.parse_args()
  convert(flags.file, flags.workdir)
  print(f'python -m deblur_jax.restore --workdir={flags.workdir} photo.jpg')


if __name__ == '__main__':
  cli.run(main)
