"""GAN for all kinds of blur at once: NAFNet against a judge of patches.

python -m deblur_jax.main --config=configs/gan_universal.py
  one GPU of 48 GB, or of 24 GB with --config.accumulate=2.
  Its loss needs VGG16, of the extra `perceptual`; without that, the
  discriminator's features take its place.
python -m deblur_jax.main --config=configs/gan_universal.py:small \
  --init_from=DIR
  the model in the box, `--model=gan`; one CPU core for 55 minutes at
  --config.steps=1200 --config.data.plain_probability=0.35
  --config.data.blur.sharp=0.25. DIR is a workdir of cnn_universal.py:small, or
  deblur_jax/zoo/cnn, of which the model in the box holds a fifth
  (docs/training.md).

The data are folders of one's own: see deblur_jax/data/builders/mixture.py.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.gan(presets.universal(small), small)
