"""Pictures with nothing in them to sharpen, made of others' colours.

Photographs hardly ever are perfectly even, and seldom shapes with soft shading
alone; what a network has not seen it fills with texture, or takes for blur.
Such pictures tell it to leave them as they are.
"""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.types import Array, Key

_CELLS = (  # cells along a side, and how they are enlarged
  (1, 'nearest'),  # one colour
  (2, 'linear'),  # slow changes
  (3, 'nearest'),  # patches with hard edges
)
_MOST_CONTRAST = (16.0, 16.0, 256.0)
"""Up to which the colours of each move away from mid-grey.

Most patches are black, white and pure: beside those, lines are drawn first.
"""
_SHAPED = 0.5  # of the plain pictures
_SHAPES = 6  # laid over each other
_EDGE = 1.2  # px over which a shape covers what is below
_SHADING = 0.6  # most of it, as a share of the colour: standard deviation
_SHADOW = 0.8  # most of the light that a shape's shadow takes


def simplify(image: Array, key: Key, probability: float) -> Array:
  """Puts plain pictures in the place of some.

  Half of them are shapes with hard edges, laid over each other as dead leaves
  (Lee, Mumford and Huang 2001), each of one of the picture's colours under soft
  shading, and some with a soft shadow. The others are one colour, a slow change
  of colours or patches of colours with hard edges, each as often: the picture's
  own at a size of a few pixels, with more contrast, so that black, white and
  pure colours occur as well, shifted around its borders, so that edges lie
  anywhere.

  Args:
    image: f32[B,H,W,3] in [0,1].
    key: key[B].
    probability: of each image, to be replaced.

  Returns:
    f32[B,H,W,3] in [0,1].
  """
  return jax.vmap(functools.partial(_simplify, probability=probability))(
    image, key
  )


def _simplify(image, key, probability):
  """As `simplify`, for one image f32[H,W,3] and its key."""
  which, cells, shapes = jax.random.split(key, 3)
  numbers = jax.random.uniform(which, (2,))
  shaped, chosen = numbers[0] < _SHAPED, numbers[1] < probability
  plain = jnp.where(shaped, _shapes(image, shapes), _of_cells(image, cells))
  return jnp.where(chosen, jnp.clip(plain, 0, 1), image)


def _of_cells(image, key):
  """Few of the image's colours, f32[H,W,3], with contrast added."""
  numbers = jax.random.uniform(key, (4,))
  forms = jnp.stack([_cells(image, *form) for form in _CELLS])
  form = jnp.int32(numbers[0] * len(_CELLS))
  plain, contrast = forms[form], jnp.array(_MOST_CONTRAST)[form]
  shift = jnp.int32(numbers[2:] * jnp.array(image.shape[:2]))
  plain = jnp.roll(plain, shift, axis=(0, 1))
  return 0.5 + (plain - 0.5) * contrast ** numbers[1]


def _cells(image, count, method):
  """The image, f32[H,W,3], as `count` times `count` cells of mean colours."""
  cells = jax.image.resize(image, (count, count, image.shape[-1]), 'linear')
  return jax.image.resize(cells, image.shape, method)


def _shapes(image, key):
  """Shaded shapes of the image's colours, f32[H,W,3], one over the other."""
  keys = jax.random.split(key, _SHAPES + 1)

  def lay(below, own):
    return _lay(below, image, own), None

  return jax.lax.scan(lay, _shaded(image, keys[0]), keys[1:])[0]


def _lay(picture, image, key):
  """Lays one shape, and perhaps its shadow, over a picture f32[H,W,3]."""
  draw, outline, fill = jax.random.split(key, 3)
  numbers = jax.random.uniform(draw, (8,))
  height, width = picture.shape[:2]
  rows, columns = jnp.indices((height, width))
  y, x = rows - numbers[0] * height, columns - numbers[1] * width
  angle, narrow = jnp.pi * numbers[2], 0.4 + 0.6 * numbers[3]
  along = x * jnp.cos(angle) + y * jnp.sin(angle)
  aside = y * jnp.cos(angle) - x * jnp.sin(angle)
  radius = (0.1 + 0.6 * numbers[4]) * min(height, width)
  wobble = 0.1 * radius * _slow(outline, height, width)
  # About the distance from the outline: negative inside.
  distance = (jnp.hypot(along, aside / narrow) - radius + wobble)[..., None]
  depth = _SHADOW * jnp.maximum(2 * numbers[5] - 1, 0)
  soft, reach = 1 + 7 * numbers[6], 12 * numbers[7]
  shadow = 1 - depth * jax.nn.sigmoid((reach - distance) / soft)
  cover = jnp.clip(0.5 - distance / _EDGE, 0, 1)
  return cover * _shaded(image, fill) + (1 - cover) * shadow * picture


def _shaded(image, key):
  """One colour of the image, shaded and made lighter or darker: f32[H,W,3]."""
  place, draw, light = jax.random.split(key, 3)
  height, width = image.shape[:2]
  at = jnp.int32(jax.random.uniform(place, (2,)) * jnp.array([height, width]))
  amount, gain = jax.random.uniform(draw, (2,))
  shading = 1 + _SHADING * amount * _slow(light, height, width)
  return shading[..., None] * ((0.3 + gain) * image[at[0], at[1]])[None, None]


def _slow(key, height, width):
  """Slow changes of about unit variance: f32[H,W]."""
  return jax.image.resize(
    jax.random.normal(key, (4, 4)), (height, width), 'cubic'
  )
