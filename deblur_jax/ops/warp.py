"""Videos of what does not only shift: it turns, comes near and bends.

A PSF is the same all over a picture, and so cannot tell of a head that turns.
Here every pixel of a frame has a shift of its own.
"""

import jax
import jax.numpy as jnp
from jax.scipy import ndimage

from deblur_jax.types import Array, Key

_BEND = 1.5  # most change of a shift's parts over half a side, of the shift


def mean_of_frames(
  scene: Array, path: Array, frames: Array, place: Array, key: Key
) -> Array:
  """Averages a video's frames, which are one scene under smooth warps.

  A frame's shifts are a linear map of its step along the path, and the map
  changes over the picture as a random affine function: turning, nearing and
  shearing are among them. Neither part of a shift is longer than the step.

  Args:
    scene: f32[H,W,C], the middle frame. Beyond its border it goes on as its
      edge pixels.
    path: f32[N,2], (x, y) of each frame from the middle one, px.
    frames: f32[], how many of them there are, 1 to N; others are left out.
    place: f32[h,w,1] in [0,1], the share of the shift that each pixel of the
      central h times w ones takes.
    key: one PRNG key.

  Returns:
    f32[h,w,C].
  """
  maps = place[..., None] * _maps(key, place.shape[:2])
  maps /= jnp.maximum(jnp.linalg.norm(maps, axis=-1).max(), 1)
  weights = (jnp.arange(len(path)) < frames) / frames

  def add(total, frame):
    step, weight = frame
    shifts = jnp.matmul(maps, step, precision='highest')
    return total + weight * shifted(scene, shifts), None

  # Of what is given: spread over devices as that is.
  zeros = 0 * place * scene[:1, :1]
  return jax.lax.scan(add, zeros, (path, weights))[0]


def shifted(image: Array, shifts: Array) -> Array:
  """Looks up where pixels have come from, between pixels by bilinear weights.

  Args:
    image: f32[H,W,C].
    shifts: f32[h,w,2], (x, y) in px of the central h times w pixels.

  Returns:
    f32[h,w,C].
  """
  height, width = shifts.shape[:2]
  top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
  rows, columns = jnp.mgrid[:height, :width]
  places = rows + top - shifts[..., 1], columns + left - shifts[..., 0]

  def look_up(channel):
    return ndimage.map_coordinates(channel, places, order=1, mode='nearest')

  return jax.vmap(look_up, -1, -1)(image)


def _maps(key, sides):
  """Linear maps of 2-vectors, the identity somewhere, f32[h,w,2,2]."""
  numbers = jax.random.uniform(key, (10,))
  lines = [
    2 * ((jnp.arange(side) + 0.5) / side - middle)
    for side, middle in zip(sides, numbers, strict=False)
  ]
  places = jnp.stack(jnp.meshgrid(*lines, indexing='ij'))
  slopes = _BEND * (2 * numbers[2:] - 1).reshape(2, 2, 2)
  return jnp.eye(2)[None, None] + jnp.tensordot(
    places, slopes, [0, 0], precision='highest'
  )
