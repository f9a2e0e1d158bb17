"""CMU-MOSI, unaligned features (Cai et al. 2025, Tables 1 and 2).

python -m msa_jax.main --config=configs/mosi.py --config.data.path=unaligned_50.pkl --workdir=runs/mosi
"""

from configs import common


def get_config(argument: str = ""):
    """Returns the configuration; ``argument`` names model and variant (see configs/common.py)."""
    data = common.data_block("mosi")
    data.file = "MOSI/Processed/unaligned_50.pkl"
    data.published = "the MMSA project's data folder (linked from its README on GitHub, thuiar/MMSA)"
    data.metrics = "mosi"
    data.label_range = (-3.0, 3.0)
    data.expected.text = (50, 768)  # BERT
    data.expected.audio = (375, 5)  # COVAREP, five selected columns
    data.expected.vision = (500, 20)  # Facet, twenty selected columns
    data.expected.counts = (1284, 229, 686)
    data.buckets = 2  # a third padded shape costs more to compile than it saves on so few clips
    return common.build(data, argument, preset="mosi")
