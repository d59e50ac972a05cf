"""Which numbers of a config make sense: others are named before training."""

from ml_collections import ConfigDict

from deblur_jax import config as config_lib
from deblur_jax.ops.psf import BlurRanges
from deblur_jax.types import InputError

_NETWORKS = {
  'nafnet.width': 1,
  'nafnet.encoder': 0,
  'nafnet.middle': 0,
  'nafnet.decoder': 0,
  'unet.channels': 1,
  'unet.multipliers': 1,
  'unet.blocks': 0,
  'rrdb.channels': 1,
  'rrdb.growth': 1,
  'rrdb.blocks': 0,
  'rrdb.levels': 0,
  'encoder_decoder.channels': 1,
}
_OPTIMS = 'optim', 'discriminator_optim'
_LEAST = {
  'steps': 1,
  'seed': 0,
  'data.crop': 11,  # a window of SSIM
  'checkpoint.every_steps': 0,
  'checkpoint.keep': 1,
  'eval.every_steps': 0,
  'eval.images': 1,
  'eval.blurs': 1,
  'log.every_steps': 1,
  'sampler.nfe': 0,
  'sampler.spacing': 1,
  'sampler.samples': 1,
  'sampler.temperature': 0,
  'process.gamma': 1,
  'discriminator.channels': 1,
  'discriminator.layers': 0,
  'discriminator.groups': 0,
  'gan.critic_steps': 1,
  'gan.r1': 0,
  'gan.r1_every': 1,
  'gan.warmup_steps': 0,
  **{
    f'{optim}.{key}': 0
    for optim in _OPTIMS
    for key in (
      'learning_rate',
      'final_learning_rate',
      'warmup_steps',
      'weight_decay',
      'clip',
    )
  },
  **{
    f'{net}.{key}': least
    for net in ('model', 'predictor')
    for key, least in _NETWORKS.items()
  },
}
"""Of numbers, and of each in a tuple."""
_RANGES = {
  'ema.decay': '[0,1)',
  'sampler.eta': '[0,1]',
  **{f'{optim}.{key}': '[0,1)' for optim in _OPTIMS for key in ('b1', 'b2')},
}
_MAY_BE_EMPTY = ('nafnet.encoder', 'nafnet.decoder')  # a network of one level


def check(config: ConfigDict) -> None:
  """Raises InputError where a number makes no sense in a training."""
  check_numbers(config)
  if config.process.scale <= 0:
    raise InputError(
      f'config.process.scale={config.process.scale}: use more than 0'
    )
  if config.family == 'gan' and config.gan.warmup_steps >= config.steps:
    raise InputError(
      f'config.gan.warmup_steps={config.gan.warmup_steps}: no step is left for '
      f'the discriminator; use fewer than config.steps={config.steps}'
    )


def check_numbers(config: ConfigDict, group: str = '') -> None:
  """Raises InputError where a number is out of its range, or a tuple empty.

  Args:
    config: all settings.
    group: of the keys that are looked at, with its dot; '' for all.
  """
  flat = config_lib.flatten(config)
  for key, least in _LEAST.items():
    value, words = flat[key], f'use {least} or more'
    numbers = [value]
    if isinstance(value, list):
      numbers, value = value, tuple(value)
      words = f'use one number or more, each {least} or more'
    empty = not numbers and not key.endswith(_MAY_BE_EMPTY)
    if key.startswith(group) and (empty or any(n < least for n in numbers)):
      raise InputError(f'config.{key}={value}: {words}')
  for key, words in _RANGES.items():
    value = flat[key]
    inside = 0 <= value < 1 or (value == 1 and words.endswith(']'))
    if key.startswith(group) and not inside:
      raise InputError(f'config.{key}={value}: use one in {words}')


def blur_ranges(config: ConfigDict) -> BlurRanges:
  """Returns the synthetic blur of `config.data.blur`.

  Raises:
    InputError: an unknown kind, or a range that is none.
  """
  try:
    return BlurRanges(**config.data.blur)
  except ValueError as error:
    raise InputError(f'config.data.{error}') from None
