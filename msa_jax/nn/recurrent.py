"""GRU and LSTM over masked sequences, with PyTorch's arithmetic and weights.

Two biases per cell as in PyTorch (`bias_ih`, `bias_hh`), gates in its order (GRU r, z, n; LSTM
i, f, g, o), kernels stored [in, out]. So its weights and gradients map one to one: transpose the
two matrices, keep the biases.

A padding step keeps the state, gives a zero output, and its input is never read. The backward
direction is a flip over time, the same forward scan, and a flip back: padding then comes first
and holds the zero state until the clip's last real step, so nothing needs to know lengths.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import Initializer, product, symmetric_uniform

#: What a cell carries from step to step: (h,) for a GRU, (h, c) for an LSTM, each [B, H].
State = tuple[jax.Array, ...]


class Weights(NamedTuple):
    """Weights of one cell with G gates: kernels [D, G*H] and [H, G*H], biases [G*H]."""

    kernel_ih: jax.Array
    kernel_hh: jax.Array
    bias_ih: jax.Array
    bias_hh: jax.Array


def _declare(
    module: nn.Module, width: int, hidden: int, gates: int, kernel_init: Initializer | None
) -> Weights:
    init = symmetric_uniform(hidden**-0.5)
    return Weights(
        module.param("kernel_ih", kernel_init or init, (width, gates * hidden)),
        module.param("kernel_hh", kernel_init or init, (hidden, gates * hidden)),
        module.param("bias_ih", init, (gates * hidden,)),
        module.param("bias_hh", init, (gates * hidden,)),
    )


class _Direction(nn.Module):
    """Holds the weights of one direction of a layer."""

    hidden: int
    gates: int
    kernel_init: Initializer | None

    @nn.compact
    def __call__(self, width: int) -> Weights:
        return _declare(self, width, self.hidden, self.gates, self.kernel_init)


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    y = product(x, kernel)
    return y + jnp.broadcast_to(bias, y.shape)


def gru_step(state: State, projected: jax.Array, weights: Weights) -> State:
    """One GRU step. ``projected`` [B, 3H] is the input's part, ``x @ kernel_ih``."""
    (h,) = state
    read = projected + jnp.broadcast_to(weights.bias_ih, projected.shape)
    recalled = checkpoint_name(_affine(h, weights.kernel_hh, weights.bias_hh), "gates")
    x_r, x_z, x_n = jnp.split(read, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(recalled, 3, axis=-1)
    r = nn.sigmoid(x_r + h_r)
    z = nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def lstm_step(state: State, projected: jax.Array, weights: Weights) -> State:
    """One LSTM step. ``projected`` [B, 4H] is the input's part, ``x @ kernel_ih``."""
    bias = weights.bias_ih + weights.bias_hh
    return lstm_gates(state, projected + _affine(state[0], weights.kernel_hh, bias))


def lstm_gates(state: State, gates: jax.Array) -> State:
    """The state after a step, from the four gates' sums [B, 4H]."""
    _, c = state
    gates = checkpoint_name(gates, "gates")
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


class LSTMInput(nn.Module):
    """The part of an LSTM that does not wait for its state: one matrix product for all steps.

    Attributes:
      hidden: H.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] to [..., 4H], what :class:`LSTMStep` adds to the state's part."""
        init = symmetric_uniform(self.hidden**-0.5)
        kernel = self.param("kernel", init, (x.shape[-1], 4 * self.hidden))
        return _affine(x, kernel, self.param("bias", init, (4 * self.hidden,)))


class LSTMStep(nn.Module):
    """The recurrent part of an LSTM, for models that step by themselves.

    Attributes:
      hidden: H.
    """

    hidden: int

    @nn.compact
    def __call__(self, state: State, projected: jax.Array) -> State:
        """The state (h, c), each [B, H], after a step whose input :class:`LSTMInput` projected."""
        init = symmetric_uniform(self.hidden**-0.5)
        kernel = self.param("kernel", init, (self.hidden, 4 * self.hidden))
        bias = self.param("bias", init, (4 * self.hidden,))
        return lstm_gates(state, projected + _affine(state[0], kernel, bias))


def _project(x: jax.Array, directions: list[Weights]) -> list[jax.Array]:
    """Each direction's input part, [T, B, D] to [T, B, G*H]. One matrix product for all."""
    kernel = jnp.concatenate([w.kernel_ih for w in directions], axis=1)
    return jnp.split(product(x, kernel), len(directions), axis=-1)


def scan_over_time(step: Any, in_axes: Any = 0) -> Any:
    """nn.scan of a step (a module class, or a function of a module) that keeps little for the gradient.

    What a step names "gates", the sums that its nonlinear functions read, is kept, and so is the
    state before each step; sigmoids and the like are computed again, which costs less than to write
    them to memory and read them back.

    Args:
      step: takes a carry and its step's part of whatever follows.
      in_axes: of what follows, as nn.scan has it: 0 (time first), nn.broadcast (all of it, in every step).
    """
    keep = jax.checkpoint_policies.save_only_these_names("gates")
    step = nn.remat(step, policy=keep, prevent_cse=False)
    return nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=in_axes)


def _run(layer: nn.Module, step: Callable[..., State], n_states: int, directions: list[Weights], x, mask):
    """Runs a layer: all directions in one nn.scan, the second one over flipped time.

    Returns:
      Outputs [B, T, n*H], zero at padding, and the final state, each part [B, n*H].
    """
    mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
    real = mask.T[..., None]  # [T, B, 1]
    projected = _project(jnp.where(real, x.swapaxes(0, 1), 0), directions)
    inputs = [(projected[0], real)] + [(jnp.flip(p, 0), jnp.flip(real, 0)) for p in projected[1:]]

    def body(_, states, inputs):
        states = tuple(
            tuple(jnp.where(real, new, old) for new, old in zip(step(state, p, w), state, strict=True))
            for state, (p, real), w in zip(states, inputs, directions, strict=True)
        )
        return states, tuple(
            jnp.where(real, state[0], 0) for state, (_, real) in zip(states, inputs, strict=True)
        )

    hidden = directions[0].kernel_hh.shape[0]
    zero = jnp.zeros((x.shape[0], hidden), projected[0].dtype)
    start = ((zero,) * n_states,) * len(directions)
    states, outputs = scan_over_time(body)(layer, start, tuple(inputs))
    outputs = [outputs[0]] + [jnp.flip(o, 0) for o in outputs[1:]]
    final = tuple(jnp.concatenate(parts, axis=-1) for parts in zip(*states, strict=True))
    return jnp.concatenate(outputs, axis=-1).swapaxes(0, 1), final


def _directions(
    hidden: int, gates: int, bidirectional: bool, width: int, kernel_init: Initializer | None = None
) -> list[Weights]:
    names = ("forward", "backward") if bidirectional else ("forward",)
    return [_Direction(hidden, gates, kernel_init, name=name)(width) for name in names]


class GRU(nn.Module):
    """One GRU layer.

    Attributes:
      hidden: H, per direction.
      bidirectional: whether a second GRU reads the clip from its last real step to its first.
    """

    hidden: int
    bidirectional: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Reads x [B, T, D] under mask [B, T] (None: every step is real, PyTorch without packing).

        Returns:
          Outputs [B, T, H] (forward and backward side by side: [B, T, 2H]) and the final state
          [B, H] ([B, 2H]).
        """
        directions = _directions(self.hidden, 3, self.bidirectional, x.shape[-1])
        outputs, (h,) = _run(self, gru_step, 1, directions, x, mask)
        return outputs, h


class LSTM(nn.Module):
    """One LSTM layer.

    Attributes:
      hidden: H, per direction.
      bidirectional: whether a second LSTM reads the clip from its last real step to its first.
      kernel_init: other initial values of the kernels.
    """

    hidden: int
    bidirectional: bool = False
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, State]:
        """Like :meth:`GRU.__call__`, but the final state is (h, c)."""
        directions = _directions(self.hidden, 4, self.bidirectional, x.shape[-1], self.kernel_init)
        outputs, (h, c) = _run(self, lstm_step, 2, directions, x, mask)
        return outputs, (h, c)


class StackedLSTM(nn.Module):
    """LSTM layers one above the other, with dropout between them.

    Attributes:
      hidden: H, per direction and layer.
      n_layers: number of layers.
      bidirectional: for every layer.
      dropout: rate on what a layer hands to the next one.
    """

    hidden: int
    n_layers: int
    bidirectional: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, list[State]]:
        """The top layer's outputs, as in :meth:`LSTM.__call__`, and every layer's final (h, c)."""
        finals = []
        for layer in range(self.n_layers):
            if layer:
                x = Dropout(self.dropout)(x, train)
            x, final = LSTM(self.hidden, self.bidirectional, name=f"layer_{layer}")(x, mask)
            finals.append(final)
        return x, finals
