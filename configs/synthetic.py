"""Generated clips in the layout of CH-SIMS: runs anywhere, needs no download, and is not real data.

    python -m msa_jax.main --config=configs/synthetic.py --workdir=runs/first

Sized so that two processor cores train it in about two minutes; the report compares the result with
the best that any model could reach.
"""

from configs import common, sims


def get_config(argument: str = ""):
    """Returns the configuration; ``argument`` names model and variant (see configs/common.py)."""
    data = sims.data_block("synthetic")
    data.source = "synthetic"
    data.synthetic.lengths = (39, 100, 55)  # a quarter of the audio frames of CH-SIMS
    data.expected.audio = (100, 33)
    data.feature_norm = "zscore_train"  # the generated columns differ in scale as much as real ones do
    data.buckets = 1  # on so few epochs a second shape costs more to compile than it saves
    config = common.build(data, argument, preset="sims")
    if config.model.name == "ufen_mtfn":
        config.train.learning_rate = 1e-3  # 5e-3, as on CH-SIMS, does not learn here
        if "tiny" not in argument:
            config.train.update({"batch_size": 32, "epochs": 5})
            config.model.update({"d_model": 64, "dropout": 0.3})
    return config
