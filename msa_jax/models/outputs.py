"""What every model returns."""

from collections.abc import Mapping

import flax.struct
import jax


class Outputs(flax.struct.PyTreeNode):
    """A model's answer for a batch.

    Attributes:
      predictions: per task [B] scores, or [B, C] logits for classification. "M" is the final
        prediction; a model may add T, A, V (each modality's own) and tasks of its own.
      features: named intermediate arrays for losses, plots and probing; "fusion" [B, F] is the
        vector that the final prediction is read from.
    """

    predictions: Mapping[str, jax.Array]
    features: Mapping[str, jax.Array]
