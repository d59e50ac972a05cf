"""Diffusion for all kinds of blur at once: what a first pass missed is drawn.

python -m deblur_jax.main --config=configs/diffusion_universal.py
  one GPU of 40 GB with --config.accumulate=4, or eight without.
python -m deblur_jax.main --config=configs/diffusion_universal.py:small \
  --init_from=DIR
  the model in the box, `--model=diffusion`; two CPU cores for 40 minutes at
  --config.steps=4800, then on in the parts that docs/training.md tells. Its
  predictor is a CNN, and stays so; its denoiser starts as that CNN with fewer
  blocks.
  DIR is a workdir of cnn_universal.py:small, or deblur_jax/zoo/cnn. The
  denoiser in the box began as an older CNN; to go on from zoo/diffusion, add
  --config.model.nafnet.encoder='(1,2,5)'
  --config.model.nafnet.decoder='(1,1,1)'.

The data are folders of one's own: see deblur_jax/data/builders/mixture.py.
"""

from deblur_jax import presets
from deblur_jax.config import is_small


def get_config(argument=''):
  small = is_small(argument)
  return presets.diffusion(presets.universal(small), small)
