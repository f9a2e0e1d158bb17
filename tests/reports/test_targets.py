import dataclasses
import json

import pytest

from msa_jax import metrics
from msa_jax.data.spec import MODALITIES, DatasetSpec, ModalitySpec
from msa_jax.models import MODELS
from msa_jax.reports import targets

COUNTS = {"mosi": (1284, 229, 686), "mosei": (16326, 1871, 4659), "sims": (1368, 456, 457)}
#: Our names of the models in the article's tables.
ROWS = {
    "EF-LSTM": "ef_lstm", "LF-DNN": "lf_dnn", "TFN": "tfn", "LMF": "lmf", "MFN": "mfn",
    "Graph-MFN": "graph_mfn", "MulT": "mult", "MISA": "misa", "Self-MM": "self_mm", "MMIM": "mmim",
    "ours": "ufen_mtfn",
}  # fmt: skip


def spec(name, counts=None, **changes):
    made = DatasetSpec(
        name=name,
        modalities={m: ModalitySpec(3, 5) for m in MODALITIES},
        label_range=(-1, 1) if name == "sims" else (-3, 3),
        metrics="sims" if name == "sims" else "mosi",
        counts=dict(zip(("train", "valid", "test"), counts or COUNTS[name], strict=True)),
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("model", MODELS)
def test_targets_use_our_metric_names_and_are_fractions(name, model):
    target = targets.target_for(spec(name), {"name": model, "task": "regression", "fg": "none"})
    assert bool(target) == (model in ROWS.values())
    assert set(target) <= set(metrics.REGRESSION_KEYS[spec(name).metrics])
    assert all(0 < value < 1 for value in target.values())


def test_a_baseline_is_not_measured_by_another_model():
    assert targets.target_for(spec("mosi"), {"name": "ufen_mtfn"})["mae"] == 0.728
    assert targets.target_for(spec("mosi"), {"name": "mult"})["mae"] == 0.861
    assert "acc2_has0" not in targets.target_for(spec("mosi"), {"name": "tfn"}), "it has no such figure"
    assert targets.target_for(spec("mosi"), {"name": "tmt"}) == {}


def test_what_the_article_did_not_run_has_no_target():
    model = {"name": "mult", "task": "regression", "fg": "none"}
    assert targets.target_for(spec("mosi"), {**model, "task": "classification"}) == {}
    assert targets.target_for(spec("mosi"), {**model, "fg": "both"}) == {}
    assert targets.target_for(spec("sims", synthetic=True), model) == {}


def test_the_data_tells_what_it_is_and_not_its_name():
    model = {"name": "mult"}
    assert targets.target_for(spec("mosi", (500, 100, 100)), model) == {}
    renamed = dataclasses.replace(spec("mosi"), name="my copy")
    assert targets.target_for(renamed, model) == targets.target_for(spec("mosi"), model) != {}


def test_targets_cannot_be_changed_by_a_caller():
    targets.target_for(spec("mosi"), {"name": "ufen_mtfn"})["mae"] = 0.0
    assert targets.target_for(spec("mosi"), {"name": "ufen_mtfn"})["mae"] == 0.728


def test_targets_equal_the_recovered_tables(shared_data):
    path = shared_data.parent / "reference/cai2025_targets.json"
    if not path.is_file():
        pytest.skip("the recovered tables are not beside this checkout")
    printed = json.loads(path.read_text())
    names = {
        "acc2_neg_nonneg": "acc2_has0",
        "acc2_neg_pos": "acc2_non0",
        "f1_neg_nonneg": "f1_has0",
        "f1_neg_pos": "f1_non0",
    }
    for table, dataset in (("table3_mosi", "mosi"), ("table4_mosei", "mosei"), ("table5_sims", "sims")):
        assert printed[table].keys() == ROWS.keys()
        for row, values in printed[table].items():
            expected = {
                names.get(key, key): value if key in ("mae", "corr") else value / 100
                for key, value in values.items()
                if value is not None
            }
            assert targets.target_for(spec(dataset), {"name": ROWS[row]}) == pytest.approx(expected)
