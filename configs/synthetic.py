"""Generated clips in the layout of CH-SIMS: runs anywhere, needs no download, and is not real data.

python -m msa_jax.main --config=configs/synthetic.py --workdir=runs/first
"""

from configs import common, sims


def get_config(argument: str = ""):
    """Returns the configuration; ``argument`` names model and variant (see configs/common.py)."""
    data = sims.data_block("synthetic")
    data.source = "synthetic"
    data.feature_norm = "zscore_train"  # the generated columns differ in scale as much as real ones do
    return common.build(data, argument)
