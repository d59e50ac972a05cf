"""What a function costs, counted over its jaxpr.

XLA's own count takes the body of a loop once, however often it runs.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def macs(function: Callable, *args) -> int:
  """Counts multiply-accumulates of products and convolutions.

  Those of all devices together, where the work is spread over a mesh.

  Args:
    function: traced, never run.
    *args: arrays, or `jax.ShapeDtypeStruct` in their place.

  Returns:
    Their number; 0 where a loop's length is known only when it runs.
  """
  return macs_of(jax.make_jaxpr(function)(*args).jaxpr)


def macs_of(jaxpr: Any) -> int:
  """Counts those of a jaxpr that is traced already; see `macs`."""
  try:
    return _count(jaxpr)
  except _UnknownError:
    return 0


class _UnknownError(Exception):
  """What something costs depends on values."""


def _count(jaxpr: Any) -> int:
  return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    return _dot(equation)
  if name == 'conv_general_dilated':
    return _convolution(equation)
  if name == 'while':
    raise _UnknownError
  inner = [_count(jaxpr) for jaxpr in _jaxprs(params)]
  if name == 'cond':
    return max(inner)
  if name == 'shard_map':  # shapes inside are those on one device
    return sum(inner) * params['mesh'].size
  return sum(inner) * params.get('length', 1)


def _dot(equation: Any) -> int:
  """Elements of the result times the length of the sums in each."""
  (contracted, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval.shape
  terms = math.prod(left[axis] for axis in contracted)
  return math.prod(equation.outvars[0].aval.shape) * terms


def _convolution(equation: Any) -> int:
  """Elements of the result times the kernel's elements for each channel."""
  kernel = equation.invars[1].aval.shape
  channels = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
  terms = math.prod(kernel) // channels
  return math.prod(equation.outvars[0].aval.shape) * terms


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
  """Yields the jaxprs inside an equation: of calls, loops and branches."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else [value]:
      jaxpr = getattr(item, 'jaxpr', item)
      if hasattr(jaxpr, 'eqns'):
        yield jaxpr
