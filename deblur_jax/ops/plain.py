"""Pictures with nothing in them to sharpen, made of others' colours.

Photographs hardly ever are perfectly even, and what a network has not seen it
fills with texture. Areas such as these tell it to leave them as they are.
"""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.types import Array, Key

_FORMS = (  # cells along a side, and how they are enlarged
  (1, 'nearest'),  # one colour
  (2, 'linear'),  # slow changes
  (3, 'nearest'),  # patches with hard edges
)
_MOST_CONTRAST = 16.0  # up to which colours move away from mid-grey, and clip


def simplify(image: Array, key: Key, probability: float) -> Array:
  """Puts plain areas in the place of some pictures.

  Such a picture is one colour, a slow change of colours or patches of colours
  with hard edges, each as often: the picture's own at a size of a few pixels,
  with more contrast, so that black, white and pure colours occur as well. It is
  shifted around its borders, so that edges lie anywhere.

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
  numbers = jax.random.uniform(key, (5,))
  forms = jnp.stack([_of_cells(image, *form) for form in _FORMS])
  plain = forms[jnp.int32(numbers[1] * len(_FORMS))]
  shift = jnp.int32(numbers[3:] * jnp.array(image.shape[:2]))
  plain = jnp.roll(plain, shift, axis=(0, 1))
  plain = 0.5 + (plain - 0.5) * _MOST_CONTRAST ** numbers[2]
  return jnp.where(numbers[0] < probability, jnp.clip(plain, 0, 1), image)


def _of_cells(image, count, method):
  """The image, f32[H,W,3], as `count` times `count` cells of mean colours."""
  cells = jax.image.resize(image, (count, count, image.shape[-1]), 'linear')
  return jax.image.resize(cells, image.shape, method)
