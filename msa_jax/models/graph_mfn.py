"""Graph-MFN (Zadeh et al. 2018, with the CMU-MOSEI data set; baseline of the MMSA toolkit).

MFN whose attention over cells is a dynamic fusion graph: its inner nodes stand for the pairs of
modalities and for all three, its edges have weights (efficacies) that each step's input decides,
and what the graph sums up goes to the gated memory.

The public code keeps the networks of the four inner nodes in a plain dictionary: they are never
trained, never saved, and random again when a model is loaded. Here they are trained like all
others. ``compat=True`` restores what it does: the node networks stay as they are drawn (see
:func:`frozen`), and LSTMs and memory run on through the padding.
"""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.mfn import MemorySettings, read_aligned
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.gated_memory import GatedMemory, LSTMSystem, TwoLayerNet, shifted
from msa_jax.nn.initializers import Dense
from msa_jax.typed_settings import Count

#: A node of the graph: the modalities that it stands for.
Node = tuple[str, ...]
#: The nodes that join modalities, in the order of their efficacies.
INNER_NODES: tuple[Node, ...] = (*itertools.combinations(MODALITIES, 2), MODALITIES)
#: All nodes, from one modality to three: what the summary reads.
NODES: tuple[Node, ...] = (*((m,) for m in MODALITIES), *INNER_NODES)


def node_name(node: Node) -> str:
    """The parameters' folder of an inner node, below "graph"."""
    return "node_" + "_".join(node)


def sources(node: Node) -> tuple[Node, ...]:
    """The nodes that an inner node reads: every proper part of it."""
    return tuple(other for other in NODES if set(other) < set(node))


@dataclasses.dataclass(frozen=True)
class Settings(MemorySettings):
    """The model block."""

    node: Count = 64  # width of the graph's inner nodes and of its summary (inner_node_dim there)
    graph_hidden: Count = 100  # hidden width of the graph's networks; the same for all data sets


#: Settings of the MMSA toolkit (tuned there per data set), with batch size, learning rate and weight decay.
PRESETS = {
    "mosi": Preset(
        Settings(
            memory=300,
            proposal_hidden=32,
            retain_hidden=128,
            update_hidden=64,
            out_hidden=256,
            retain_dropout=0.5,
        ),
        peer_train(32, 2e-3, 5e-3),
    ),
    "mosei": Preset(
        Settings(
            text_hidden=64,
            audio_hidden=16,
            vision_hidden=64,
            memory=300,
            node=128,
            proposal_hidden=32,
            retain_hidden=64,
            update_hidden=256,
            proposal_dropout=0.5,
            retain_dropout=0.0,
            update_dropout=0.7,
            out_dropout=0.7,
        ),
        peer_train(64, 2e-3, 1e-3),
    ),
    "sims": Preset(
        Settings(
            memory=64,
            node=128,
            proposal_hidden=256,
            retain_hidden=32,
            out_hidden=256,
            proposal_dropout=0.5,
            retain_dropout=0.2,
            update_dropout=0.7,
            out_dropout=0.2,
        ),
        peer_train(64, 5e-4, 1e-3),
    ),
}


class LinearPair(nn.Module):
    """Two Dense layers without anything between them, as the graph has them.

    Attributes:
      hidden: width between the two.
      features: width of the result.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] to [..., features]."""
        return Dense(self.features, name="linear_2")(Dense(self.hidden, name="linear_1")(x))


class DynamicFusionGraph(nn.Module):
    """Joins the modalities along weighted edges, from pairs to the whole.

    Attributes:
      hidden: hidden width of every network in the graph.
      features: width of the inner nodes and of the summary.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, inputs: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Takes a vector [..., H] per modality to the summary [..., features] and 19 efficacies."""
        read_by = [*(sources(node) for node in INNER_NODES), NODES]
        everything = jnp.concatenate([inputs[m] for m in MODALITIES], axis=-1)
        efficacies = Dense(sum(map(len, read_by)), name="efficacy_linear_3")(
            LinearPair(self.hidden, self.features, name="efficacy")(everything)
        )
        edges = iter(jnp.split(efficacies, efficacies.shape[-1], axis=-1))
        nodes: dict[Node, jax.Array] = {(m,): inputs[m] for m in MODALITIES}
        for node in INNER_NODES:
            weighted = [nodes[other] * next(edges) for other in sources(node)]
            pair = LinearPair(self.hidden, self.features, name=node_name(node))
            nodes[node] = pair(jnp.concatenate(weighted, axis=-1))
        weighted = [nodes[other] * next(edges) for other in NODES]
        summary = LinearPair(self.hidden, self.features, name="summary")
        return summary(jnp.concatenate(weighted, axis=-1)), efficacies


class GraphMfn(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: "text", "audio", "vision" (the last h), "memory", "fusion" (all of them), and
        "efficacies", the weights of the graph's edges [B, T, 19], zero at padding.
        """
        s = self.s
        values, mask = read_aligned(batch, s.compat)
        hidden = (("text", s.text_hidden), ("audio", s.audio_hidden), ("vision", s.vision_hidden))
        states = LSTMSystem(hidden, self.columns, s.join, name="system")(values, mask)

        inputs = {}
        for m, width in hidden:
            h = states[m][0]
            window = jnp.concatenate([shifted(h), h], axis=-1)
            inputs[m] = nn.relu(Dense(width, name=f"{m}_transform")(window))
        summary, efficacies = DynamicFusionGraph(s.graph_hidden, s.node, name="graph")(inputs)
        propose = TwoLayerNet(s.proposal_hidden, s.memory, s.proposal_dropout, name="proposal")
        memory = GatedMemory(
            s.memory, s.retain_hidden, s.update_hidden, s.retain_dropout, s.update_dropout, name="memory"
        )(summary, jnp.tanh(propose(summary, train)), mask, train)

        features = {m: states[m][0][-1] for m in MODALITIES} | {"memory": memory}
        fusion = jnp.concatenate(list(features.values()), axis=-1)
        y = TwoLayerNet(s.out_hidden, self.n_outputs, s.out_dropout, name="out")(fusion, train)
        edges = jnp.where(mask[..., None], efficacies, 0).swapaxes(0, 1)
        return Outputs({"M": scores(y)}, {**features, "fusion": fusion, "efficacies": edges})


def frozen(s: Settings) -> tuple[str, ...]:
    """Patterns of the parameters ("a/b/c") that are not trained: the node networks under compat."""
    return ("graph/node_*",) if s.compat else ()


def build(s: Settings, spec: DatasetSpec) -> GraphMfn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return GraphMfn(s, split_columns(s.fg, spec), n_outputs(s))


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    **{"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "memory": 6, "node": 5, "graph_hidden": 6},
    **{"proposal_hidden": 8, "retain_hidden": 8, "update_hidden": 8, "out_hidden": 8},
}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY, frozen)
