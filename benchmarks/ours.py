"""What JAX runs: the network, and the train step as the product compiles it."""

import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import machine
import numpy as np
from cases import CASES, Case, Run

from deblur_jax import cli
from deblur_jax import config as config_lib
from deblur_jax.models import build, cpu
from deblur_jax.ops import cost
from deblur_jax.types import Params

MATMUL = 2048
"""Side of the matrices whose product says what the machine can do."""

# As in every command of the product.
jax.monitoring.register_event_duration_secs_listener(cli.settle_after)


def make_config(case: Case) -> config_lib.ConfigDict:
  """Returns the config of a case: real pairs, so that no blur is made."""
  config = config_lib.base_config()
  config.data.pairs = 'real'
  config.data.batch_size, config.data.crop, _ = case.shape
  config.loss = 'mse'
  config.ema.decay = 0.0
  config.optim.clip = 0.0
  net = config.model.nafnet
  net.width, net.middle = case.width, case.middle
  net.encoder, net.decoder = case.encoder, case.decoder
  return config


def make_runs(name: str) -> dict[str, Run]:
  """Returns a case's forward pass and, where it is trained, its step."""
  case = CASES[name]
  config = make_config(case)
  net = build.build(config.model, config.dtype)
  rng = np.random.default_rng(0)
  blur = jnp.asarray(rng.random((*case.shape, 3), np.float32))
  params = random_params(net, rng)
  apply = jax.jit(net.apply)

  def forward() -> None:
    jax.block_until_ready(apply(params, blur))

  if not case.trained:
    return {'forward': forward}
  return {'forward': forward, 'step': make_step_run(case, config, rng)}


def make_step_run(
  case: Case, config: config_lib.ConfigDict, rng: np.random.Generator
) -> Run:
  """Returns a case's training step, on one batch."""
  # Not above: a forward pass needs no libraries of training in memory.
  from deblur_jax import train
  from deblur_jax.families import make_family
  from deblur_jax.train_lib import parallel, state

  mesh = parallel.make_mesh()
  family = make_family(config)
  init = state.make_init(config, family)
  like = parallel.abstract(init, mesh)
  now = parallel.compile_init(init, like)()
  take_step = train.make_step(config, family, like, mesh)
  shape = *case.shape, 3
  raw = {
    'blur': rng.integers(0, 255, shape, np.uint8),
    'sharp': rng.integers(0, 255, shape, np.uint8),
    'id': np.arange(case.shape[0], dtype=np.int32),
    'mask': np.ones(case.shape[0], bool),
  }
  raw = parallel.put_batch(raw, mesh)

  def step() -> None:
    nonlocal now
    now, metrics = take_step(now, raw)
    jax.block_until_ready((now, metrics))

  return step


def random_params(net: nn.Module, rng: np.random.Generator) -> Params:
  """Returns weights as if they were loaded: nothing is compiled for them."""
  like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(0, 0.02, leaf.shape).astype('f')), like
  )


def make_tracing(case: Case) -> Callable[[], jax.stages.Traced]:
  """Returns what traces the training step of a case, on shapes alone."""
  from deblur_jax import dry_run, train
  from deblur_jax.families import make_family
  from deblur_jax.train_lib import parallel, state

  config = make_config(case)
  mesh = parallel.make_mesh()
  family = make_family(config)
  like = parallel.abstract(state.make_init(config, family), mesh)
  take_step = train.make_step(config, family, like, mesh)
  return lambda: take_step.trace(like, dry_run.raw_batch(config))


def compile_seconds(name: str, cache: str) -> float:
  """Traces and compiles a case's training step; once a process.

  Args:
    name: of the case.
    cache: folder of compiled code, for JAX to read and fill.
  """
  jax.config.update('jax_compilation_cache_dir', cache)
  trace = make_tracing(CASES[name])
  start = time.perf_counter()
  trace().lower().compile()
  return time.perf_counter() - start


def gflops(name: str) -> dict[str, float]:
  """Counts what a case's products and convolutions take, in 10^9."""
  case = CASES[name]
  config = make_config(case)
  net = build.build(config.model, config.dtype)
  blur = jax.ShapeDtypeStruct((*case.shape, 3), jnp.float32)
  with cpu.plain():
    params = jax.eval_shape(net.init, jax.random.key(0), blur)
    counts = {'forward': cost.macs(net.apply, params, blur)}
    if case.trained:
      counts['step'] = cost.macs_of(make_tracing(case)().jaxpr.jaxpr)
  return {what: 2 * macs / 1e9 for what, macs in counts.items()}


def product_gflops() -> float:
  """Returns the 10^9 operations a second of a large float32 product."""
  a = jnp.ones((MATMUL, MATMUL))
  product = jax.jit(jnp.matmul)
  ms = machine.median_ms(lambda: jax.block_until_ready(product(a, a)), 7)
  return 2 * MATMUL**3 / ms / 1e6
