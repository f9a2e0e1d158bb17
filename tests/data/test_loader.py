"""Plans, buckets and sources: every clip once, few shapes, exact resumption, nothing read from padding."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh

from msa_jax.data.dataset import Split
from msa_jax.data.loader import Plan, Source, batch_of, bucket_shapes, clip_lengths
from msa_jax.data.preprocess import Preprocess
from msa_jax.data.spec import MODALITIES, DatasetSpec, ModalitySpec

WIDTHS = {"text": 4, "audio": 3, "vision": 2}


def random_lengths(n, seed=0, longest=(9, 30, 12)):
    rng = np.random.default_rng(seed)
    share = rng.beta(2, 4, size=(n, 1))
    return np.maximum((share * np.array(longest)).round().astype(int), 1)


def make_split(lengths, seed=0, padding=np.nan):
    """Clips whose padding holds ``padding``, so that reading it shows."""
    rng = np.random.default_rng(seed)
    n = len(lengths)
    values = {}
    for column, m in enumerate(MODALITIES):
        steps = lengths[:, column].max()
        x = rng.normal(size=(n, steps, WIDTHS[m])).astype(np.float32)
        x[np.arange(steps)[None] >= lengths[:, column][:, None]] = padding
        values[m] = x
    return Split(
        ids=np.array([f"clip{i}" for i in range(n)]),
        values=values,
        lengths={m: lengths[:, i].astype(np.int32) for i, m in enumerate(MODALITIES)},
        labels={"M": rng.normal(size=n).astype(np.float32)},
        tokens=np.arange(n * 3 * lengths[:, 0].max(), dtype=np.int32).reshape(n, 3, -1),
    )


def spec_of(split, **fitted):
    return DatasetSpec(
        name="toy",
        modalities={
            m: ModalitySpec(width=WIDTHS[m], length=split.values[m].shape[1], **fitted.get(m, {}))
            for m in MODALITIES
        },
        label_range=(-1, 1),
        metrics="sims",
    )


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("data",))


@settings(max_examples=40)
@given(
    n=st.integers(1, 120),
    batch=st.integers(1, 17),
    chunk=st.integers(1, 5),
    buckets=st.integers(1, 5),
    multiple=st.sampled_from([1, 2, 8]),
    grouped=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_every_clip_comes_once_in_a_shape_that_fits(n, batch, chunk, buckets, multiple, grouped, epoch):
    lengths = random_lengths(n, seed=n)
    shapes = bucket_shapes(lengths, buckets, batch)
    assert len(shapes) <= buckets
    plan = Plan(lengths, shapes, batch, chunk, multiple)
    for chunks in (plan.epoch(3, epoch, grouped), plan.once()):
        seen = []
        for c in chunks:
            assert c.shape in shapes
            assert c.index.shape == c.weight.shape == (chunk, plan.rows)
            assert plan.rows % multiple == 0
            real = c.weight > 0
            assert (lengths[c.index[real]] <= np.array(c.shape)).all()
            assert real[: c.steps].any(axis=1).all()
            assert not real[c.steps :].any()
            seen.extend(c.index[real])
        assert sorted(seen) == list(range(n))
        assert sum(c.steps for c in chunks) == plan.steps()


@settings(max_examples=60)
@given(
    n=st.integers(1, 150),
    batch=st.integers(1, 9),
    buckets=st.integers(1, 5),
    grouped=st.booleans(),
    epoch=st.integers(0, 3),
    place=st.floats(0, 1),
)
def test_the_order_of_batches_knows_neither_chunks_nor_devices(n, batch, buckets, grouped, epoch, place):
    """From any batch on, any machine sees what is left of the epoch, in the same order and shapes."""
    lengths = random_lengths(n, seed=n)
    shapes = bucket_shapes(lengths, buckets, batch)
    orders = []
    for chunk, devices in itertools.product((1, 3, 8), (1, 2, 8)):
        plan = Plan(lengths, shapes, batch, chunk, devices)
        order = plan.order(7, epoch, grouped)
        start = int(place * len(order))
        left = [
            (c.shape, tuple(c.index[step][c.weight[step] > 0]))
            for c in plan.chunks(order[start:])
            for step in range(c.steps)
        ]
        orders.append([(step.shape, tuple(step.rows)) for step in order[:start]] + left)
    assert all(order == orders[0] for order in orders)
    assert sorted(row for _, rows in orders[0] for row in rows) == list(range(n))


def test_batches_of_like_shape_come_in_runs_that_fill_chunks():
    lengths = random_lengths(2000)
    plan = Plan(lengths, bucket_shapes(lengths, 3, 4), 4, 8)
    chunks = plan.epoch(0, 0, True)
    assert len(chunks) <= plan.steps() / 8 + 2 * len(plan.shapes)
    assert len({c.shape for c in chunks}) == 3


def test_the_epoch_follows_from_seed_and_number_alone():
    lengths = random_lengths(50)
    plans = [Plan(lengths, bucket_shapes(lengths, 3, 8), 8, 2) for _ in range(2)]

    def order(plan, seed, epoch):
        return np.concatenate([c.index.ravel() for c in plan.epoch(seed, epoch, True)])

    assert (order(plans[0], 1, 5) == order(plans[1], 1, 5)).all()
    assert (order(plans[0], 1, 5) != order(plans[0], 1, 6)).any()
    assert (order(plans[0], 1, 5) != order(plans[0], 2, 5)).any()


@pytest.mark.parametrize("batch", [1, 8, 100])
def test_buckets_waste_no_more_than_any_other_choice(batch):
    lengths = random_lengths(60, seed=4)
    grid = np.unique(np.quantile(lengths, np.linspace(0.05, 1, 20), axis=0, method="higher"), axis=0)

    def padded_steps(shapes):
        chunks = Plan(lengths, [tuple(map(int, shape)) for shape in shapes], batch, 1).epoch(0, 0, True)
        return sum(sum(chunk.shape) for chunk in chunks)

    for count in (1, 2, 3):
        best = min(padded_steps([*some, grid[-1]]) for some in itertools.combinations(grid[:-1], count - 1))
        assert padded_steps(bucket_shapes(lengths, count, batch)) == best


def test_buckets_of_clips_of_one_length_are_one():
    assert bucket_shapes(np.full((5, 3), 7), 4, 2) == [(7, 7, 7)]


def test_an_empty_modality_still_has_one_step():
    lengths = np.array([[3, 0, 2], [2, 0, 1]])
    assert all(shape[1] == 1 for shape in bucket_shapes(lengths, 2, 1))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("read", [None, (3, 12, 4)], ids=["whole", "first_steps"])
def test_batches_hold_the_clips_and_never_their_padding(resident, read):
    split = make_split(random_lengths(23))
    lengths = clip_lengths(split, read)
    source = Source(split, Preprocess(spec_of(split), "none"), one_device(), resident)
    plan = Plan(lengths, bucket_shapes(lengths, 3, 4), 4, 2)
    if read is not None:
        assert plan.shapes[-1] == read
        assert (random_lengths(23) > read).any(axis=0).all()
    seen = 0
    for chunk, items in source.items(plan.epoch(0, 0, True)):
        for step in range(chunk.steps):
            item = jax.tree.map(lambda x, step=step: x[step], items)
            batch = batch_of(source.table, item, chunk.shape)
            for row, clip in enumerate(chunk.index[step]):
                for m, steps in zip(MODALITIES, chunk.shape, strict=True):
                    expected = np.zeros((steps, WIDTHS[m]), np.float32)
                    real = min(split.lengths[m][clip], steps if read else 99)
                    expected[:real] = split.values[m][clip, :real]
                    np.testing.assert_array_equal(batch.values[m][row], expected)
                    np.testing.assert_array_equal(batch.mask[m][row], np.arange(steps) < real)
                assert batch.labels["M"][row] == split.labels["M"][clip]
                np.testing.assert_array_equal(batch.tokens[row], split.tokens[clip, :, : chunk.shape[0]])
            seen += int(batch.weight.sum())
    assert seen == len(split)


def test_streamed_rows_are_spread_over_devices():
    lengths = random_lengths(16)
    split = make_split(lengths)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    source = Source(split, Preprocess(spec_of(split), "none"), mesh, resident=False)
    plan = Plan(lengths, bucket_shapes(lengths, 1, 8), 8, 1, row_multiple=8)
    for chunk, (rows, table) in source.items(plan.once()):
        assert table.values["audio"].sharding.shard_shape(table.values["audio"].shape)[1] == 1
        np.testing.assert_array_equal(rows[0], chunk.index)


def test_scaling_uses_the_training_statistics_and_keeps_padding_zero():
    lengths = random_lengths(10)
    split = make_split(lengths, padding=1e9)
    fitted = {"audio": {"mean": (1.0, 2.0, 3.0), "std": (2.0, 2.0, 2.0)}}
    fitted |= {m: {"mean": (0.0,) * WIDTHS[m], "std": (1.0,) * WIDTHS[m]} for m in ("text", "vision")}
    scale = Preprocess(spec_of(split, **fitted), "zscore_train")
    out = scale("audio", split.values["audio"], split.lengths["audio"])
    real = np.arange(out.shape[1])[None] < split.lengths["audio"][:, None]
    np.testing.assert_allclose(out[real], (split.values["audio"][real] - [1, 2, 3]) / 2, rtol=1e-6)
    assert (out[~real] == 0).all()


def test_an_error_while_streaming_reaches_the_caller():
    lengths = random_lengths(8)
    split = make_split(lengths)
    source = Source(split, Preprocess(spec_of(split), "none"), one_device(), resident=False)
    plan = Plan(lengths, bucket_shapes(lengths, 1, 4), 4, 1)
    chunks = plan.once()
    chunks[1].index[:] = 99
    with pytest.raises(IndexError):
        list(source.items(chunks))
