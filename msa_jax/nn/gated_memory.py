"""What MFN and Graph-MFN share: a system of LSTMs, one per modality, and a memory with two gates.

Both recurrences are the least that depends on the step before. What reads the input (the LSTMs'
input products) or the LSTMs' states (attention, graph, the gates' first product) is computed for
all steps at once, outside.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, GroupedHeadAttention, Join, take_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import LSTMInput, LSTMStep, State, scan_over_time


class TwoLayerNet(nn.Module):
    """Dense, ReLU, dropout, Dense.

    Attributes:
      hidden: width between the two.
      features: width of the result.
      dropout: rate on the hidden values.
    """

    hidden: int
    features: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[..., D] to [..., features]."""
        x = nn.relu(Dense(self.hidden, name="linear_1")(x))
        return Dense(self.features, name="linear_2")(Dropout(self.dropout)(x, train))


class _SystemStep(nn.Module):
    """One step of every modality's LSTM, or of its n LSTMs side by side.

    Attributes:
      hidden: per modality, its name, its width H, and how many LSTMs it has (0: one, not stacked).
    """

    hidden: tuple[tuple[str, int, int], ...]

    @nn.compact
    def __call__(
        self, states: dict[str, State], inputs: tuple[dict[str, jax.Array], jax.Array]
    ) -> tuple[dict[str, State], dict[str, State]]:
        projected, real = inputs
        new = {}
        for m, width, copies in self.hidden:
            step = _stacked_steps(copies) if copies else LSTMStep
            moved = step(width, name=m)(states[m], projected[m])
            kept = real[None] if copies else real
            new[m] = tuple(jnp.where(kept, a, b) for a, b in zip(moved, states[m], strict=True))
        return new, new


def _stacked_steps(copies: int) -> Any:
    """n LSTM steps with weights of their own, as one product: states [n, B, H]."""
    return nn.vmap(LSTMStep, variable_axes={"params": 0}, split_rngs={"params": True}, axis_size=copies)


class LSTMSystem(nn.Module):
    """An LSTM per modality, all over the same steps (Zadeh et al. 2018, "System of LSTMs").

    Fine-grained (Zheng et al. 2024): a split modality has an LSTM per column group, each with its
    own recurrent state, and the same grouped-head attention joins the groups' h and their c at each
    step. What it gives is the modality's h and c for whatever reads them; it does not go back into
    the LSTMs, so it is computed for all steps at once.

    Attributes:
      hidden: per modality, its name and width H.
      columns: per split modality, its name and column groups.
      join: how the groups become one; with one step, attention over time is linear.
    """

    hidden: tuple[tuple[str, int], ...]
    columns: tuple[tuple[str, Columns], ...] = ()
    join: Join = Join()

    @nn.compact
    def __call__(self, values: Mapping[str, jax.Array], mask: jax.Array) -> dict[str, State]:
        """Each modality's (h, c) after every step, [T, B, H]; a padding step keeps them.

        Args:
          values: per modality [T, B, D], finite.
          mask: the real steps of all modalities, [T, B].
        """
        groups = dict(self.columns)
        projected, zero = {}, {}
        for m, width in self.hidden:
            if m in groups:
                parts = [
                    LSTMInput(width, name=f"{m}_input_{k}")(take_columns(values[m], columns))
                    for k, columns in enumerate(groups[m])
                ]
                projected[m] = jnp.stack(parts, axis=1)  # [T, n, B, 4H]
            else:
                projected[m] = LSTMInput(width, name=f"{m}_input")(values[m])
            start = jnp.zeros((*projected[m].shape[1:-1], width), projected[m].dtype)
            zero[m] = (start, start)
        cells = tuple((m, width, len(groups.get(m, ()))) for m, width in self.hidden)
        _, states = scan_over_time(_SystemStep)(cells, name="steps")(zero, (projected, mask[..., None]))
        for m in groups:
            attention = GroupedHeadAttention(self.join, name=f"{m}_attention")
            states[m] = tuple(_joined(attention, x) for x in states[m])
        return states


def _joined(attention: GroupedHeadAttention, states: jax.Array) -> jax.Array:
    """The groups' states [T, n, B, H] as one, [T, B, H]: each step is a sequence of one."""
    steps, n, batch, width = states.shape
    rows = states.swapaxes(1, 2).reshape(steps * batch, n, 1, width)
    return attention(rows).reshape(steps, batch, width)


def shifted(x: jax.Array) -> jax.Array:
    """What x [T, B, D] was one step before; zero at the first step."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


class _MemoryStep(nn.Module):
    """One step of :class:`GatedMemory`.

    Attributes:
      size: M.
      gates: per gate, its name and hidden width.
      fan_in: F + M, what the gates' first products read in all.
    """

    size: int
    gates: tuple[tuple[str, int], ...]
    fan_in: int

    @nn.compact
    def __call__(self, memory: jax.Array, inputs: Any) -> tuple[jax.Array, None]:
        proposal, real, projected, kept = inputs
        opened = {}
        for name, hidden in self.gates:
            remembered = Dense(hidden, use_bias=False, fan_in=self.fan_in, name=f"{name}_memory")(memory)
            x = nn.relu(checkpoint_name(projected[name] + remembered, "gates")) * kept[name]
            gate = Dense(self.size, name=f"{name}_linear_2")(x)
            opened[name] = nn.sigmoid(checkpoint_name(gate, "gates"))
        new = opened["retain"] * memory + opened["update"] * proposal
        return jnp.where(real, new, memory), None


class GatedMemory(nn.Module):
    """The multi-view gated memory (Zadeh et al. 2018): u <- retain * u + update * proposal.

    Each gate is sigmoid(Dense(dropout(relu(Dense([x; u]))))). Its first product is taken in two
    parts, of x for all steps at once and of u step by step.

    Attributes:
      size: M.
      retain_hidden: hidden width of the gate on what is remembered (gamma 1 in the paper).
      update_hidden: of the gate on what is proposed (gamma 2).
      retain_dropout: rate on the retain gate's hidden values.
      update_dropout: rate on the update gate's.
    """

    size: int
    retain_hidden: int
    update_hidden: int
    retain_dropout: float
    update_dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, proposal: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """The memory [B, M] after the last step; it starts at zero and padding steps keep it.

        Args:
          x: what the gates see beside the memory, [T, B, F].
          proposal: what may be written, [T, B, M].
          mask: real steps, [T, B].
          train: whether dropout is on.
        """
        gates = {
            "retain": (self.retain_hidden, self.retain_dropout),
            "update": (self.update_hidden, self.update_dropout),
        }
        fan_in = x.shape[-1] + self.size
        projected, kept = {}, {}
        for name, (hidden, rate) in gates.items():
            projected[name] = Dense(hidden, fan_in=fan_in, name=f"{name}_input")(x)
            kept[name] = Dropout(rate)(jnp.ones_like(projected[name]), train)
        hidden = tuple((name, width) for name, (width, _) in gates.items())
        steps = scan_over_time(_MemoryStep)(self.size, hidden, fan_in, name="steps")
        start = jnp.zeros((x.shape[1], self.size), proposal.dtype)
        memory, _ = steps(start, (proposal, mask[..., None], projected, kept))
        return memory
