"""The oracle gains where it is told the truth."""

import jax
import numpy as np
import pytest
from skimage import data

from deblur_jax.ops import blur, classical, scores
from deblur_jax.ops.psf import BlurRanges

KINDS = {
  'gaussian': {'sigma': (1.5, 2.0)},
  'motion': {'length': (11.0, 15.0)},
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('method', classical.METHODS)
def test_the_true_psf_gains(kind, method):
  ranges = BlurRanges(kinds=(kind,), noise=(0.005, 0.005), **KINDS[kind])
  sharp = data.astronaut()[100:196, 190:300]
  made, drawn = jax.jit(lambda s, k: blur.degrade(s, k, ranges))(
    np.float32(sharp[None] / 255), jax.random.split(jax.random.key(0), 1)
  )
  picture = np.round(np.asarray(made[0]) * 255).astype(np.uint8)
  psf = np.asarray(drawn['psf'][0])
  restore = classical.METHODS[method]
  before = scores.psnr(picture, sharp)
  told = scores.psnr(restore(picture, psf, 0.005), sharp)
  mirrored = restore(picture, psf[::-1, ::-1].T, 0.005)
  assert told > before + 0.5
  if kind == 'motion':
    assert told > scores.psnr(mirrored, sharp) + 1


@pytest.mark.parametrize('method', classical.METHODS)
def test_nothing_to_undo_leaves_the_picture(method):
  psf = np.zeros((5, 5), np.float32)
  psf[2, 2] = 1
  sharp = data.coffee()[100:150, 100:160]
  restored = classical.METHODS[method](sharp, psf, 0.0)
  assert restored.shape == sharp.shape and restored.dtype == np.uint8
  assert scores.psnr(restored, sharp) > 35
