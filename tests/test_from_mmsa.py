"""The page for users of MMSA names no setting and no metric that is not there."""

import json
import pathlib
import re

import numpy as np
import pytest

from msa_jax import metrics
from msa_jax.configuration import flatten, load
from msa_jax.errors import ConfigError
from msa_jax.models import MODELS
from msa_jax.synonyms import SYNONYMS

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "from_mmsa.md").read_text()
KEY = re.compile(r"\b((?:data|model|train)(?:\.\w+)+)(?:=(\w+))?")


BLOCKS = ("data", "model", "train")


def settings(model: str) -> dict:
    """The model's settings on every data set; those of one that others lack are kept."""
    return {
        k: v for d in ("sims", "mosi") for k, v in flatten(load(f"{ROOT}/configs/{d}.py:{model}")).items()
    }


def dataset_of(model: str) -> str:
    return "sims" if model in ("mlf_dnn", "mtfn", "mlmf") else "mosi"


def sections() -> list[tuple[list[str], str]]:
    """The page in parts: the models that a part's title names (none: all of them), and its text."""
    parts = re.split(r"^##+ (.*)$", PAGE, flags=re.MULTILINE)
    titles = ["", *parts[1::2]]
    return [(re.findall(r"`(\w+)`", title), text) for title, text in zip(titles, parts[::2], strict=True)]


def test_every_setting_on_the_page_exists():
    known = {model: settings(model) for model in MODELS}
    seen = 0
    for models, text in sections():
        assert set(models) <= set(MODELS)
        for key, value in KEY.findall(text):
            seen += 1
            holders = [known[m] for m in models or MODELS if key in known[m] or _is_block(key, known[m])]
            assert len(holders) >= max(1, len(models)), f"{key} is no setting of {models or 'any model'}"
            if value in ("true", "false"):
                assert type(holders[0][key]) is bool
    assert seen > 100


def test_a_setting_of_mmsa_is_answered_with_ours():
    """Wherever the page names one of our settings for one of MMSA's, so does the message for a wrong key."""
    seen = 0
    for models, text in sections():
        for line in text.splitlines():
            cells = re.findall(r"[^|]+", line)
            if not line.startswith("| `") or len(cells) != 2:
                continue
            theirs, ours = re.findall(r"`(\w+)`", cells[0]), [k for k, _ in KEY.findall(cells[1])]
            if len(theirs) != len(ours) or theirs == ["patience"]:  # which is ours too, of another meaning
                continue
            for model in models or ["mult"]:
                for their, our in zip(theirs, ours, strict=True):
                    if our not in settings(model) or any(f"{b}.{their}" in settings(model) for b in BLOCKS):
                        continue
                    with pytest.raises(ConfigError, match=f"Did you mean '{our}'"):
                        load(f"{ROOT}/configs/{dataset_of(model)}.py:{model}", [f"train.{their}=1"])
                    seen += 1
    assert seen > 60


def test_synonyms_are_of_settings_that_some_model_has():
    known = {key for model in MODELS for key in settings(model)} | {"model.classes"}
    assert [name for names in SYNONYMS.values() for name in names if name not in known] == []


def _is_block(key: str, known: dict) -> bool:
    return any(name.startswith(f"{key}.") for name in known)


def test_every_model_of_mmsa_is_on_the_page():
    """Its golden file says whose class it is compared with."""
    metas = []
    for path in (ROOT / "tests" / "golden").glob("*_a.npz"):
        with np.load(path, allow_pickle=False) as file:
            metas.append(json.loads(str(file["meta"])))
    theirs = {m["model"].removesuffix("_mmsa") for m in metas if "MMSA" in str(m["package"])} & set(MODELS)
    assert len(theirs) > 10
    assert [m for m in sorted(theirs) if f"`{m}`" not in PAGE] == []


@pytest.mark.parametrize(("kind", "column"), [("mosi", 1), ("sims", 2)])
def test_metrics_have_the_names_on_the_page(kind, column):
    rows = [
        re.findall(r"[^|]+", line) for line in PAGE.splitlines() if re.match(r"\| `\w+`.*\|.*\|.*\|$", line)
    ]
    named = {
        theirs: ours
        for row in rows
        if len(row) == 3
        for theirs, ours in zip(
            re.findall(r"`(\w+)`", row[0]), re.findall(r"`(\w+)`", row[column]), strict=False
        )
    }
    expected = {peer: ours for ours, peer in metrics.PEER_NAMES[kind].items()}
    assert {theirs: named.get(theirs) for theirs in expected} == expected


def test_files_on_the_page_exist():
    for link in re.findall(r"`((?:configs|msa_jax)/[\w/.]+)`", PAGE):
        assert (ROOT / link).exists()
    for module in re.findall(r"-m (msa_jax[\w.]*)", PAGE):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()
