"""LMF: low-rank tensor fusion (Liu et al. 2018), as in the MMSA toolkit.

What TFN reads from the full tensor of products is approximated by a sum of R elementwise products:
each unimodal vector, with a 1 in front, is projected by R factors, the projections of the three
modalities are multiplied, and the R results are weighted and added up.

``compat=True`` restores what the public code does otherwise: the fusion weights and bias are never
trained (they are in no group of its optimiser), audio and vision are averaged over the padding too
(data.reduce sees to it), and the LSTM reads the text's padding.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.lf_dnn import DATA, UnimodalFeatures, UnimodalSettings
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, scores
from msa_jax.models.tfn import ORDER, with_one
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.typed_settings import Count


@dataclasses.dataclass(frozen=True)
class Settings(UnimodalSettings):
    """The model block; text_out is half of text_hidden, as in the public class."""

    rank: Count = 3  # R


def factors(learning_rate: float) -> dict[str, dict]:
    """Optimiser groups: the factors have a learning rate of their own."""
    return {"factors": {"paths": "fusion/*_factor", "learning_rate": learning_rate}}


#: Settings of the MMSA toolkit (tuned there per data set), with batch size, learning rate and weight decay.
PRESETS = {
    "mosi": Preset(
        Settings(text_out=64, audio_dropout=0.3, vision_dropout=0.3),
        peer_train(64, 1e-3, 5e-3, groups=factors(1e-3)),
    ),
    "mosei": Preset(Settings(text_out=64, rank=4), peer_train(32, 1e-3, 1e-3, groups=factors(1e-3))),
    "sims": Preset(
        Settings(text_hidden=64, vision_hidden=64, text_out=32, rank=4),
        peer_train(64, 2e-3, 5e-3, groups=factors(5e-4)),
    ),
}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 4}


#: Xavier's normal distribution with PyTorch's reading of a tensor (R, D, C): D * C in, R * C out.
FACTOR_INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "normal", in_axis=1, out_axis=0)


class LowRankFusion(nn.Module):
    """The weighted sum of R products of projections, which MLMF shares.

    Attributes:
      rank: R.
      n_outputs: 1, or the number of classes.
    """

    rank: int
    n_outputs: int

    @nn.compact
    def __call__(self, features: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """[B, D] per modality to [B, n_outputs] and the products [B, R, n_outputs] beneath it."""
        projected = []
        for m in ORDER:
            x = with_one(features[m])
            shape = (self.rank, x.shape[1], self.n_outputs)
            projected.append(jnp.einsum("bd,rdc->brc", x, self.param(f"{m}_factor", FACTOR_INIT, shape)))
        product = projected[0] * projected[1] * projected[2]
        weights = self.param("weights", nn.initializers.xavier_normal(), (1, self.rank))
        bias = self.param("bias", nn.initializers.zeros, (1, self.n_outputs))
        y = jnp.einsum("r,brc->bc", weights[0], product)
        return y + jnp.broadcast_to(bias, y.shape), product


class Lmf(nn.Module):
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

        Features: "text", "audio", "vision"; "products" [B, rank, C], and flat as "fusion".
        """
        features = UnimodalFeatures(self.s, self.columns, name="unimodal")(batch, train)
        y, products = LowRankFusion(self.s.rank, self.n_outputs, name="fusion")(features)
        features |= {"products": products, "fusion": products.reshape(products.shape[0], -1)}
        return Outputs({"M": scores(y)}, features)


def build(s: Settings, spec: DatasetSpec) -> Lmf:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Lmf(s, split_columns(s.fg, spec), n_outputs(s))


def frozen(s: UnimodalSettings) -> tuple[str, ...]:
    """Paths of parameters that compat leaves untrained."""
    return ("fusion/weights", "fusion/bias") if s.compat else ()


MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY, frozen)
