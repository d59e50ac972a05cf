"""Synthetic blur on the device: a camera in miniature, one PSF an image.

As in a camera, light is blurred while it is linear, becomes noisy, clips, and
is encoded to sRGB, to 8 bits, and perhaps to JPEG.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.ops import warp
from deblur_jax.ops.psf import BlurRanges, between, sample_psf, skewed
from deblur_jax.types import Array, Key

_LOCAL_VIDEO = 0.5  # share of videos in which only a part moves
_FADE = 0.01, 1.0  # of a disc's squared radius, from its edge inwards
_CLIPPED = 254.5 / 255  # the top level says only 'full scale or more'

# JPEG: the DCT (ITU-T T.81, A.3.3), quantisation steps (T.81, K.1) and YCbCr
# (T.871).
_DCT = 0.5 * np.cos(np.pi / 16 * np.outer(range(8), range(1, 17, 2)))
_DCT[0] /= math.sqrt(2)
_DCT = _DCT.astype(np.float32)
_TO_YCC = np.array(
  [
    [0.299, 0.587, 0.114],
    [-0.168736, -0.331264, 0.5],
    [0.5, -0.418688, -0.081312],
  ],
  np.float32,
)
_FROM_YCC = np.linalg.inv(_TO_YCC)
_LEVEL_SHIFT = np.array([[[128, 0, 0]]], np.float32)
_LUMA = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [
  [17, 18, 24, 47],
  [18, 21, 26, 66],
  [24, 26, 56, 99],
  [47, 66, 99, 99],
]
_STEPS = np.stack([_LUMA, _CHROMA, _CHROMA], axis=-1)

_einsum = functools.partial(jnp.einsum, precision='highest')


def degrade(
  sharp: Array, key: Key, ranges: BlurRanges, crop: int = 0
) -> tuple[Array, dict[str, Array]]:
  """Makes the blurred picture of each sharp one.

  Each result depends on its own image and key alone, not on batch-mates.

  Args:
    sharp: f32[B,H,W,3] in [0,1], sRGB.
    key: key[B].
    ranges: what to draw from.
    crop: the central square that is returned; 0 for all.

  Returns:
    blur f32[B,H,W,3] in [0,1], multiples of 1/255, and what was drawn: `kind`
    i32[B], `strength`, `angle`, `frames` f32[B] and `psf` f32[B,K,K] of
    sample_psf, and f32[B] `noise`, `highlights` and `jpeg` in the units of
    BlurRanges, 0 where there is none. Whether blur is local or of levels is not
    told.
  """
  one = functools.partial(_degrade, ranges=ranges, crop=crop)
  return jax.vmap(one)(sharp, key)


def centre(image: Array, side: int) -> Array:
  """Cuts the central square out of f32[...,H,W,C]; 0 leaves all."""
  if not side:
    return image
  top, left = ((length - side) // 2 for length in image.shape[-3:-1])
  return image[..., top : top + side, left : left + side, :]


def convolve(image: Array, psf: Array) -> Array:
  """Convolves images f32[...,H,W,C] with PSFs f32[...,K,K], K odd, by FFT.

  Beyond its border an image goes on as its reflection, edge pixels repeated
  (mode 'reflect' of scipy.ndimage, 'symmetric' of NumPy), as often as needed.
  """
  size, (height, width) = psf.shape[-1], image.shape[-3:-1]
  border = (size // 2, size // 2)
  padding = [(0, 0)] * (image.ndim - 3) + [border, border, (0, 0)]
  padded = jnp.moveaxis(jnp.pad(image, padding, mode='symmetric'), -1, -3)
  shape = (fast_size(height + size - 1), fast_size(width + size - 1))
  response = jnp.fft.rfft2(psf, shape)[..., None, :, :]
  result = jnp.fft.irfft2(jnp.fft.rfft2(padded, shape) * response, shape)
  # The FFT wraps around: what it wraps falls into the first K-1 rows, columns.
  result = result[..., size - 1 :, size - 1 :][..., :height, :width]
  return jnp.moveaxis(result, -3, -1)


def fast_size(size: int) -> int:
  """Returns the next even product of 2, 3 and 5, which FFTs like best."""
  size += size % 2
  while 30**20 % size:
    size += 2
  return size


def to_linear(image: Array) -> Array:
  """Decodes sRGB in [0,1] to linear light in [0,1] (IEC 61966-2-1)."""
  power = ((image + 0.055) / 1.055) ** 2.4
  return jnp.where(image <= 0.04045, image / 12.92, power)


def to_srgb(light: Array) -> Array:
  """Encodes linear light in [0,1] to sRGB in [0,1] (IEC 61966-2-1)."""
  power = 1.055 * jnp.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
  return jnp.where(light <= 0.0031308, 12.92 * light, power)


def noise_deviation(light: Array, noise: Array) -> Array:
  """Returns the standard deviation of shot and read noise of linear light.

  Shot noise has a variance proportional to the light (Foi et al. 2008,
  "Practical Poissonian-Gaussian noise modeling and fitting"), and sRGB turns
  it nearly even: the standard deviation after encoding is `noise` at mid-grey,
  0.9 of it at white and, with the read noise, up to 1.9 of it in the shadows.

  Args:
    light: in [0,1], of any shape.
    noise: as of BlurRanges.
  """
  return noise * jnp.sqrt(4 * jnp.maximum(light, 0) + 0.01)


def jpeg(image: Array, quality: Array) -> Array:
  """Encodes and decodes a picture as a JPEG file without chroma subsampling.

  Args:
    image: f32[H,W,3] in [0,1], sRGB.
    quality: f32[], 1-100, as in libjpeg.

  Returns:
    f32[H,W,3], about in [0,1]: not clipped.
  """
  height, width, _ = image.shape
  padding = ((0, -height % 8), (0, -width % 8), (0, 0))
  padded = jnp.pad(image, padding, mode='symmetric')
  # Encoders and decoders hold YCbCr in 8 bits.
  ycc = jnp.round(_einsum('hwc,dc->hwd', 255 * padded, _TO_YCC)) - _LEVEL_SHIFT
  blocks = ycc.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, 3)
  steps = _quantisation(quality)[None, :, None]
  levels = jnp.round(_einsum('ik,jl,akblc->aibjc', _DCT, _DCT, blocks) / steps)
  blocks = _einsum('ki,lj,akblc->aibjc', _DCT, _DCT, levels * steps)
  ycc = jnp.clip(jnp.round(blocks), -128, 127).reshape(padded.shape)
  decoded = _einsum('hwc,dc->hwd', ycc + _LEVEL_SHIFT, _FROM_YCC) / 255
  return decoded[:height, :width]


def _degrade(sharp, key, ranges, crop):
  """As `degrade`, for one image f32[H,W,3] and its key."""
  psf_key, number_key, noise_key, light_key = jax.random.split(key, 4)
  psf, drawn = sample_psf(psf_key, ranges)
  numbers = jax.random.uniform(number_key, (3,))
  noise = between(skewed(numbers[0], ranges), ranges.noise)
  noise /= jnp.sqrt(jnp.maximum(drawn['frames'], 1))
  excess = _sometimes(
    numbers[1], ranges.highlights, ranges.highlight_probability
  )
  quality = jnp.round(
    _sometimes(numbers[2], ranges.jpeg, ranges.jpeg_probability)
  )
  video = drawn['frames'], drawn.pop('path')
  light = _blurred(sharp, psf, video, excess, light_key, ranges, crop)
  blur = to_srgb(_expose(noise_key, light, noise))
  if ranges.jpeg_probability:
    blur = jnp.where(quality > 0, jpeg(blur, jnp.maximum(quality, 1)), blur)
  # A blurred photograph is an 8-bit file: nothing may hide between two levels.
  blur = jnp.round(255 * jnp.clip(blur, 0, 1)) / 255
  drawn |= {'noise': noise, 'highlights': excess, 'jpeg': quality, 'psf': psf}
  return blur, drawn


def _sometimes(number, bounds, probability):
  """A value within bounds, with some probability; otherwise 0."""
  # A uniform number that is known to lie below p is uniform on [0,p).
  value = between(number / max(probability, 1e-9), bounds)
  return jnp.where(number < probability, value, 0.0)


def _blurred(sharp, psf, video, excess, key, ranges, crop):
  """The light that reaches the central square of the sensor."""
  levels_key, place_key, warp_key = jax.random.split(key, 3)
  frames, path = video
  averaged = frames > 0
  scene = _scene(sharp, excess)
  of_levels = averaged | jax.random.bernoulli(
    levels_key, ranges.level_probability
  )
  may_be_levels = ranges.level_probability or ranges.frame_probability
  if may_be_levels:
    scene = jnp.where(of_levels, sharp, scene)
  if ranges.local_probability or ranges.frame_probability:
    local = jnp.where(averaged, _LOCAL_VIDEO, ranges.local_probability)
    place = _place(place_key, sharp.shape[:2], local)
    light = _moved(scene, psf, place)
  else:
    light = convolve(scene, psf)
  light = centre(light, crop)
  if ranges.frame_probability and ranges.bend_probability:
    bend_key, map_key = jax.random.split(warp_key)
    bends = averaged & jax.random.bernoulli(bend_key, ranges.bend_probability)
    place = centre(place, crop)
    bent = warp.mean_of_frames(
      scene, path, jnp.maximum(frames, 1), place, map_key
    )
    light = jnp.where(bends, bent, light)
  if may_be_levels:
    decoded = to_linear(jnp.clip(light, 0, 1))
    light = jnp.where(of_levels, decoded, light)
  return light


def _moved(scene, psf, place):
  """Blurs what lies in `place` f32[H,W,1], over what stays as it is.

  The share of the time that the moving part covers a pixel is its mask under
  the same blur (Dai & Wu 2008, "Motion from blur").
  """
  moved = convolve(jnp.concatenate([scene * place, place], axis=-1), psf)
  light, cover = moved[..., :-1], moved[..., -1:]
  return light + (1 - cover) * scene


def _place(key, sides, probability):
  """Where a picture is blurred, f32[H,W,1]: everywhere, or in or off a disc.

  The disc is an ellipse of half-axes of 0.15 to 0.5 of the sides. From its edge
  inwards it fades in: a head turns on a neck that rests.
  """
  numbers = jax.random.uniform(key, (7,))
  rows, columns = (
    ((jnp.arange(side) + 0.5) / side - centre) / between(axis, (0.15, 0.5))
    for side, centre, axis in zip(sides, numbers, numbers[2:], strict=False)
  )
  inside = 1 - rows[:, None] ** 2 - columns[None] ** 2
  disc = jnp.clip(inside / between(numbers[6], _FADE), 0, 1)
  local = numbers[4] < probability
  chosen = jnp.where(numbers[5] < 0.5, disc, 1 - disc)
  return jnp.where(local, chosen, 1.0)[..., None]


def _scene(sharp, excess):
  """Linear light in front of the camera, where highlights are not clipped yet.

  Rim et al. (2022, "Realistic blur synthesis for learning image deblurring")
  find that saturated pixels brighter than full scale matter on real blur. Only
  pure white counts: one clipped channel, made brighter, would tint its trace.
  """
  white = (sharp >= _CLIPPED).all(axis=-1, keepdims=True)
  return to_linear(sharp) + excess * white


def _expose(key, light, noise):
  """What the sensor reads: shot and read noise, clipped to [0,1]."""
  # Drawn flat: in three dimensions the generator compiles four times as long.
  grain = jax.random.normal(key, (light.size,)).reshape(light.shape)
  return jnp.clip(light + noise_deviation(light, noise) * grain, 0, 1)


def _quantisation(quality):
  """Quantisation steps at a quality, as libjpeg scales them, f32[8,8,3]."""
  percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
  return jnp.clip(jnp.floor((_STEPS * percent + 50) / 100), 1, 255)
