"""The summarize command: counts without data."""

import json
import pathlib

import pytest

from msa_jax.commands import summarize
from msa_jax.errors import ConfigError

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
SIMS = f"--config={CONFIGS / 'sims.py'}:ufen_mtfn,tiny"
#: What is left is pooled Dense layers, which compile soon and are counted by hand below.
BARE = [
    f"--config.model.{switch}=false"
    for switch in (
        "use_bigru",
        "use_conv",
        "use_self_attention",
        "use_cross_attention",
        "use_encoder_decoder",
    )
]
D, WIDTHS, LENGTHS = 16, (768, 33, 709), (39, 400, 55)


def test_json_holds_the_counts(capsys):
    summarize.main([SIMS, *BARE, "--config.train.batch_size=5", "--json"])
    summary = json.loads(capsys.readouterr().out)
    # Per modality Dense to d, head, map to Z; then the fusion head over 3 d.
    expected = sum((width + 1) * D + (D + 1) + (D + 1) * D for width in WIDTHS) + 3 * D + 1
    assert summary["parameters"] == expected
    macs = sum(steps * (width * D + D * D) + D for steps, width in zip(LENGTHS, WIDTHS, strict=True)) + 3 * D
    assert summary["macs_per_sample"] == macs
    assert summary["macs_per_batch"] == 5 * macs
    assert summary["parameter_shapes"]["ufen_audio/dense/kernel"] == [33, D]
    # Parameters and Adam's two moments, and the features of five clips.
    features = 5 * sum(steps * width for steps, width in zip(LENGTHS, WIDTHS, strict=True))
    assert summary["state_and_batch_bytes"] >= 4 * (3 * expected + features)
    assert summary["step_memory_bytes"] == summary["state_and_batch_bytes"] + summary["intermediates_bytes"]
    summarize.show(summary)
    shown = capsys.readouterr().out
    for text in ("ufen_audio/dense/kernel", "33x16", f"{expected:,}", f"{macs:,}", "5 samples", "MiB"):
        assert text in shown


def test_mistakes_are_config_errors():
    with pytest.raises(ConfigError, match=r"Did you mean .model\.d_model"):
        summarize.main([SIMS, "--config.model.d_modle=4"])
    with pytest.raises(ConfigError, match="--jsn"):
        summarize.main([SIMS, "--jsn"])
