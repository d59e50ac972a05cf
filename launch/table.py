"""Writes the table of launch/README.md: what each plain config needs.

python launch/table.py [--configs=A,B] [--devices=1,8,256]
"""

import argparse
import concurrent.futures
import multiprocessing
import pathlib

import tqdm

from deblur_jax import config as config_lib
from deblur_jax import dry_run
from deblur_jax.train_lib import collectives

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / 'launch' / 'README.md'
BEGIN, END = '<!-- table: begin -->', '<!-- table: end -->'
HARDWARE = {1: '1 GPU', 8: '8 GPUs', 256: 'TPU v5e-256'}
HEAD = (
  'config',
  'hardware',
  'global batch',
  'mesh (data x fsdp)',
  'parameters',
  'GiB on a device',
  'GFLOPs on a device',
  'MiB all-reduced',
)
MIB = 2**20


def row(spec: str, devices: int) -> list[str]:
  """Returns one line of the table; to be called once a process."""
  dry_run.use_virtual_devices(devices)
  config = config_lib.load_file(spec)
  # Beyond the config's own batch, each device still needs an example.
  with config.unlocked():
    config.data.batch_size = max(config.data.batch_size, devices)
  found = dry_run.estimate(config)
  sent = collectives.total_bytes(found.collectives)
  return [
    pathlib.Path(spec).stem,
    HARDWARE.get(devices, f'{devices} devices'),
    str(found.batch_size),
    ' x '.join(map(str, found.devices)),
    f'{sum(found.parameters.values()) / 1e6:.1f} M',
    f'{found.bytes / dry_run.GIB:.1f}',
    f'{found.flops / devices / 1e9:.0f}',
    f'{sum(sent.values()) / MIB:.0f}',
  ]


def table(specs: list[str], devices: list[int]) -> str:
  """Returns the Markdown of the whole table."""
  # JAX counts its devices once a process.
  pool = concurrent.futures.ProcessPoolExecutor(
    max_workers=2,
    mp_context=multiprocessing.get_context('spawn'),
    max_tasks_per_child=1,
  )
  jobs = [(spec, count) for spec in specs for count in devices]
  with pool:
    rows = list(
      tqdm.tqdm(pool.map(row, *zip(*jobs, strict=True)), total=len(jobs))
    )
  lines = [HEAD, ['---'] * len(HEAD), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main() -> None:
  """The command; see the module docstring."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  plain = sorted(str(path) for path in (ROOT / 'configs').glob('*.py'))
  parser.add_argument('--configs', default=','.join(plain))
  parser.add_argument('--devices', default='1,8,256')
  flags = parser.parse_args()
  counts = [int(count) for count in flags.devices.split(',')]
  made = table(flags.configs.split(','), counts)
  before, _, rest = README.read_text().partition(BEGIN)
  _, _, after = rest.partition(END)
  README.write_text(f'{before}{BEGIN}\n{made}\n{END}{after}')


if __name__ == '__main__':
  main()
