"""CH-SIMS v2, supervised part: the layout of CH-SIMS with more clips.

python -m msa_jax.main --config=configs/simsv2.py --config.data.path=v2.pkl --workdir=runs/simsv2
"""

from configs import common, sims


def get_config(argument: str = ""):
    """Returns the configuration; ``argument`` names model and variant (see configs/common.py)."""
    data = sims.data_block("simsv2")
    data.file = "SIMSv2/Processed/sims_unaligned.pkl"
    data.published = "the CH-SIMS v2 project page (linked from its README on GitHub, thuiar/ch-sims-v2)"
    data.expected.counts = (2722, 0, 0)  # the other two splits are not stated where we could check
    return common.build(data, argument, preset="sims")
