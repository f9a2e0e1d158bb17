"""What the settings of all models have in common, and what baselines read alike."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.nn.fine_grained import AttendOver, Fg, Join, Qkv
from msa_jax.typed_settings import CountOrZero, Positive

#: Classes of a data set that names no others: negative, neutral, positive.
CLASSES = 3


@dataclasses.dataclass(frozen=True)
class BaseSettings:
    """The keys that every model block has."""

    name: str = ""  # the model's name, which its registry line gives
    task: Literal["regression", "classification"] = "regression"
    # none | both | audio | vision: modalities split into column groups (Zheng et al. 2024, Table 8)
    fg: Fg = "none"
    qkv: Qkv = "shared"  # shared (parameter counts of Zheng et al.) | per_group (their equations)
    attend_over: AttendOver = "time"  # time (their eq. 7) | groups
    # What keeps the block's signal from fading; not published, see msa_jax.nn.fine_grained.
    fg_scale: Positive = 1.0  # times the initial W_V and W_O; 1.73 keeps a signal as large as it came
    fg_residual: bool = False  # adds the groups' mean to what W_O gives
    fg_norm: bool = False  # layer norm of the result
    compat: bool = False  # true: the public code's arithmetic, quirks included (see the model's file)
    classes: CountOrZero = 0  # of task=classification; 0: as many as the data has

    def __post_init__(self) -> None:
        if self.classes == 1:
            raise ConfigError("model.classes=1 leaves nothing to tell apart; set 2 or more, or 0.")

    @property
    def join(self) -> Join:
        """How the column groups of a modality become one."""
        return Join(self.qkv, self.attend_over, self.fg_scale, self.fg_residual, self.fg_norm)


def n_outputs(model: BaseSettings) -> int:
    """Width of the prediction: 1 score, or a logit per class."""
    return 1 if model.task == "regression" else model.classes or CLASSES


def require_heads(model: BaseSettings, key: str, width: int, named: str = "") -> None:
    """Raises ConfigError unless the heads that ``key`` counts divide the width, a key itself if ``named``."""
    if width % getattr(model, key):
        what = f"model.{named}={width}" if named else f"the width {width} it works on"
        raise ConfigError(f"model.{key}={getattr(model, key)} does not divide {what}.")


def scores(y: jnp.ndarray) -> jnp.ndarray:
    """A head's output [B, C] as a prediction: [B] for one score, [B, C] for logits."""
    return y[:, 0] if y.shape[1] == 1 else y


def read_inputs(batch: Batch, compat: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Features [B, T, D] and masks [B, T] per modality as a model reads them.

    By default padding is zero and masked. With ``compat`` every step counts as real and padding is
    read as it stands, as the MMSA toolkit does.
    """
    values, masks = {}, {}
    for m in MODALITIES:
        mask = batch.mask[m]
        masks[m] = jnp.ones_like(mask) if compat else mask
        values[m] = jnp.where(masks[m][..., None], batch.values[m], 0)
    return values, masks


def require_in_step(batch: Batch) -> None:
    """Raises ConfigError unless audio and vision have the text's steps."""
    steps = {m: batch.mask[m].shape[1] for m in MODALITIES}
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{m} {n}" for m, n in steps.items())
        raise ConfigError(
            f"this model reads all modalities at the text's steps, and a batch has {listed}; "
            "set data.reduce=align."
        )
