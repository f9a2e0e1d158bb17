"""Multiply-accumulates of a computation, counted on its jaxpr: nothing is run or compiled."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core as jex


def count_macs(fn: Callable[..., Any], *args: Any) -> int:
    """Multiply-accumulates of all matrix products and convolutions in ``fn(*args)``.

    One per product of two numbers, as papers count; a FLOP count is about twice as large.
    Element-wise arithmetic, sums and softmax are not counted, attention's products are. A scan's
    body counts once per step, of the branches of a cond the dearest one, and the body of a while
    loop once, since its number of rounds is not known.

    Args:
      fn: what to count.
      args: arrays, or jax.ShapeDtypeStruct in their place.
    """
    return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr: jex.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: jex.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = _shape(equation.invars[0])
        return math.prod(_shape(equation.outvars[0])) * math.prod(left[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])
        out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return math.prod(_shape(equation.outvars[0])) * math.prod(kernel) // out_features
    inner = [_count(jaxpr) for jaxpr in _inner_jaxprs(params)]
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    return sum(inner)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[jex.Jaxpr]:
    """The jaxprs among an equation's parameters: jit, scan, while, cond, custom derivatives, remat."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, jex.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex.Jaxpr):
                yield item
