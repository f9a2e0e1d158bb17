"""What a folder holds: a run, or an export."""

import pathlib

from msa_jax.serve.limits import Limits
from msa_jax.serve.scorer import Scorer


def open_scorer(folder: str | pathlib.Path, limits: Limits | None = None) -> Scorer:
    """The model in a folder.

    Args:
      folder: of a run, or one that ``msa-jax export`` wrote as StableHLO or ONNX.
      limits: of a request.

    Raises:
      RunError: if it is neither, or needs something that is not installed.
      DataError: if a file of an export is damaged.
    """
    folder = pathlib.Path(folder)
    if (folder / "MODEL_CARD.md").is_file():  # which no run has
        from msa_jax.serve.export_scorer import ExportScorer

        return ExportScorer(folder)
    from msa_jax.serve.run_scorer import RunScorer

    return RunScorer(folder, limits)
