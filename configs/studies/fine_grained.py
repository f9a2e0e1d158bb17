"""Does fine-grained extraction help? Zheng et al. 2024's claim on any data whose columns have groups.

    msa-jax study --study=configs/studies/fine_grained.py:configs/mine.py,frozen --workdir=runs/fg

Models whole, with each modality split, with both, and with both and what keeps the block's signal from
fading; of LF-DNN also each of these switches by itself.
"""

from msa_jax.studies.grid import Choice, Study, grid, models, read_argument, seeds

BASELINES = ("lf_dnn", "mult", "self_mm")
#: As on CMU-MOSI at a fifth of its rate, which is too high for some hundred clips; and made for those.
UFEN = (
    Choice("model", "ufen_mtfn", words=("ufen_mtfn",), settings={"train.learning_rate": 1e-3}),
    Choice("model", "ufen_mtfn small", words=("ufen_mtfn", "preset=small")),
)
#: What is not published, see msa_jax.nn.fine_grained.Join; 1.73 is the square root of 3.
MENDS = {
    "scale": {"model.fg_scale": 1.73},
    "residual": {"model.fg_residual": True},
    "norm": {"model.fg_norm": True},
    "no decay": {"train.fg_decay": False},
}
MENDED = {"model.fg_scale": 1.73, "model.fg_residual": True, "train.fg_decay": False}


def block(name: str, fg: str, settings=None) -> Choice:
    """A choice of what is split, and how."""
    return Choice("block", name, words=(f"fg={fg}",), settings=settings or {})


def get_study(argument: str = "") -> Study:
    """Returns the study; ``argument`` may name other data sets, an encoder, and tiny."""
    asked = read_argument(argument, data=("sims",), encoder=True)
    published = [block("none", "none"), *(block(fg, fg) for fg in ("audio", "vision", "both"))]
    single = [block(f"both, {name}", "both", settings) for name, settings in MENDS.items()]
    of_all = [*published, block("both, mended", "both", MENDED)]
    everyone = [*models(*BASELINES, encoder=asked.encoder), *UFEN]
    rows = (asked.data, everyone, of_all, seeds(5))
    by_switch = (asked.data, models("lf_dnn"), single, seeds(5))
    return Study(
        title="Does fine-grained extraction help?",
        cells=[*grid(*rows, tiny=asked.tiny), *grid(*by_switch, tiny=asked.tiny)],
        base={"block": "none"},
        note="mended: initial scale 1.73, residual, no weight decay in the block.",
    )
