"""The fine-grained block: what it computes, what it must not mix, and the papers' parameter counts."""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.errors import ConfigError
from msa_jax.nn.fine_grained import FineGrained, GroupedHeadAttention, Join, split_modalities, take_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import LSTM, LSTMInput, LSTMStep

QKV, OVER = ("shared", "per_group"), ("time", "groups")


def count(tree) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def parameters(module, *args) -> int:
    return count(jax.eval_shape(module.init, jax.random.key(0), *args)["params"])


@pytest.mark.parametrize(("n", "h"), [(1, 4), (3, 16), (13, 30)])
def test_parameter_count_is_the_papers(n, h):
    groups = jax.ShapeDtypeStruct((2, n, 5, h), jnp.float32)
    assert parameters(GroupedHeadAttention(), groups) == 3 * h * h + n * h * h + h
    per_group = GroupedHeadAttention(Join("per_group"))
    assert parameters(per_group, groups) == 3 * n * h * h + n * h * h + h


def random_groups(n, steps, h=4):
    return np.random.default_rng(7).normal(size=(2, n, steps, h)).astype(np.float32)


@pytest.mark.parametrize("over", OVER)
def test_one_group_of_one_step_is_linear(over):
    groups = random_groups(1, 1)
    block: Any = GroupedHeadAttention(Join(attend_over=over))
    p = random_params(block, groups)
    expected = groups[:, 0] @ p["value"]["kernel"] @ p["output"]["kernel"] + p["output"]["bias"][None, None]
    np.testing.assert_allclose(jax.jit(block.apply)({"params": p}, groups), expected, atol=1e-5)


def groups_that_heads_read(over, steps):
    """[head, group], True where changing the group changes what W_O is given by the head."""
    groups = random_groups(3, steps)
    block = GroupedHeadAttention(Join(attend_over=over))
    params = random_params(block, groups)

    @jax.jit
    def heads(groups):
        outs = []
        for k in range(3):  # a W_O that hands on head k alone
            own = params | {"output": {"kernel": np.eye(12, 4, -4 * k), "bias": np.zeros(4)}}
            outs.append(block.apply({"params": own}, groups))
        return jnp.stack(outs)  # [head, B, S, h]

    before = np.asarray(heads(groups))
    shift = np.eye(3, dtype=np.float32)[:, None, :, None, None]  # [group, 1, group, 1, 1]
    changes = [np.abs(np.asarray(heads(groups + shift[k])) - before).max((1, 2, 3)) for k in range(3)]
    return np.stack(changes, axis=1) > 1e-6


def test_attention_over_time_never_mixes_groups_before_the_output():
    np.testing.assert_array_equal(groups_that_heads_read("time", 1), np.eye(3, dtype=bool))
    np.testing.assert_array_equal(groups_that_heads_read("time", 3), np.eye(3, dtype=bool))


def test_attention_over_groups_mixes_them_even_at_one_step():
    assert groups_that_heads_read("groups", 1).all()


def test_attention_equals_the_printed_formula():
    groups = random_groups(2, 3)
    block: Any = GroupedHeadAttention()
    p = random_params(block, groups)
    heads = []
    for k in range(2):
        q, key, v = (groups[0, k] @ p[name]["kernel"] for name in ("query", "key", "value"))
        weights = np.exp(q @ key.T / np.sqrt(4))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v)
    expected = np.concatenate(heads, -1) @ p["output"]["kernel"] + p["output"]["bias"]
    np.testing.assert_allclose(jax.jit(block.apply)({"params": p}, groups)[0], expected, atol=1e-5)


def initial(join: Join, n=1, steps=1, h=256):
    """The block's initial parameters, and random groups."""
    groups = np.random.default_rng(5).normal(size=(64, n, steps, h)).astype(np.float32)
    block = GroupedHeadAttention(join)
    return block, jax.jit(block.init)(jax.random.key(3), groups)["params"], groups


@pytest.mark.parametrize(("scale", "kept"), [(1.0, 1 / 3), (3**0.5, 1.0), (2.0, 4 / 3)])
def test_scale_says_how_much_of_a_step_is_left(scale, kept):
    block, params, groups = initial(Join(scale=scale))
    y = jax.jit(block.apply)({"params": params}, groups)
    assert np.std(np.asarray(y), axis=0).mean() == pytest.approx(kept * groups.std(), rel=0.05)


@pytest.mark.parametrize("qkv", QKV)
def test_scale_is_of_values_and_output_alone(qkv):
    _, published, _ = initial(Join(qkv), n=2, h=8)
    _, larger, _ = initial(Join(qkv, scale=2.0), n=2, h=8)
    ratios = jax.tree.map(lambda a, b: np.asarray(b / a), published, larger)
    leaves = jax.tree_util.tree_leaves_with_path(ratios)
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): ratio for path, ratio in leaves}
    scaled = {"value/kernel" if qkv == "shared" else "value_kernels", "output/kernel"}
    assert scaled < found.keys()
    for path, ratio in found.items():
        np.testing.assert_allclose(ratio, 2.0 if path in scaled else 1.0, rtol=1e-5)


def test_the_residual_is_the_mean_of_the_groups():
    groups = random_groups(3, 2)
    block: Any = GroupedHeadAttention(Join(residual=True))
    params = jax.tree.map(np.zeros_like, random_params(block, groups))
    y = jax.jit(block.apply)({"params": params}, groups)
    np.testing.assert_allclose(y, groups.mean(axis=1), atol=1e-6)


def test_the_norm_is_of_every_step():
    groups = random_groups(3, 2)
    block, params, _ = initial(Join(norm=True), n=3, h=4)
    y = np.asarray(jax.jit(block.apply)({"params": params}, groups))
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=-1), 1, atol=0.05)


class Linear(nn.Module):
    """A sub-network as a model would bring it."""

    width: int

    @nn.compact
    def __call__(self, x, mask, train):
        del train
        return Dense(self.width, name="dense")(x), mask


MENDED = Join(scale=1.7, residual=True, norm=True)


@pytest.mark.parametrize("join", [*(Join(qkv, over) for qkv in QKV for over in OVER), MENDED])
def test_padding_changes_nothing(join):
    module = FineGrained(((0, 1), (4, 2)), functools.partial(Linear, 3), join)
    mask = np.array([[True] * 4, [True, False, False, False]])
    x = np.random.default_rng(3).normal(size=(2, 4, 5)).astype(np.float32)
    x[~mask] = np.nan
    params = random_params(module, x, mask)

    @jax.jit
    def run(params, x, mask):
        def loss(params):
            y, _ = module.apply({"params": params}, x, mask)
            return jnp.sum(y**2), y

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, y), gradient = run(params, x, mask)
    longer = np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=np.nan)
    (_, y_2), gradient_2 = run(params, longer, np.pad(mask, ((0, 0), (0, 3))))
    assert not np.asarray(y)[~mask].any()
    np.testing.assert_allclose(y, np.asarray(y_2)[:, :4], atol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_sub_network_sees_its_own_columns():
    module = FineGrained(((3, 4), (0,)), functools.partial(Linear, 2))
    params = random_params(module, np.zeros((1, 2, 5), np.float32), np.ones((1, 2), bool))
    assert params["group_0"]["dense"]["kernel"].shape == (2, 2)
    assert params["group_1"]["dense"]["kernel"].shape == (1, 2)
    np.testing.assert_array_equal(take_columns(jnp.asarray(np.arange(5)), (3, 4)), [3, 4])
    np.testing.assert_array_equal(take_columns(jnp.asarray(np.arange(5)), (4, 0, 2)), [4, 0, 2])


def spec_with(audio=None, vision=None) -> DatasetSpec:
    modalities = {
        "text": ModalitySpec(4, 3),
        "audio": ModalitySpec(4, 3, audio or {}),
        "vision": ModalitySpec(4, 3, vision or {}),
    }
    return DatasetSpec("mine", modalities, (-1.0, 1.0), "sims")


def test_which_modalities_are_split():
    two = {"a": (0, 1), "b": (2, 3)}
    assert split_modalities("none", spec_with()) == ()
    assert split_modalities("both", spec_with(two, two)) == ("audio", "vision")
    assert split_modalities("both", spec_with(audio=two)) == ("audio",)  # MOSEI
    assert split_modalities("vision", spec_with(two, two)) == ("vision",)


@pytest.mark.parametrize(
    ("fg", "groups", "words"),
    [
        ("vision", {"audio": {"a": (0,)}}, ["vision", "mine", "do: audio"]),
        ("both", {}, ["audio and vision", "do: none"]),
        ("booth", {}, ["'both'"]),
    ],
)
def test_splitting_without_groups_is_an_error_that_says_who_has_some(fg, groups, words):
    with pytest.raises(ConfigError) as caught:
        split_modalities(fg, spec_with(**groups))
    for word in words:
        assert word in str(caught.value)


class MeanMlp(nn.Module):
    """The LF-DNN's audio and vision sub-network: BatchNorm, three times Dense."""

    width: int

    @nn.compact
    def __call__(self, x, mask, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(jnp.mean(x, 1, keepdims=True))
        for i in range(3):
            x = nn.relu(Dense(self.width, name=f"dense_{i}")(x))
        return x, mask[:, :1]


SIMS_AUDIO, SIMS_VISION = (1, 20, 12), (8, 280, 6, 340, 40, 35)
MOSEI_AUDIO = (1,) * 8 + (2, 1, 25, 25, 13)


def columns_of(widths):
    ends = np.cumsum(widths)
    return tuple(tuple(range(end - w, end)) for w, end in zip(widths, ends, strict=True))


def lf_dnn_branch(groups, h):
    """LF-DNN: the sub-network once, or in n copies with the attention."""
    x, mask = jax.ShapeDtypeStruct((2, 3, sum(groups)), jnp.float32), jax.ShapeDtypeStruct((2, 3), bool)
    if len(groups) == 1:
        return count(
            jax.eval_shape(lambda x, m: MeanMlp(h).init(jax.random.key(0), x, m, False), x, mask)["params"]
        )
    return parameters(FineGrained(columns_of(groups), functools.partial(MeanMlp, h)), x, mask)


def mfn_branch(groups, h):
    """MFN: the cell once, or n cells with one attention that serves h and c."""

    def cell(width):
        x, state = jax.ShapeDtypeStruct((2, width), jnp.float32), jax.ShapeDtypeStruct((2, h), jnp.float32)
        projected = jax.ShapeDtypeStruct((2, 4 * h), jnp.float32)
        return parameters(LSTMInput(h), x) + parameters(LSTMStep(h), (state, state), projected)

    states = jax.ShapeDtypeStruct((2, len(groups), 1, h), jnp.float32)
    return sum(map(cell, groups)) + (parameters(GroupedHeadAttention(), states) if len(groups) > 1 else 0)


def dense(*widths):
    """Parameters of Dense layers one after the other."""
    return sum((a + 1) * b for a, b in itertools.pairwise(widths))


def lf_dnn_rest(hidden, text_out, fusion):
    """LF-DNN: the text's LSTM and Dense, and the fusion."""
    text, audio, vision = hidden
    x = jax.ShapeDtypeStruct((2, 3, 768), jnp.float32)
    return (
        parameters(LSTM(text), x)
        + dense(text, text_out)
        + dense(audio + vision + text_out, fusion, fusion, 1)
    )


def mfn_rest(hidden, memory, att_1, att_2, gamma_1, gamma_2, out):
    """MFN: the text's cell, two attentions, two gates, and the output."""
    both = 2 * sum(hidden)
    gates = dense(both + memory, gamma_1, memory) + dense(both + memory, gamma_2, memory)
    attentions = dense(both, att_1, both) + dense(both, att_2, memory)
    return mfn_branch((768,), hidden[0]) + attentions + gates + dense(sum(hidden) + memory, out, 1)


SIMS, MOSEI = (SIMS_AUDIO, SIMS_VISION), (MOSEI_AUDIO, (35,))


@pytest.mark.parametrize(
    ("branch", "rest", "hidden", "groups", "base", "split"),
    [
        (lf_dnn_branch, lf_dnn_rest((128, 32, 128), 256, 32), (32, 128), SIMS, 635_821, 959_629),
        (lf_dnn_branch, lf_dnn_rest((128, 32, 128), 128, 128), (32, 128), MOSEI, 572_283, 614_427),
        (mfn_branch, mfn_rest((64, 16, 64), 64, 128, 128, 64, 64, 64), (16, 64), SIMS, 601_505, 726_769),
        (
            mfn_branch,
            mfn_rest((128, 32, 128), 128, 128, 128, 256, 256, 128),
            (32, 128),
            MOSEI,
            1_276_865,
            1_345_505,
        ),
    ],
    ids=["LF-DNN SIMS", "LF-DNN MOSEI", "MFN SIMS", "MFN MOSEI"],
)
def test_totals_of_zheng_et_al(branch, rest, hidden, groups, base, split):
    assert rest + sum(branch((sum(g),), h) for g, h in zip(groups, hidden, strict=True)) == base
    assert rest + sum(branch(g, h) for g, h in zip(groups, hidden, strict=True)) == split


@pytest.mark.parametrize("over", OVER)
def test_weights_are_kept_per_group_or_as_the_mean_of_the_real_steps(over):
    groups, mask = random_groups(3, 4), np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    block: Any = GroupedHeadAttention(Join(attend_over=over))
    variables = {"params": random_params(block, groups)}
    found = block.apply(variables, groups, mask, mutable=["intermediates"])[1]["intermediates"]["attention"]
    weights = np.asarray(found[0].weights)
    if over == "time":
        assert weights.shape == (2, 3, 4, 4)
        np.testing.assert_allclose(weights[0].sum(axis=-1), 1, atol=1e-6)
        assert (weights[0, :, :, 3] == 0).all()
    else:
        changed = np.where(mask[:, None, :, None], groups, 9.0)
        again = block.apply(variables, changed, mask, mutable=["intermediates"])[1]["intermediates"]
        np.testing.assert_allclose(weights, again["attention"][0].weights, atol=1e-6)
        assert weights.shape == (2, 1, 3, 3)
        np.testing.assert_allclose(weights[0].sum(axis=-1), 1, atol=1e-6)
        assert found[0].queries.tolist() == [[True] * 3, [False] * 3]
    assert block.apply(variables, groups, mutable=["intermediates"])[1] == {}
