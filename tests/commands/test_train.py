"""``msa-jax train``: how much it says."""

import pathlib

import pytest

from msa_jax.commands import train

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "synthetic.py"
RUN = [
    f"--config={CONFIG}:lf_dnn,tiny", "--config.train.epochs=1", "--config.train.devices=1",
    "--config.data.buckets=1", "--compile-cache=off",
]  # fmt: skip


@pytest.mark.parametrize("flag", ["--quiet", "--verbose", None])
def test_how_much_is_said(tmp_path, capsys, flag):
    train.main([*RUN, f"--workdir={tmp_path}", *([flag] if flag else [])])
    out, err = capsys.readouterr()
    assert err == ""
    assert (tmp_path / "report.html").exists()
    assert ("debug: " in out) == (flag == "--verbose")
    if flag == "--quiet":
        assert out == ""
        return
    assert "epoch   1  train loss" in out
    assert "best reachable" in out  # the table
    assert f"report: {tmp_path / 'report.html'}" in out
    if flag == "--verbose":
        for words in (
            "1 device(s): cpu",
            "the features lie on the device",
            "padded steps",
            "up to 1 a chunk",
        ):
            assert words in out
        assert out.count("debug: compiling the training for clips of") == 1
