"""Costs against numbers counted by hand and published ones."""

import jax
import jax.numpy as jnp
import pytest

from deblur_jax.models import cpu, nafnet
from deblur_jax.ops import cost
from deblur_jax.train_lib import parallel


def shape(*sides):
  return jax.ShapeDtypeStruct(sides, jnp.float32)


def test_products_and_convolutions_by_hand():
  assert cost.macs(jnp.dot, shape(3, 5), shape(5, 7)) == 3 * 5 * 7
  product = lambda a, b: jnp.einsum('bij,bjk->bik', a, b)  # noqa: E731
  assert cost.macs(product, shape(2, 3, 5), shape(2, 5, 7)) == 2 * 3 * 5 * 7
  image = shape(2, 8, 9, 4)
  conv = cpu.ordinary_conv
  assert cost.macs(conv, image, shape(3, 3, 4, 6)) == 2 * 72 * 9 * 4 * 6
  assert cost.macs(conv, image, shape(3, 3, 1, 4)) == 2 * 72 * 9 * 4


def test_loops_count_every_turn():
  def looped(x):
    return jax.lax.fori_loop(0, 5, lambda i, y: jnp.tanh(y @ y), x)

  def unrolled(x):
    for _ in range(5):
      x = jnp.tanh(x @ x)
    return x

  assert cost.macs(looped, shape(4, 4)) == 5 * 4**3
  assert cost.macs(unrolled, shape(4, 4)) == 5 * 4**3


def test_work_of_all_devices_is_counted():
  mesh = parallel.make_mesh()
  product = parallel.per_shard(lambda x: x @ x.swapaxes(1, 2), mesh)
  assert cost.macs(product, shape(8, 3, 5)) == 8 * 3 * 5 * 3


def test_branches_count_the_dearest():
  def either(x):
    return jax.lax.cond(x[0, 0] > 0, lambda: x, lambda: x @ x @ x)

  assert cost.macs(either, shape(4, 4)) == 2 * 4**3


def test_unknown_length_is_told():
  def endless(x):
    return jax.lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y @ y, x)

  assert cost.macs(endless, shape(4, 4)) == 0
  assert cost.macs(lambda x: endless(x @ x), shape(4, 4)) == 0


def count(net, *inputs):
  params = jax.eval_shape(net.init, jax.random.key(0), *inputs)
  with cpu.plain():
    return cost.macs(net.apply, params, *inputs)


def test_nafnet_is_the_published_one():
  # megvii-research/NAFNet: width 32 on 256x256 has 16 G (15.96 G by count).
  assert count(nafnet.NAFNet(), shape(1, 256, 256, 3)) == pytest.approx(
    15.96e9, rel=0.01
  )
