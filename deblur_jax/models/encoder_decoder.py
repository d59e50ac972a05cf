"""The plain convolutional network that every result is compared with."""

import flax.linen as nn
import jax.numpy as jnp

from deblur_jax.models import layers
from deblur_jax.types import Array


class EncoderDecoder(nn.Module):
  """Restores blur f32[B,H,W,3] in [0,1] by 3x3 convolutions alone.

  Attributes:
    channels: of the hidden layers, each followed by a ReLU.
    dtype: of the computation; parameters and the result are float32.
  """

  channels: tuple[int, ...] = (64, 128, 256, 128, 64)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, blur: Array) -> Array:
    """Returns the restored picture f32[B,H,W,3] in (0,1)."""
    x = blur.astype(self.dtype)
    for i, features in enumerate((*self.channels, 3)):
      shape = 3, 3, x.shape[-1], features
      init = nn.initializers.lecun_normal()
      weights = layers.Weights(shape, init=init, name=f'Conv_{i}')()
      x = layers.conv3x3(nn.relu(x) if i else x, *weights)
    return nn.sigmoid(x.astype(jnp.float32))


Model = EncoderDecoder
"""What config.model.name = 'encoder_decoder' builds."""
