"""Settings as typed dataclasses: what a type allows, and the way to a block and back."""

import dataclasses
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msa_jax import typed_settings
from msa_jax.errors import ConfigError
from msa_jax.typed_settings import Count, CountOrZero, Factor, Positive, Rate, Share


@dataclasses.dataclass(frozen=True)
class Inner:
    size: Count = 3
    rate: Rate = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    word: Literal["left", "right"] = "left"
    count: Count = 2
    maybe: CountOrZero = 0
    rate: Rate = 0.1
    share: Share = 1.0
    factor: Factor = 0.0
    positive: Positive = 1.0
    free: str = ""
    switch: bool = True
    three: tuple[Count, Count, Count] = (1, 2, 3)
    inner: Inner = Inner()


def block(**changes):
    made = typed_settings.block_of(Outer())
    with made.ignore_type():
        made.update_from_flattened_dict(changes)
    return made


counts, rates = st.integers(1, 99), st.floats(0, 0.99)
VALID = st.builds(
    Outer,
    word=st.sampled_from(["left", "right"]),
    count=counts,
    maybe=st.integers(0, 9),
    rate=rates,
    share=st.floats(0, 1),
    factor=st.floats(0, 1e9),
    positive=st.floats(1e-9, 1e9),
    free=st.text(),
    switch=st.booleans(),
    three=st.tuples(counts, counts, counts),
    inner=st.builds(Inner, size=counts, rate=rates),
)


@given(VALID)
def test_a_block_holds_what_it_was_made_from(settings):
    assert typed_settings.read(Outer, typed_settings.block_of(settings), "model") == settings


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("word", "lef", r"model\.word='lef' is not one of left, right\. Did you mean 'left'\?"),
        ("word", 3, r"model\.word=3 is not one of"),
        ("count", 0, r"model\.count=0 must be at least 1\."),
        ("count", 2.0, r"model\.count=2\.0 must be a whole number\."),
        ("count", True, r"model\.count=True must be a whole number\."),
        ("maybe", -1, r"model\.maybe=-1 must be at least 0\."),
        ("rate", 1.0, r"model\.rate=1\.0 must be at least 0 and below 1\."),
        ("rate", float("nan"), r"model\.rate=nan must be"),
        ("share", 1.01, r"model\.share=1\.01 must be at least 0 and at most 1\."),
        ("factor", float("inf"), r"model\.factor=inf must be at least 0\."),
        ("factor", "much", r"model\.factor='much' must be a number\."),
        ("positive", 0.0, r"model\.positive=0\.0 must be above 0\."),
        ("switch", 1, r"model\.switch=1 must be true or false\."),
        ("three", (1, 2), r"model\.three=\(1, 2\) must be three whole numbers of at least 1\."),
        ("three", (1, 2, 0), r"model\.three=\(1, 2, 0\) must be three whole numbers of at least 1\."),
        ("three", 3, r"model\.three=3 must be three whole numbers"),
        ("inner.size", -2, r"model\.inner\.size=-2 must be at least 1\."),
        ("inner.siz", 2, r"model\.inner\.siz: there is no such key\. Did you mean 'size'\?"),
        ("wrod", "left", r"model\.wrod: there is no such key\. Did you mean 'word'\?"),
    ],
)
def test_what_a_type_does_not_allow_is_named(key, value, words):
    with pytest.raises(ConfigError, match=words):
        typed_settings.read(Outer, block(**{key: value}), "model")


def test_a_whole_number_is_a_number():
    assert typed_settings.read(Outer, block(factor=2), "model").factor == 2


def test_a_block_that_is_older_than_a_field_takes_its_default():
    old = block()
    with old.unlocked():
        del old.maybe, old.inner.rate
    assert typed_settings.read(Outer, old, "model") == Outer()
