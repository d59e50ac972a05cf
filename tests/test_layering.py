"""Imports point one way: read from the sources, not from a diagram."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[1] / 'deblur_jax'

RANKS = (
  ('glitches',),
  ('main', 'compare', 'restore'),
  ('dry_run', 'jobs', 'restorer'),
  ('runner',),
  ('evaluate', 'train'),
  ('judge',),
  ('contenders', 'warm_start', 'zoo'),
  ('trained',),
  ('report', 'imaging', 'convert'),
  ('families',),
  ('train_lib', 'data'),
  ('models', 'ops', 'presets', 'ranges'),
  ('config',),
  ('cli',),
  ('devices', 'files', 'heap', 'keys', 'options'),
  ('types',),
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
ONLY = {
  'train_lib': {'config', 'devices', 'files', 'keys', 'train_lib', 'types'},
  'models': {'types', 'models'},
  'ops': {'devices', 'keys', 'ops', 'types'},
  'families': {'families', 'keys', 'models', 'ops', 'types'},
}
LIBRARIES = {
  'orbax': {'train_lib/checkpoint.py'},
  'tensorflow_datasets': {'data'},
  'grain': {'data'},
  'optax': {'train_lib'},
}


def imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def room_of(path):
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def sources():
  return [p for p in PACKAGE.rglob('*.py') if p.parent != PACKAGE] + [
    p for p in PACKAGE.glob('*.py') if p.name != '__init__.py'
  ]


def test_every_room_has_a_rank():
  assert {room_of(path) for path in sources()} == set(RANK)


def test_imports_point_one_way():
  for path in sources():
    room = room_of(path)
    for name in imports(path):
      parts = name.split('.')
      if parts[0] != 'deblur_jax' or len(parts) == 1:
        continue
      used = parts[1]
      assert RANK[used] >= RANK[room], f'{path} imports {name}'
      if room in ONLY:
        assert used in ONLY[room], f'{path} imports {name}'


def test_libraries_stay_in_their_rooms():
  for path in sources():
    inside = path.relative_to(PACKAGE).as_posix()
    for name in imports(path):
      allowed = LIBRARIES.get(name.split('.')[0])
      assert allowed is None or any(inside.startswith(a) for a in allowed), (
        f'{inside} imports {name}'
      )


def test_data_never_uses_jax():
  # The contact sheet is a command that shows what the device will do.
  for path in set((PACKAGE / 'data').rglob('*.py')) - {
    PACKAGE / 'data' / 'sheet.py'
  }:
    assert not [n for n in imports(path) if n.split('.')[0] == 'jax'], path


HOST_READS = {'float', 'item', 'asarray', 'device_get'}


def test_training_reads_from_devices_in_one_place():
  outside = [PACKAGE / 'train.py', PACKAGE / 'warm_start.py']
  for path in [*outside, *(PACKAGE / 'train_lib').rglob('*.py')]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    allowed = {
      inner
      for node in nodes
      if isinstance(node, ast.FunctionDef) and node.name == 'to_host'
      for inner in ast.walk(node)
    }
    for node in set(nodes) - allowed:
      if isinstance(node, ast.Call):
        name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        assert name not in HOST_READS, f'{path}:{node.lineno}'


def test_no_file_is_long():
  for path in [*sources(), *pathlib.Path(__file__).parent.glob('*.py')]:
    assert len(path.read_text().splitlines()) <= 400, path
