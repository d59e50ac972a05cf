"""Every config key with its default; loading, saving and comparing configs."""

import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from deblur_jax import files, options
from deblur_jax.types import InputError

FILE = 'config.json'
PACKAGES = ('deblur-jax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')


def base_config() -> ConfigDict:
  """Returns the defaults; files in configs/ change what they need."""
  config = ConfigDict()
  config.family = 'cnn'  # deblur_jax/families/NAME.py
  config.steps = 200_000  # training steps
  config.seed = 0
  config.dtype = 'float32'  # compute dtype; parameters stay float32
  config.accumulate = 1  # parts of a batch that go through one by one
  config.parallel = 'jit'  # pmap: the older way, for one process
  config.remat = False  # recompute blocks for the gradient: less memory
  config.mesh = ConfigDict()  # devices along each axis; -1 = the rest
  config.mesh.data = -1  # each its own examples, and a copy of the state
  config.mesh.fsdp = 1  # each its own examples, and a share of the state
  config.loss = 'charbonnier'  # of pixels: charbonnier, psnr, l1 or mse
  config.data = _data()
  config.model = _model()
  config.predictor = _model()  # diffusion, refine: makes the first pass
  config.process = _process()
  config.sampler = _sampler()
  config.discriminator = _discriminator()
  config.gan = _gan()
  config.optim = _optim()
  config.discriminator_optim = _optim()  # gan: the discriminator's own
  config.discriminator_optim.learning_rate = 1e-4
  config.discriminator_optim.b1 = 0.5
  config.discriminator_optim.b2 = 0.999
  config.discriminator_optim.weight_decay = 0.0

  config.ema = ConfigDict()
  config.ema.decay = 0.0  # average of the weights; 0 = off

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 2_000
  config.checkpoint.every_minutes = 15.0  # as well; 0 = never
  config.checkpoint.keep = 2  # newest ones kept

  config.eval = ConfigDict()
  config.eval.every_steps = 2_000  # validation during training
  config.eval.seed = 0  # of test blur and sampling: one for all models
  config.eval.images = 32  # validation pictures used during training
  config.eval.megapixels = 1.0  # pictures of one shape restored together
  config.eval.blurs = 1  # synthetic blurs per test photograph

  config.log = ConfigDict()
  config.log.every_steps = 50
  return _without_new_keys(config)


def _without_new_keys(config: ConfigDict) -> ConfigDict:
  """Has misspelt keys refused, in config files too.

  Only a network of one's own, models/NAME.py, may bring fields: `model.NAME`.
  """
  config.lock()
  for networks in (config.model, config.predictor):
    networks.unlock()
    for fields in networks.values():
      if isinstance(fields, ConfigDict):
        fields.lock()
  return config


def _data() -> ConfigDict:
  data = ConfigDict()
  data.name = 'photos'  # deblur_jax/data/builders/NAME.py
  data.manual_dir = ''  # where the files are; '' = $DEBLUR_DATA, ~/deblur_data
  data.subset = ''  # part of a collection, by the builder's names
  data.pairs = 'synthetic'  # blur the sharp ones; real: as found; or mixed
  data.skip_bad = False  # go on without unreadable files, naming them
  data.crop = 256  # px, side of a training crop
  data.batch_size = 32  # over all devices and processes
  data.plain_probability = 0.0  # plain pictures instead; see ops/plain.py
  data.blur = ConfigDict()  # of synthetic pairs; see ops/blur.py
  data.blur.kinds = ('gaussian',)  # gaussian, defocus, motion, linear
  data.blur.sharp = 0.0  # share of the images left unblurred
  data.blur.sigma = (0.5, 5.0)  # px, Gaussian
  data.blur.anisotropy = 1.0  # smallest minor/major ratio; 1 = round only
  data.blur.radius = (1.0, 10.0)  # px, defocus
  data.blur.length = (5.0, 41.0)  # px, extent of camera paths and lines
  data.blur.noise = (0.0, 0.02)  # share of full scale
  data.blur.highlights = (0.25, 1.75)  # excess of clipped ones, linear light
  data.blur.highlight_probability = 0.0
  data.blur.jpeg = (60.0, 95.0)  # quality
  data.blur.jpeg_probability = 0.0
  data.blur.frame_probability = 0.0  # paths of a few frames of a video
  data.blur.local_probability = 0.0  # only a part of the picture is blurred
  data.blur.level_probability = 0.0  # sRGB levels are averaged, not light
  data.blur.bend_probability = 0.0  # what moves on a video turns and nears, too
  data.blur.mild = 1.0  # above 1, more of mild blur and low noise
  return data


def _model() -> ConfigDict:
  model = ConfigDict()
  model.name = 'nafnet'  # deblur_jax/models/NAME.py
  model.nafnet = ConfigDict()
  model.nafnet.width = 32
  model.nafnet.encoder = (1, 1, 1, 28)  # blocks per level
  model.nafnet.middle = 1
  model.nafnet.decoder = (1, 1, 1, 1)
  model.nafnet.upsampling = 'shuffle'  # shuffle (published) or resize
  model.nafnet.halved = False  # all levels at half size: a quarter of the work
  model.unet = ConfigDict()
  model.unet.channels = 32  # of the first level
  model.unet.multipliers = (1, 2, 3, 4)  # of the channels, per level
  model.unet.blocks = 3  # per level, down and up alike
  model.unet.attention = ()  # levels with self-attention, from 0
  model.unet.halved = False  # all levels at half size: a quarter of the work
  model.rrdb = ConfigDict()
  model.rrdb.channels = 64
  model.rrdb.growth = 32  # channels that a convolution adds
  model.rrdb.blocks = 16
  model.rrdb.levels = 2  # halvings of the size before the blocks
  model.encoder_decoder = ConfigDict()
  model.encoder_decoder.channels = (64, 128, 256, 128, 64)
  return model


def _process() -> ConfigDict:
  process = ConfigDict()
  process.name = 'refine'  # diffusion: refine, indi or ddpm
  process.schedule = 'cosine'  # of refine and ddpm: cosine or linear
  process.prediction = 'x0'  # of refine and ddpm: x0, v or eps
  process.gamma = 5.0  # refine and ddpm: upper bound of the loss weight
  process.scale = 8.0  # refine: enlarges residuals to about unit variance
  process.predictor_weight = 10.0  # refine: of L1(first pass, sharp)
  process.joint = True  # refine: the predictor learns too; False: it stays
  process.noise = 0.01  # indi: on the blurred picture, share of full scale
  return process


def _sampler() -> ConfigDict:
  sampler = ConfigDict()
  sampler.name = 'ddim'  # of refine and ddpm: ddpm, ddim or dpm_solver
  sampler.nfe = 8  # evaluations for one sample; 0: the predictor's first pass
  sampler.spacing = 1.0  # of refine and ddpm: more than 1, more at low noise
  sampler.eta = 0.0  # of ddim: share of the noise that is renewed; 1 is ddpm
  sampler.start = 'noise'  # what the first evaluation sees; or its mean
  sampler.samples = 1  # averaged: more give back PSNR and take detail
  sampler.temperature = 1.0  # factor of all noise
  return sampler


def _discriminator() -> ConfigDict:
  discriminator = ConfigDict()
  discriminator.channels = 64  # of the first layer
  discriminator.layers = (3, 5)  # halvings of each scale's column
  discriminator.groups = 0  # of the group norm; 0 = no norm
  return discriminator


def _gan() -> ConfigDict:
  gan = ConfigDict()
  gan.loss = 'ragan_ls'  # hinge, lsgan or ragan_ls
  gan.pixel_weight = 0.5  # of config.loss
  gan.perceptual = 'vgg16'  # vgg16 or matching (discriminator's features)
  gan.perceptual_weight = 0.006
  gan.weights = ''  # folder with vgg16.ckpt; '' = of the extra `perceptual`
  gan.adversarial_weight = 0.01
  gan.warmup_steps = 0  # at first, pixels alone
  gan.critic_steps = 1  # discriminator updates for each generator update
  gan.r1 = 0.0  # weight of the gradient penalty on real pictures; 0 = off
  gan.r1_every = 16  # steps from one penalty to the next
  return gan


def _optim() -> ConfigDict:
  optim = ConfigDict()
  optim.name = 'adamw'  # or muon; b1, b2: of what is no matrix there
  optim.learning_rate = 1e-3  # peak
  optim.final_learning_rate = 1e-7  # end of the cosine
  optim.warmup_steps = 0
  optim.b1 = 0.9
  optim.b2 = 0.9
  optim.weight_decay = 1e-3
  optim.clip = 1.0  # global norm of the gradient; 0 = off
  return optim


def load_file(spec: str) -> ConfigDict:
  """Reads 'configs/FILE.py' or 'configs/FILE.py:ARGUMENT', locked.

  Raises:
    InputError: there is no such file, it refuses the argument, or it sets a key
      that no config has.
  """
  path, argument = options.config_path(spec), spec.partition(':')[2]
  module_spec = importlib.util.spec_from_file_location('config_file', path)
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  try:
    config = module.get_config(argument) if argument else module.get_config()
  except (AttributeError, KeyError) as error:
    raise InputError(f'{path}: {options.key_reason(error)}') from error
  except TypeError as error:
    raise InputError(f'{path}: {error}') from error
  return config.lock()


def is_spec(text: str) -> bool:
  """Returns whether a text means a config file, and no folder."""
  return text.partition(':')[0].endswith('.py')


def default_workdir(spec: str) -> pathlib.Path:
  """Returns runs/F_D or runs/F_D_ARGUMENT for configs/F_D.py[:ARGUMENT]."""
  return pathlib.Path('runs') / short_name(spec).replace(':', '_')


def short_name(spec: str) -> str:
  """Returns F_D or F_D:ARGUMENT for configs/F_D.py[:ARGUMENT]."""
  path, _, argument = spec.partition(':')
  name = pathlib.Path(path).stem
  return f'{name}:{argument}' if argument else name


def is_small(argument: str) -> bool:
  """Returns whether a config file's argument asks for the small form.

  Raises:
    InputError: the argument is neither '' nor 'small'.
  """
  if argument not in ('', 'small'):
    raise InputError(f'config argument {argument!r}: use :small or none')
  return argument == 'small'


def save(
  config: ConfigDict,
  workdir: pathlib.Path,
  name: str,
  history: Sequence[Mapping[str, Any]] = (),
) -> None:
  """Writes workdir/config.json: name, config, package versions, git commit.

  Args:
    config: all settings.
    workdir: that they are of.
    name: what reports call the config.
    history: earlier trainings of the weights that the run starts from.
  """
  record = {
    'name': name,
    'config': json.loads(config.to_json()),
    'versions': {
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in PACKAGES},
    },
    'git_commit': _git_commit(),
    'history': list(history),
  }
  target = workdir / FILE
  files.write_text(target, json.dumps(record, indent=2) + '\n')


def load(workdir: pathlib.Path) -> ConfigDict:
  """Reads the config that a workdir was made with, over today's defaults.

  Raises:
    InputError: the workdir is missing, or holds no readable config.json.
  """
  path = workdir / FILE
  if not path.is_file():
    hint = 'train it first: python -m deblur_jax.main --config=... --workdir='
    raise InputError(f'{workdir}: not a workdir (no {FILE}); {hint}{workdir}')
  try:
    stored = json.loads(path.read_text())['config']
    config = base_config()
    config.update(_tuples(stored))
  except (ValueError, KeyError, TypeError) as error:
    raise InputError(f'{path}: cannot be read as a config ({error})') from None
  return config.lock()


def load_record(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns all that `save` wrote."""
  return json.loads((workdir / FILE).read_text())


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
  """Returns 'key: old -> new' for every key that differs."""
  before, after = flatten(old), flatten(new)
  keys = sorted(before.keys() | after.keys())
  return [
    f'{key}: {before.get(key)} -> {after.get(key)}'
    for key in keys
    if before.get(key) != after.get(key)
  ]


def flatten(config: ConfigDict) -> dict[str, Any]:
  """Returns {'data.crop': 64, ...}: one entry a leaf, sequences as lists."""
  flat = {}
  for key, value in json.loads(config.to_json()).items():
    _flatten_into(flat, key, value)
  return flat


def _flatten_into(flat: dict[str, Any], key: str, value: Any) -> None:
  if not isinstance(value, dict):
    flat[key] = value
    return
  for name, child in value.items():
    _flatten_into(flat, f'{key}.{name}', child)


def _tuples(value: Any) -> Any:
  """JSON has lists only; configs hold tuples, which modules can hash."""
  if isinstance(value, dict):
    return {key: _tuples(child) for key, child in value.items()}
  if isinstance(value, list):
    return tuple(_tuples(child) for child in value)
  return value


def _git_commit() -> str:
  """The commit of the code that runs, marked -dirty where files differ from it.

  '' outside a checkout of this project: another repository may hold the
  environment that the package is installed in.
  """
  here = pathlib.Path(__file__)

  def git(*command: str) -> str:
    done = subprocess.run(
      ['git', *command],
      cwd=here.parent,
      capture_output=True,
      text=True,
      check=True,
    )
    return done.stdout.strip()

  try:
    git('ls-files', '--error-unmatch', here.name)
    return git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
  except (OSError, subprocess.CalledProcessError):
    return ''
