"""From the data block of a configuration to a :class:`Dataset`."""

import pathlib

from msa_jax.config import Config, require_choice
from msa_jax.data import synthetic
from msa_jax.data.dataset import Dataset
from msa_jax.data.open import Hints, open_dataset
from msa_jax.data.spec import MODALITIES, SPLITS
from msa_jax.errors import DataError


def load_dataset(data: Config) -> Dataset:
    """Generates, or finds and opens, the data set that a configuration names.

    Raises:
      DataError: if the file is missing (with where it is published and how to convert it) or is
        not usable.
    """
    require_choice("data.source", data.source, ("file", "synthetic"))
    if data.source == "synthetic":
        counts: dict[str, int] = dict(zip(SPLITS, data.synthetic.counts, strict=True))
        lengths: dict[str, int] = dict(zip(MODALITIES, data.synthetic.lengths, strict=True))
        return synthetic.generate(data.synthetic.seed, counts, lengths=lengths)
    groups = {m: dict(g) for m, g in data.groups.items()}
    hints = Hints(data.name, data.metrics, tuple(data.label_range), groups)
    return open_dataset(_locate(data), hints)


def _locate(data: Config) -> pathlib.Path:
    path = pathlib.Path(data.path or pathlib.Path(data.root) / data.file).expanduser()
    if data.path or data.root:
        if path.exists():
            return path
        missing = f"there is no {path}"
    else:
        missing = f"no data given for {data.name}"
    raise DataError(
        f"{missing}: download {data.file} from {data.published}, then pass --config.data.path=FILE, "
        "or first convert it with 'python -m msa_jax.convert FILE.pkl DIR' and pass --config.data.path=DIR."
    )
