"""The test clips of a finished run, found again where its configuration says that its data lies."""

import json

from msa_jax import configuration
from msa_jax.data import opening
from msa_jax.data.dataset import Split
from msa_jax.errors import DataError
from msa_jax.reports.run import Run


def tested_clips(run: Run) -> Split:
    """The clips of a run's test split as they are stored, in the order of its predictions.

    Raises:
      DataError: if the data cannot be read any more, or has other clips now.
    """
    config = configuration.from_json(json.dumps(run.config))
    if "source" not in config.data:
        raise DataError("the run does not say where its data lies.")
    tuned = config.model.get("text_encoder", "frozen") == "finetune"
    split = opening.open_split(config.data, "test", needs_text=not tuned)
    if tuple(split.ids.tolist()) != run.ids:
        raise DataError(f"the data of {run.spec.name} has other test clips than the run was tested on.")
    return split
