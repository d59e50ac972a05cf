"""Looks for what networks invent: shifted colours, spots, patterns.

python -m deblur_jax.glitches [--model=NAME | --workdir=DIR] [--output=DIR]
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_jax import cli, zoo
from deblur_jax.report import figures, tables
from deblur_jax.restorer import Restorer

HEIGHT, WIDTH = 192, 256
BLOCK = 8
SPIKE = 8.0
"""Grey levels: growth of a block's standard deviation that an eye sees."""
MOST_SHIFT = 2.0
"""Grey levels: mean change of a colour that an eye does not see."""


def flat(colour: tuple[int, int, int]) -> np.ndarray:
  """One colour; (33, 25, 23) made a well-known network draw mosaics."""
  return np.broadcast_to(np.uint8(colour), (HEIGHT, WIDTH, 3)).copy()


def gradient(first: tuple, last: tuple, axis: int) -> np.ndarray:
  """A slow change from one colour to another."""
  share = np.linspace(0, 1, (HEIGHT, WIDTH)[axis])
  share = share[:, None, None] if axis == 0 else share[None, :, None]
  colours = np.float64(first) + share * (np.float64(last) - first)
  whole = np.broadcast_to(colours, (HEIGHT, WIDTH, 3))
  return np.round(whole).astype(np.uint8)


def night() -> np.ndarray:
  """A dark scene with a few small bright lights and sensor noise."""
  rng = np.random.default_rng(0)
  scene = rng.normal(8, 3, (HEIGHT, WIDTH, 3))
  rows, columns = np.mgrid[:HEIGHT, :WIDTH]
  for _ in range(12):
    row, column = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
    distance = (rows - row) ** 2 + (columns - column) ** 2
    light = np.exp(-distance / 2 / rng.uniform(1.5, 4) ** 2)
    scene += 400 * light[..., None] * rng.uniform(0.5, 1, 3)
  return scene.clip(0, 255).astype(np.uint8)


def saturated() -> np.ndarray:
  """Patches of the purest colours side by side."""
  corners = np.array(np.meshgrid(*[[0, 255]] * 3)).reshape(3, -1).T
  patches = corners[:8].reshape(2, 4, 3)
  whole = patches.repeat(HEIGHT // 2, 0).repeat(WIDTH // 4, 1)
  return whole.astype(np.uint8)


def noise() -> np.ndarray:
  """Mid-grey under strong sensor noise."""
  values = np.random.default_rng(1).normal(128, 25, (HEIGHT, WIDTH, 3))
  return values.clip(0, 255).astype(np.uint8)


def text() -> np.ndarray:
  """Black letters on white."""
  image = Image.new('RGB', (WIDTH, HEIGHT), 'white')
  draw = ImageDraw.Draw(image)
  for i, size in enumerate((10, 14, 20, 28, 40)):
    font = ImageFont.load_default(size)
    draw.text((8, 6 + 34 * i), 'Sphinx of black quartz', 'black', font)
  return np.asarray(image)


PICTURES: Mapping[str, Callable[[], np.ndarray]] = {
  'dark_brown': lambda: flat((33, 25, 23)),
  'black': lambda: flat((0, 0, 0)),
  'white': lambda: flat((255, 255, 255)),
  'grey': lambda: flat((128, 128, 128)),
  'red': lambda: flat((200, 30, 30)),
  'sky': lambda: gradient((90, 140, 220), (200, 220, 245), 0),
  'ramp': lambda: gradient((0, 0, 0), (255, 255, 255), 1),
  'night': night,
  'saturated': saturated,
  'noise': noise,
  'text': text,
}


@dataclasses.dataclass(frozen=True)
class Found:
  """What a restored picture shows that its input did not.

  Attributes:
    picture: its name.
    shift: of the mean colour, of the channel that moved most; grey levels.
    spikes: blocks of 8x8 pixels whose standard deviation grew by more than
      `SPIKE` though the input had nothing there to sharpen.
  """

  picture: str
  shift: float
  spikes: int

  @property
  def clean(self) -> bool:
    """Whether an eye would see nothing of it."""
    return self.shift <= MOST_SHIFT and not self.spikes


def examine(name: str, given: np.ndarray, restored: np.ndarray) -> Found:
  """Compares u8[H,W,3] before and after."""
  before, after = given.astype(np.float64), restored.astype(np.float64)
  shift = np.abs(after.mean((0, 1)) - before.mean((0, 1))).max()
  spreads = [blocks(side).std((1, 2)).max(-1) for side in (before, after)]
  calm = spreads[0] < SPIKE
  spikes = calm & (spreads[1] - spreads[0] > SPIKE)
  return Found(name, float(shift), int(spikes.sum()))


def blocks(image: np.ndarray) -> np.ndarray:
  """Cuts [H,W,C] into [N,8,8,C]."""
  h, w = (side // BLOCK for side in image.shape[:2])
  cut = image[: h * BLOCK, : w * BLOCK].reshape(h, BLOCK, w, BLOCK, -1)
  return cut.swapaxes(1, 2).reshape(h * w, BLOCK, BLOCK, -1)


def search(
  restorer: Callable[[np.ndarray, str], np.ndarray],
  output: pathlib.Path | None = None,
) -> list[Found]:
  """Restores all pictures of the suite, and writes pairs to a folder."""
  found = []
  for name, make in PICTURES.items():
    given = make()
    restored = restorer(given, name)
    found.append(examine(name, given, restored))
    if output is not None:
      pair = np.concatenate([given, restored], 1)
      figures.save(pair, output / f'{name}.png')
  return found


def table(found: list[Found]) -> str:
  """Returns what was found as Markdown."""
  header = ['picture', 'colour shift', 'spikes', '']
  rows = [
    [
      one.picture,
      f'{one.shift:.2f}',
      str(one.spikes),
      'clean' if one.clean else 'look at it',
    ]
    for one in found
  ]
  return tables.markdown(header, rows)


def main() -> None:
  """The command; see the module docstring."""
  parser = cli.Parser(
    prog='python -m deblur_jax.glitches', description=__doc__.split('\n')[0]
  )
  add = parser.add_argument
  zoo.add_flags(parser)
  add('--output', type=pathlib.Path, help='folder for before and after')
  flags = parser.parse_args()
  restorer = Restorer.load(zoo.chosen(flags))
  print(table(search(restorer, flags.output)))
  print(
    f'\ncolour shift: of the mean, in grey levels (clean: up to {MOST_SHIFT:g})'
    f'\nspikes: calm blocks of {BLOCK}x{BLOCK} pixels that got rough by more '
    f'than {SPIKE:g} grey levels'
  )


if __name__ == '__main__':
  cli.run(main)
