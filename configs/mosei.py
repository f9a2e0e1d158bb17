"""CMU-MOSEI, unaligned features (Cai et al. 2025, Tables 1 and 2; Zheng et al. 2024 for the groups).

python -m msa_jax.main --config=configs/mosei.py --config.data.path=unaligned_50.pkl --workdir=runs/mosei
"""

from configs import common
from msa_jax.data import columns


def get_config(argument: str = ""):
    """Returns the configuration; ``argument`` names model and variant (see configs/common.py)."""
    data = common.data_block("mosei")
    data.file = "MOSEI/Processed/unaligned_50.pkl"
    data.published = "the MMSA project's data folder (linked from its README on GitHub, thuiar/MMSA)"
    data.metrics = "mosi"
    data.label_range = (-3.0, 3.0)
    data.groups.audio.update(columns.MOSEI_AUDIO)
    data.expected.text = (50, 768)  # BERT
    data.expected.audio = (500, 74)  # COVAREP
    data.expected.vision = (500, 35)  # Facet; nobody published what its columns are
    data.expected.counts = (16326, 1871, 4659)
    return common.build(data, argument, preset="mosei")
