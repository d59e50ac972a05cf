"""Diffusion conditioned on the blurred picture, in three kinds.

`config.process.name` is one of

  refine  a predictor makes a first pass; the process draws what it missed
          (Whang et al. 2022, 'Deblurring via Stochastic Refinement')
  ddpm    the process draws the whole picture (Saharia et al. 2022, 'Palette')
  indi    the blurred picture turns sharp step by step, without a schedule
          (Delbracio & Milanfar 2023, 'Inversion by Direct Iteration')
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from deblur_jax import keys as keys_lib
from deblur_jax.families import choose
from deblur_jax.models import build
from deblur_jax.ops import diffusion, losses, metrics
from deblur_jax.types import (
  Array,
  Batch,
  Family,
  InputError,
  Key,
  Metrics,
  Params,
)

START, ON_THE_WAY = 0, 1
"""Folded into a picture's key: for the first state, and for later noise."""


@dataclasses.dataclass(frozen=True)
class Process:
  """One kind of diffusion. Pictures are f32[B,H,W,3], times f32[B,1,1,1].

  Attributes:
    init: (key, blur) -> params.
    first: (params, blur) -> what is known before the process begins.
    clean: (sharp, first) -> what the process is to find, x0.
    sharp: (clean, first) -> the picture; the inverse of `clean`.
    state: (clean, blur, noise, time) -> the state at a time.
    estimate: (params, state, time, blur, first) -> estimate of x0.
    weight: (time) -> weight of the estimate's squared error.
    steps: the sampler.
    first_weight: of L1(first, sharp) in the loss; 0 where no network makes it.
  """

  init: Callable[[Key, Array], Params]
  first: Callable[[Params, Array], Array]
  clean: Callable[[Array, Array], Array]
  sharp: Callable[[Array, Array], Array]
  state: Callable[[Array, Array, Array, Array], Array]
  estimate: Callable[[Params, Array, Array, Array, Array], Array]
  weight: Callable[[Array], Array]
  steps: diffusion.Steps
  first_weight: float = 0.0


def make(config: ConfigDict) -> Family:
  """Makes the family of `config.process`, `config.sampler` and the networks.

  Raises:
    InputError: an unknown name, or no evaluation where there is no first pass.
  """
  if not config.sampler.nfe and config.process.name != 'refine':
    raise InputError(
      f'config.sampler.nfe=0: process.name={config.process.name} has no first '
      'pass; use 1 or more'
    )
  make_process = choose('process.name', config, PROCESSES)
  view = choose('sampler.start', config, diffusion.STARTS)
  training, sampling = (make_process(config, whole) for whole in (False, True))
  samples, temperature = config.sampler.samples, config.sampler.temperature

  def init(key: Key, batch: Batch) -> Params:
    return {'net': training.init(key, batch['blur'])}

  def loss(
    params: Params, batch: Batch, key: Key, step: Array
  ) -> tuple[Array, Metrics]:
    del step
    return loss_of(training, params['net'], batch, key)

  def restore(params: Params, blur: Array, key: Key, origin: Array) -> Array:
    first = sampling.first(params['net'], blur)
    if not config.sampler.nfe:
      return first.clip(0, 1)

    def noise(keys: Key) -> Array:
      return temperature * diffusion.noise_field(keys, origin, blur.shape[1:])

    def add(total: Array, number: Array) -> tuple[Array, None]:
      keys = keys_lib.fold_all(key, number)
      sharp = draw(sampling, params['net'], blur, first, keys, noise, view)
      return total + sharp / samples, None

    return jax.lax.scan(add, jnp.zeros_like(blur), jnp.arange(samples))[0]

  return Family(
    init=init,
    losses={'net': loss},
    schedule=('net',),
    restore=restore,
    ema=('net',) if config.ema.decay else (),
    draws=True,
  )


def loss_of(
  process: Process, params: Params, batch: Batch, key: Key
) -> tuple[Array, Metrics]:
  """Squared error of x0 at a random time of each example.

  Args:
    process: the kind of diffusion.
    params: of its networks.
    batch: blur and sharp.
    key: key[B].

  Returns:
    The loss and, under `psnr`, the quality of the estimates at those times.
  """
  blur, sharp = batch['blur'], batch['sharp']
  time = jax.vmap(jax.random.uniform)(keys_lib.fold_all(key, START))
  time = time[:, None, None, None]
  noise = jax.vmap(lambda k: jax.random.normal(k, sharp.shape[1:]))(
    keys_lib.fold_all(key, ON_THE_WAY)
  )
  first = process.first(params, blur)
  clean = process.clean(sharp, first)
  state = process.state(clean, blur, noise, time)
  estimate = process.estimate(params, state, time, blur, first)
  value = jnp.mean(process.weight(time) * (estimate - clean) ** 2)
  restored = process.sharp(estimate, first).clip(0, 1)
  scores = {'psnr': metrics.psnr(restored, sharp).mean()}
  if process.first_weight:
    value += process.first_weight * losses.l1(first, sharp).mean()
    scores['first_psnr'] = metrics.psnr(first.clip(0, 1), sharp).mean()
  return value, scores


def draw(
  process: Process,
  params: Params,
  blur: Array,
  first: Array,
  key: Key,
  noise: Callable[[Key], Array],
  view: Callable[[Array], Array],
) -> Array:
  """Returns one sample of the sharp picture f32[B,H,W,3] in [0,1].

  Args:
    process: the kind of diffusion.
    params: of its networks.
    blur: what is to be restored.
    first: what is known of it.
    key: key[B].
    noise: (key[B]) -> normal noise like `blur`.
    view: (noise at the start) -> what the first evaluation sees of it.
  """

  def estimate(state: Array, time: Array) -> Array:
    times = jnp.full((len(blur), 1, 1, 1), time)
    clean = process.estimate(params, state, times, blur, first)
    # No estimate leaves the range of pictures: errors would grow on the way.
    return process.clean(process.sharp(clean, first).clip(0, 1), first)

  def begin(noise: Array) -> Array:
    one = jnp.ones((len(blur), 1, 1, 1))
    return process.state(jnp.zeros_like(blur), blur, noise, one)

  start = noise(keys_lib.fold_all(key, START))
  later = keys_lib.fold_all(key, ON_THE_WAY)
  clean = diffusion.sample(
    estimate,
    process.steps,
    begin(start),
    begin(view(start)),
    lambda n: noise(keys_lib.fold_all(later, n)),
  )
  return process.sharp(clean, first)


def make_refine(config: ConfigDict, whole: bool) -> Process:
  """Draws what a predictor left out, enlarged by `process.scale`.

  Args:
    config: of the process and its networks.
    whole: whether it samples whole pictures, not trains on crops. Networks then
      take the form that suits this; what they compute stays.
  """
  predictor = build.build(
    config.predictor, config.dtype, config.remat, 'predictor'
  )
  if whole:
    predictor = build.for_whole_pictures(predictor, config.data.crop)
  scale, joint = config.process.scale, config.process.joint
  if config.optim.weight_decay and not joint:
    raise InputError(
      'config.process.joint=False leaves the predictor as it is, and '
      f'config.optim.weight_decay={config.optim.weight_decay} would not: use 0'
    )

  def seen(blur: Array, first: Array) -> tuple[Array, ...]:
    return blur, scale * (first - blur)

  process = make_ddpm(config, whole, seen)

  def init(key: Key, blur: Array) -> Params:
    keys = jax.random.split(key)
    first = predictor.init(keys[0], blur)
    return {**process.init(keys[1], blur), 'predictor': first}

  def first_pass(params: Params, blur: Array) -> Array:
    made = predictor.apply(params['predictor'], blur)
    return made if joint else jax.lax.stop_gradient(made)

  return dataclasses.replace(
    process,
    init=init,
    first=first_pass,
    clean=lambda sharp, first: scale * (sharp - first),
    sharp=lambda clean, first: first + clean / scale,
    first_weight=config.process.predictor_weight if joint else 0.0,
  )


def make_ddpm(
  config: ConfigDict,
  whole: bool,
  seen: Callable[[Array, Array], tuple[Array, ...]] = lambda blur, _: (blur,),
) -> Process:
  """Draws the picture in [-1,1]; `seen` is what the denoiser looks at."""
  denoiser = build_denoiser(config, whole)
  schedule = choose('process.schedule', config, diffusion.SCHEDULES)
  sampler = choose('sampler.name', config, diffusion.SAMPLERS)
  prediction = choose('process.prediction', config, diffusion.PREDICTIONS)

  def init(key: Key, blur: Array) -> Params:
    picture, *beside = seen(blur, blur)
    return init_denoiser(denoiser, key, picture, blur, *beside)

  def state(clean: Array, blur: Array, noise: Array, time: Array) -> Array:
    del blur
    return diffusion.add_noise(clean, noise, schedule(time))

  def estimate(params, state, time, blur, first):
    picture, *beside = seen(blur, first)
    output = denoise(denoiser, params, time, picture, state, *beside)
    return prediction(output, state, schedule(time))

  def grey(params: Params, blur: Array) -> Array:
    del params
    return jnp.full_like(blur, 0.5)

  return Process(
    init=init,
    first=grey,
    clean=lambda sharp, first: 2 * (sharp - first),
    sharp=lambda clean, first: first + clean / 2,
    state=state,
    estimate=estimate,
    weight=lambda time: diffusion.loss_weight(
      schedule(time),
      config.process.gamma,
      diffusion.LEAST_WEIGHT[config.process.prediction],
    ),
    steps=sampler(
      schedule,
      config.sampler.nfe,
      config.sampler.spacing,
      config.sampler.eta,
    ),
  )


def make_indi(config: ConfigDict, whole: bool) -> Process:
  """Goes from blurred to sharp on a straight line; x0 is the sharp picture."""
  denoiser = build_denoiser(config, whole)

  def state(clean: Array, blur: Array, noise: Array, time: Array) -> Array:
    return (1 - time) * clean + time * (blur + config.process.noise * noise)

  def estimate(params, state, time, blur, first):
    del blur, first
    return state + denoise(denoiser, params, time, state)

  return Process(
    init=lambda key, blur: init_denoiser(denoiser, key, blur),
    first=lambda params, blur: blur,
    clean=lambda sharp, first: sharp,
    sharp=lambda clean, first: clean,
    state=state,
    estimate=estimate,
    weight=jnp.ones_like,
    steps=diffusion.indi(config.sampler.nfe),
  )


PROCESSES: Mapping[str, Callable[[ConfigDict, bool], Process]] = {
  'refine': make_refine,
  'indi': make_indi,
  'ddpm': make_ddpm,
}


def build_denoiser(config: ConfigDict, whole: bool) -> nn.Module:
  """Builds the network of `config.model`, which must take a time.

  Args:
    config: of the network.
    whole: whether it is to sample whole pictures.

  Raises:
    InputError: it takes none.
  """
  net = build.build(config.model, config.dtype, config.remat)
  if 'time' not in inspect.signature(type(net).__call__).parameters:
    raise InputError(
      f'config.model.name={config.model.name}: takes no time, so it cannot '
      'denoise; use unet or nafnet'
    )
  return build.for_whole_pictures(net, config.data.crop) if whole else net


def init_denoiser(net: nn.Module, key: Key, *maps: Array) -> Params:
  """Returns parameters for maps of these shapes."""
  x = jnp.concatenate(maps, -1)
  return {'denoiser': net.init(key, x, jnp.zeros(len(x)))}


def denoise(net: nn.Module, params: Params, time: Array, *maps: Array) -> Array:
  """Shows the network a picture in [0,1] and what lies beside it, at a time."""
  x = jnp.concatenate(maps, -1)
  return net.apply(params['denoiser'], x, time[:, 0, 0, 0])
