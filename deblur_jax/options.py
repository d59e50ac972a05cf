"""The command line of `main`: its flags, and the config with its changes."""

import itertools
import pathlib
import re

from absl import flags
from ml_collections import config_flags

from deblur_jax.types import InputError

HELP = {
  'config': 'a file, or FILE:small for two CPU cores; --config.key=value',
  'workdir': 'where the run is kept; default: runs/FILE[_small]',
  'init_from': 'a workdir whose weights a new run starts from',
  'distributed': 'this is one of several processes; see launch/',
  'dry_run': 'compile the step and say what it needs; train nothing',
  'devices': 'of a dry run: how many; 0 for those of this machine',
}


def config_path(spec: str) -> pathlib.Path:
  """Returns the file of 'FILE.py' or 'FILE.py:ARGUMENT'.

  Raises:
    InputError: there is no such file.
  """
  path = pathlib.Path(spec.partition(':')[0])
  if path.suffix != '.py' or not path.is_file():
    raise InputError(f'{path}: no such config file; see configs/')
  return path


def key_reason(error: AttributeError | KeyError) -> str:
  """Returns in one line what a config says of a key, less all that it holds."""
  inner = error.args[0]  # of a config's AttributeError: a KeyError
  told = inner if isinstance(inner, str) else inner.args[0]
  folded = ' '.join(told.split())
  return re.sub(r' and cannot be added .*"(?= Did you mean|$)', '.', folded)


def parse(argv: list[str]) -> flags.FlagValues:
  """Parses the command line.

  Raises:
    InputError: no such config file, an unknown flag or config key, or a value
      that does not fit.
  """
  for given, following in itertools.pairwise([*argv, '']):
    name, equals, value = given.partition('=')
    if name in ('--config', '-config') and (equals or following):
      config_path(value if equals else following)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', None, HELP['config'], flag_values=values, sys_argv=argv
  )
  for name in ('workdir', 'init_from'):
    flags.DEFINE_string(name, '', HELP[name], flag_values=values)
  for name in ('distributed', 'dry_run'):
    flags.DEFINE_bool(name, False, HELP[name], flag_values=values)
  flags.DEFINE_integer('devices', 0, HELP['devices'], flag_values=values)
  flags.DEFINE_bool('help', False, 'show this', flag_values=values)
  try:
    _, *others = values(argv)
    if others:
      raise InputError(f'{others[0]}: flags begin with --')
    if values.config is not None:
      values.config.lock()  # fails where the file could not be loaded
  except (AttributeError, KeyError) as error:
    raise InputError(f'no such config key: {key_reason(error)}') from None
  except (flags.Error, OSError, TypeError, ValueError) as error:
    told = str(error)
    if 'Traceback' in told:  # of a config file, which absl puts in its message
      told = told.strip().splitlines()[-1]
    raise InputError(' '.join(told.split())) from None
  return values
