"""CH-SIMS, unaligned features with unimodal labels (Cai et al. 2025, Tables 1 and 2).

Column groups as in Zheng et al. 2024.

    python -m msa_jax.main --config=configs/sims.py --config.data.path=unaligned_39.pkl --workdir=runs/sims
"""

from configs import common
from msa_jax.data import columns


def get_config(argument: str = ""):
    """Returns the configuration; ``argument`` names model and variant (see configs/common.py)."""
    return common.build(data_block("sims"), argument, preset="sims")


def data_block(name: str):
    """The data block of CH-SIMS; version 2 and the synthetic set share its layout."""
    data = common.data_block(name)
    data.file = "SIMS/Processed/unaligned_39.pkl"
    data.published = "the MMSA project's data folder (linked from its README on GitHub, thuiar/MMSA)"
    data.metrics = "sims"
    data.label_range = (-1.0, 1.0)
    data.groups.audio.update(columns.SIMS_AUDIO)
    data.groups.vision.update(columns.SIMS_VISION)
    data.expected.text = (39, 768)  # Chinese BERT
    data.expected.audio = (400, 33)  # librosa
    data.expected.vision = (55, 709)  # OpenFace 2
    data.expected.counts = (1368, 456, 457)
    data.expected.tasks = ("M", "T", "A", "V")
    return data
