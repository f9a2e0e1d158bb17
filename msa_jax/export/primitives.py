"""A traced program as primitives that jax2onnx converts right, with any number of clips and steps.

jax2onnx 0.17 mistakes five things, each of which can be said otherwise: padding of a free dimension,
products without a summed index, tables that are cut to a free number of rows, constants that are joined
(they are computed here and now), and functions with derivatives of their own. Scans are left as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.extend import core

#: Names of primitives that only call another program, and where they keep it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
}


def as_function(traced: core.ClosedJaxpr) -> Callable[..., list[jax.Array]]:
    """A function of flat arrays that does what ``traced`` does, in convertible primitives."""

    def run(*arrays: jax.Array) -> list[jax.Array]:
        return _evaluate(traced.jaxpr, traced.consts, arrays)

    return run


def _evaluate(jaxpr: core.Jaxpr, constants: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    known: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arrays), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        if _is_constant(values, equation.outvars):
            with jax.ensure_compile_time_eval():
                results = _apply(equation.primitive, values, equation.params)
        else:
            results = _apply(equation.primitive, values, equation.params)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _is_constant(values: Sequence[Any], results: Sequence[Any]) -> bool:
    """Whether an equation can be computed now: it reads constants only and gives arrays of known size."""
    known = all(isinstance(n, int) for result in results for n in getattr(result.aval, "shape", ()))
    return known and bool(values) and not any(isinstance(value, Tracer) for value in values)


def _apply(primitive: Any, values: list[Any], params: dict[str, Any]) -> list[Any]:
    if primitive.name in _CALLS:
        inner = params[_CALLS[primitive.name]]
        closed = isinstance(inner, core.ClosedJaxpr)
        return _evaluate(inner.jaxpr if closed else inner, inner.consts if closed else (), values)
    if primitive.name == "pad" and all(
        low >= 0 and high >= 0 and not gap for low, high, gap in params["padding_config"]
    ):
        return [_pad(values[0], values[1], params["padding_config"])]
    if primitive.name == "dot_general" and not params["dimension_numbers"][0][0]:
        return [_outer(values[0], values[1], params["dimension_numbers"][1])]
    if primitive.name == "gather" and _cuts_rows(values[0], params):
        return [_first_rows(values[0], values[1], params["slice_sizes"][0])]
    results = primitive.bind(*values, **params)
    return list(results) if primitive.multiple_results else [results]


def _pad(x: jax.Array, filler: jax.Array, config: Sequence[tuple[int, int, int]]) -> jax.Array:
    """lax.pad without gaps, as concatenations."""
    for axis, (low, high, _) in enumerate(config):
        shape = x.shape
        parts = [lax.broadcast(filler, (*shape[:axis], n, *shape[axis + 1 :])) for n in (low, high) if n]
        if parts:
            x = lax.concatenate([*parts[: low and 1], x, *parts[low and 1 :]], axis)
    return x


def _outer(a: jax.Array, b: jax.Array, batch: tuple[Sequence[int], Sequence[int]]) -> jax.Array:
    """A product without a summed index: [batch, a's other axes, b's other axes]."""
    rest_a = [i for i in range(a.ndim) if i not in batch[0]]
    rest_b = [i for i in range(b.ndim) if i not in batch[1]]
    a, b = a.transpose(*batch[0], *rest_a), b.transpose(*batch[1], *rest_b)
    a = jnp.expand_dims(a, range(a.ndim, a.ndim + len(rest_b)))
    b = jnp.expand_dims(b, range(len(batch[1]), len(batch[1]) + len(rest_a)))
    return a * b


def _cuts_rows(table: jax.Array, params: dict[str, Any]) -> bool:
    """Whether a gather takes one run of a table's rows, a free number of them."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    return (
        not isinstance(sizes[0], int)
        and numbers.start_index_map == (0,)
        and not numbers.collapsed_slice_dims
        and not numbers.operand_batching_dims
        and tuple(sizes[1:]) == tuple(table.shape[1:])
    )


def _first_rows(table: jax.Array, start: jax.Array, rows: Any) -> jax.Array:
    """``rows`` rows of a table from ``start`` [1] on."""
    numbers = lax.iota(jnp.int32, rows) + lax.broadcast(start[0], (rows,))
    return jnp.take(table, numbers, axis=0, mode="clip")
