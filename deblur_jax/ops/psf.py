"""Point spread functions (PSFs) drawn at random on the device, one an image.

Every PSF is f32[K,K] with K odd and the same for all kinds, so that a batch
mixes them freely; it sums to 1 and its centroid lies on the centre pixel, but
for a video's frames: there the middle one does.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.types import Array, Key

KINDS = ('sharp', 'gaussian', 'defocus', 'motion', 'linear')
"""Kinds of blur; `parameters['kind']` is an index into this tuple."""

Range = tuple[float, float]

_LEAST = {
  'sigma': 0.1,
  'radius': 0.1,
  'length': 0.1,
  'noise': 0,
  'highlights': 0,
  'jpeg': 1,
}
_LEAST_MILD = 0.1
_FRACTIONS = (
  'sharp',
  'anisotropy',
  'highlight_probability',
  'jpeg_probability',
  'frame_probability',
  'local_probability',
  'level_probability',
  'bend_probability',
)

_GAUSSIAN_REACH = 4.0  # in sigmas: 6e-5 of the light lies beyond
_FINEST_SIGMA = 0.5  # px: samples of a narrower Gaussian alias
_FINE = 3  # sub-pixels along a pixel's side; odd, so that one is at the centre
_PATH_REACH = 0.75  # of a path's length, from its centroid: see _motion
_POINTS = 12  # on a path, per px of length: the camera may move fast
_FRAMES = 2.0, 10.0  # of a video, averaged: 2 to 9
_FRAME_STEP = 8.0  # px from one frame to the next, on average at most
_NUMBERS = 11  # that any PSF takes, drawn at once: every draw compiles slowly


@dataclasses.dataclass(frozen=True)
class BlurRanges:
  """What to draw from; each pair is (low, high) of a uniform distribution.

  `mild` alone bends those of strength (sigma, radius, length) and noise.

  Attributes:
    kinds: drawn with equal chances; 'gaussian', 'defocus' (round or polygonal
      aperture), 'motion' (camera path), 'linear' (uniform straight motion).
    sharp: probability that an image is left unblurred instead.
    sigma: standard deviation of Gaussians along their long axis, px.
    anisotropy: smallest ratio of short to long axis; 1 draws round Gaussians.
    radius: (circumscribed) radius of the defocused aperture, px.
    length: largest distance between two points of the motion, px.
    noise: standard deviation at mid-grey as a fraction of full scale.
    highlights: excess of clipped highlights over full scale, in linear light.
    highlight_probability: how often clipped highlights exceed full scale.
    jpeg: JPEG quality, 1-100.
    jpeg_probability: how often the blurred picture is a JPEG.
    frame_probability: how often a camera path is that of 2 to 9 frames of a
      video, whose mean is the blurred picture and the middle one the sharp. The
      noise is that of the mean, sRGB levels are averaged, and half of the time
      only a part of the picture moves.
    local_probability: how often only a part of the picture is blurred: a
      subject that moves, or all but what is in focus.
    level_probability: how often sRGB levels are averaged in place of light, as
      in data sets that are made of video frames.
    bend_probability: how often what moves on a video also turns, comes near
      and bends; see `warp.mean_of_frames`.
    mild: above 1, more of mild blur and low noise: the power to which the
      numbers in [0,1) that they are made of are raised.
  """

  kinds: tuple[str, ...] = ('gaussian',)
  sharp: float = 0.0
  sigma: Range = (0.5, 5.0)
  anisotropy: float = 1.0
  radius: Range = (1.0, 10.0)
  length: Range = (5.0, 41.0)
  noise: Range = (0.0, 0.02)
  highlights: Range = (0.25, 1.75)
  highlight_probability: float = 0.0
  jpeg: Range = (60.0, 95.0)
  jpeg_probability: float = 0.0
  frame_probability: float = 0.0
  local_probability: float = 0.0
  level_probability: float = 0.0
  bend_probability: float = 0.0
  mild: float = 1.0

  def __post_init__(self):
    unknown = sorted(set(self.kinds) - set(KINDS))
    if unknown or not self.kinds:
      raise ValueError(f'blur.kinds: {unknown or "empty"}; choose from {KINDS}')
    for name, least in _LEAST.items():
      bounds = getattr(self, name)
      if np.shape(bounds) != (2,):
        raise ValueError(f'blur.{name}: not (low, high): {bounds}')
      low, high = bounds
      if not least <= low <= high:
        raise ValueError(f'blur.{name}: not {least} <= {low} <= {high}')
    for name in _FRACTIONS:
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'blur.{name}: not in [0,1]: {getattr(self, name)}')
    if self.mild < _LEAST_MILD:
      raise ValueError(f'blur.mild: below {_LEAST_MILD}: {self.mild}')


def between(number: Array, bounds: Range) -> Array:
  """Takes a number in [0,1) to its place between (low, high)."""
  low, high = bounds
  return low + (high - low) * number


def skewed(number: Array, ranges: BlurRanges) -> Array:
  """Takes a number in [0,1) to where `ranges.mild` wants it."""
  # A power of 1 is left out, as it may round.
  return number if ranges.mild == 1 else number**ranges.mild


def psf_size(ranges: BlurRanges) -> int:
  """Returns K: the odd side that holds every PSF drawn from `ranges`."""
  return max(_size(kind, ranges) for kind in ranges.kinds)


def sample_psf(key: Key, ranges: BlurRanges) -> tuple[Array, dict[str, Array]]:
  """Draws one PSF.

  Args:
    key: one PRNG key.
    ranges: what to draw from.

  Returns:
    psf f32[K,K], K = psf_size(ranges), and its parameters: `kind` i32[], index
    into KINDS; `strength` f32[], the sigma, radius or length in px; `angle`
    f32[], radians from x (columns) towards y (rows), `frames` f32[], of a
    video: 0 where there is none, and `path` f32[9,2], (x, y) in px of each
    frame from the middle one.
  """
  number_key, path_key = jax.random.split(key)
  numbers = jax.random.uniform(number_key, (_NUMBERS,))
  numbers = numbers.at[1].set(skewed(numbers[1], ranges))
  names = ('sharp', *ranges.kinds)
  shares = [(1 - ranges.sharp) / len(ranges.kinds)] * (len(names) - 1)
  starts = np.cumsum([ranges.sharp, *shares], dtype=np.float32)[:-1]
  chosen = (numbers[0] >= starts).sum(dtype=jnp.int32)
  # Every kind is computed and one is kept: under vmap a branch would cost the
  # same. So all may use the same random numbers.
  draws = [_draw(name, numbers[1:], path_key, ranges) for name in names]
  psf, strength, angle = (
    jax.lax.select_n(chosen, *cases) for cases in zip(*draws, strict=True)
  )
  kind = jnp.array([KINDS.index(name) for name in names], jnp.int32)[chosen]
  moves = kind == KINDS.index('motion')
  frames = jnp.where(moves, _frames(numbers[1:], ranges), 0.0)
  path, _ = _motion(numbers[1:], path_key, ranges)
  # Amidst the points of each frame: at their ends, rounding may be wrong.
  middles = (jnp.arange(int(_FRAMES[1]) - 1) + 0.5) / jnp.maximum(frames, 1)
  return psf, {
    'kind': kind,
    'strength': strength,
    'angle': angle,
    'frames': frames,
    'path': path[(middles * len(path)).astype(jnp.int32)],
  }


def _size(kind, ranges):
  """Odd side that holds every PSF of one kind."""
  reach = {
    'sharp': 0.0,
    'gaussian': _GAUSSIAN_REACH * ranges.sigma[1],
    'defocus': ranges.radius[1],
    'motion': _PATH_REACH * ranges.length[1],
    'linear': 0.5 * ranges.length[1],
  }
  return 2 * math.ceil(reach[kind]) + 1


def _draw(kind, numbers, key, ranges):
  """Makes (psf f32[K,K], strength f32[], angle f32[]) of one kind."""
  size = _size(kind, ranges)
  psf, strength, angle = _DRAW[kind](numbers, key, ranges, size)
  psf = jnp.pad(psf / psf.sum(), (psf_size(ranges) - size) // 2)
  return psf, strength, angle


def _draw_sharp(numbers, key, ranges, size):
  return jnp.ones((size, size)), jnp.zeros(()), jnp.zeros(())


def _draw_gaussian(numbers, key, ranges, size):
  sigma = between(numbers[0], ranges.sigma)
  ratio = between(numbers[1], (ranges.anisotropy, 1.0))
  angle = math.pi * numbers[2]
  short = jnp.maximum(ratio * sigma, jnp.minimum(sigma, _FINEST_SIGMA))
  x, y = _grid(size)
  along = (x * jnp.cos(angle) + y * jnp.sin(angle)) / sigma
  across = (y * jnp.cos(angle) - x * jnp.sin(angle)) / short
  return jnp.exp(-0.5 * (along**2 + across**2)), sigma, angle


def _draw_defocus(numbers, key, ranges, size):
  """A lens aperture: a disk, or half of the time a polygon of 5-8 blades."""
  radius = between(numbers[0], ranges.radius)
  polygonal = numbers[1] < 0.5
  blade = 2 * math.pi / jnp.floor(between(numbers[2], (5.0, 9.0)))
  angle = jnp.where(polygonal, blade * numbers[3], 0.0)
  x, y = _grid(size, _FINE)
  distance = jnp.hypot(x, y)
  # Seen within the sector of its own blade, that blade's edge is a straight
  # line at the apothem.
  sector = jnp.mod(jnp.arctan2(y, x) - angle, blade) - blade / 2
  polygon = radius * jnp.cos(blade / 2) - distance * jnp.cos(sector)
  inside = jnp.where(polygonal, polygon, radius - distance)
  coverage = jnp.clip(_FINE * inside + 0.5, 0.0, 1.0)
  psf = coverage.reshape(size, _FINE, size, _FINE).sum((1, 3))
  return psf, radius, angle


def _draw_motion(numbers, key, ranges, size):
  path, length = _motion(numbers, key, ranges)
  return _rasterise(path, size), length, jnp.zeros(())


def _motion(numbers, key, ranges):
  """A path f32[N,2] in px, the same time at each point, and its length."""
  length = between(numbers[0], ranges.length)
  path = _camera_path(numbers[1:], key, _points(ranges))
  middle = path.mean(axis=0, keepdims=True)
  if ranges.frame_probability:
    frames = _frames(numbers, ranges)
    seen = _at_moments(path, frames)
    path = jnp.where(frames > 0, seen, path)
    middle = jnp.where(frames > 0, seen[len(seen) // 2][None], middle)
    farthest = jnp.where(frames > 0, _FRAME_STEP * (frames - 1), jnp.inf)
    length = jnp.minimum(length, farthest)
  path -= middle
  path /= _diameter(path)
  # One path in a hundred rests so long at one end that the other would lie
  # outside: it is made shorter.
  most = _size('motion', ranges) // 2
  length = jnp.minimum(length, most / jnp.abs(path).max())
  return length * path, length


def _draw_linear(numbers, key, ranges, size):
  length = between(numbers[0], ranges.length)
  angle = math.pi * numbers[1]
  along = length * jnp.linspace(-0.5, 0.5, _points(ranges))
  path = jnp.stack([along * jnp.cos(angle), along * jnp.sin(angle)], axis=-1)
  return _rasterise(path, size), length, angle


_DRAW = {
  'sharp': _draw_sharp,
  'gaussian': _draw_gaussian,
  'defocus': _draw_defocus,
  'motion': _draw_motion,
  'linear': _draw_linear,
}


def _grid(size, fine=1):
  """Places (x, y) of sub-pixels, px from the middle, f32[fine*K,fine*K]."""
  line = (jnp.arange(fine * size) - (fine * size - 1) / 2) / fine
  return jnp.meshgrid(line, line)


def _points(ranges):
  return math.ceil(_POINTS * ranges.length[1])


def _camera_path(numbers, key, count):
  """A hand-held camera's path over one exposure, f32[count,2], without unit.

  The hand is a damped spring, with inertia and a pull to the centre. A push
  starts it; tremor and sudden shakes drive it on: the ingredients of Boracchi
  and Foi (2012, "Modeling the performance of image restoration from motion
  blur"), as a linear system, whose impulse response needs no loop over time.
  """
  damping = between(numbers[0], (0.5, 5.0))
  pull = between(numbers[1], (1.0, 9.0))
  tremor = numbers[2] / math.sqrt(count)
  time = jnp.arange(count) / count
  response = jnp.exp(-damping * time) * jnp.sin(pull * time)
  # Four shakes, each as likely to come after the shutter has closed.
  shakes = jnp.floor(2 * count * numbers[3:7])
  sudden = (jnp.arange(count)[:, None] == shakes[None]).any(axis=1)
  push = jnp.where(sudden | (time == 0), 1.0, tremor)
  # Drawn flat: in two dimensions the generator compiles twice as long.
  push = push[:, None] * jax.random.normal(key, (2 * count,)).reshape(count, 2)
  spectrum = jnp.fft.rfft(push, 2 * count, axis=0)
  spectrum *= jnp.fft.rfft(response, 2 * count)[:, None]
  return jnp.fft.irfft(spectrum, 2 * count, axis=0)[:count]


def _frames(numbers, ranges):
  """Of how many frames a path is seen, f32[]; 0 for all of it."""
  video = numbers[8] < ranges.frame_probability
  return jnp.where(video, jnp.floor(between(numbers[9], _FRAMES)), 0.0)


def _at_moments(path, frames):
  """Leaves of a path f32[N,2] so many places, each for as long."""
  count = len(path)
  frame = jnp.floor(jnp.arange(count) / count * frames)
  return path[jnp.round(frame / (frames - 1) * (count - 1)).astype(jnp.int32)]


def _diameter(path):
  """Largest distance between two points of a path, within 0.5 %, f32[]."""
  angles = np.arange(16) * math.pi / 16
  directions = np.stack([np.cos(angles), np.sin(angles)], dtype=np.float32)
  seen = jnp.matmul(path, directions, precision='highest')
  return (seen.max(axis=0) - seen.min(axis=0)).max()


def _rasterise(path, size):
  """Spreads each point of f32[N,2] over its four pixels, f32[K,K].

  Bilinear shares keep the centroid; as a product of two thin matrices they
  need no scatter.
  """
  line = jnp.arange(size) - size // 2
  shares = jax.nn.relu(1 - jnp.abs(path[..., None] - line[None, None]))
  x, y = shares[:, 0], shares[:, 1]
  return jnp.einsum('nx,ny->yx', x, y, precision='highest')
