"""Preprocessing: reduction, cleaning and scaling, the same in NumPy for training and in JAX for exports."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import SPEC, dataset

from msa_jax.configuration import load
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.preprocess import REDUCTIONS, SCALINGS, Preprocess, preprocess_for, reduced_spec
from msa_jax.data.spec import MODALITIES, ModalitySpec
from msa_jax.data.tokenize import TokenSource
from msa_jax.errors import ConfigError

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "mosi.py")


def reduced(reduce: str, compat: bool = False) -> Dataset:
    return Preprocess(SPEC, reduce=reduce, compat=compat).prepare(dataset())


def test_the_mean_is_over_real_steps_or_over_all_as_in_the_toolkit():
    train = reduced("mean").splits["train"]
    # A broken value counts as 0, by the package's rule.
    np.testing.assert_allclose(train.values["audio"][:, 0, 0], [2, 2.5, 2.5])
    np.testing.assert_array_equal(train.values["vision"], 0)
    assert {m: train.lengths[m].tolist() for m in ("audio", "vision")} == {
        "audio": [1] * 3,
        "vision": [1] * 3,
    }
    peer = reduced("mean", compat=True).splits["train"]
    np.testing.assert_allclose(peer.values["audio"][:, 0, 0], np.array([8, 10, 10]) / 6)


def test_aligned_modalities_have_the_texts_steps():
    found = reduced("align")
    train = found.splits["train"]
    np.testing.assert_allclose(train.values["audio"][1, :, 0], [1.5, 2.5, 3.5])
    np.testing.assert_allclose(train.values["audio"][2, :, 0], [2.5, 0, 0])
    for m in ("audio", "vision"):
        np.testing.assert_array_equal(train.lengths[m], train.lengths["text"])
        assert found.spec.modalities[m].length == 3
    peer = reduced("align", compat=True).splits["train"]
    np.testing.assert_allclose(peer.values["audio"][1, :, 0], [2.5, 1, 1.5])  # (1,4) (2,0) (3,0)
    constant = reduced("mean_align", compat=True).splits["train"]
    np.testing.assert_allclose(constant.values["audio"][1, :, 0], [10 / 6] * 3)
    same = reduced("mean_align").splits["train"]
    np.testing.assert_array_equal(same.values["audio"], train.values["audio"])


def test_nothing_changes_without_a_reduction():
    stored = dataset()
    assert Preprocess(SPEC).prepare(stored) is stored
    assert reduced_spec(SPEC, "none") is SPEC


@st.composite
def clips(draw):
    """Raw clips with broken values, of the widths 2, 3 and 1, and a description with fitted statistics."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n, steps = draw(st.integers(1, 4)), {m: draw(st.integers(1, 7)) for m in MODALITIES}
    values, lengths, modalities = {}, {}, {}
    for m, width in zip(MODALITIES, (2, 3, 1), strict=True):
        x = rng.normal(3, 5, size=(n, steps[m], width)).astype(np.float32)
        for broken in (np.nan, np.inf, -np.inf):
            x[rng.random(x.shape) < 0.05] = broken
        values[m], lengths[m] = x, rng.integers(0, steps[m] + 1, size=n).astype(np.int32)
        mean, std = (tuple(rng.uniform(0.5, 3, size=width)) for _ in range(2))
        groups = {"first": (0,)} if m != "text" else {}
        modalities[m] = ModalitySpec(width, steps[m], groups, mean, std)
    split = Split(np.arange(n).astype(str), values, lengths, {"M": np.zeros(n, np.float32)})
    return Dataset(dataclasses.replace(SPEC, modalities=modalities), {"clips": split})


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("reduce", REDUCTIONS)
@settings(max_examples=15)
@given(stored=clips(), scaling=st.sampled_from(SCALINGS))
def test_training_and_exported_programs_read_the_same(reduce, compat, stored, scaling):
    preprocess = Preprocess(stored.spec, scaling, reduce, compat)
    read, raw = preprocess.prepare(stored).splits["clips"], stored.splits["clips"]
    batch = jax.jit(preprocess.batch)(
        {m: jnp.asarray(x) for m, x in raw.values.items()},
        {m: jnp.asarray(n) for m, n in raw.lengths.items()},
    )
    for m in MODALITIES:
        expected = preprocess(m, read.values[m], read.lengths[m])
        assert expected.dtype == np.float32
        np.testing.assert_allclose(batch.values[m], expected, rtol=1e-5, atol=1e-5)
        real = np.arange(expected.shape[1]) < read.lengths[m][:, None]
        np.testing.assert_array_equal(batch.mask[m], real)
        if not compat:
            assert np.isfinite(expected).all()
            assert not expected[~real].any()


def test_tokens_take_the_place_of_text_features():
    tokens = np.zeros((2, 3, 5), np.int32)
    tokens[0, 1, :4] = tokens[1, 1, :2] = 1
    preprocess = Preprocess(SPEC, tokens=TokenSource("", 10, 5), reduce="align")
    audio = jnp.arange(12, dtype=jnp.float32).reshape(2, 6, 1)
    lengths = {m: jnp.full(2, 6) for m in ("audio", "vision")}
    batch = preprocess.batch({"audio": audio, "vision": audio}, lengths, jnp.asarray(tokens))
    assert batch.values["text"].shape == (2, 5, 0)
    np.testing.assert_array_equal(batch.mask["text"].sum(axis=1), [4, 2])
    np.testing.assert_allclose(batch.values["audio"][1, :, 0], [7, 10, 0, 0, 0])


@pytest.mark.parametrize(
    ("setting", "says"),
    [("data.reduce=means", "did you mean 'mean'"), ("data.feature_norm=zscore", "zscore_train")],
)
def test_an_unknown_setting_is_one_sentence(setting, says):
    config = load(CONFIG, [setting])
    with pytest.raises(ConfigError, match=f"(?i){says}"):
        preprocess_for(config, SPEC, None)
