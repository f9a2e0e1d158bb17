"""The list of slow tests names tests, and leaves something of every room and model to the fast tier."""

import ast
import pathlib

import pytest
import tiers

from msa_jax import models

TESTS = pathlib.Path(__file__).parent


def marks_of(file: str) -> dict[str, bool]:
    """The tests of a file, and whether each carries the marker ``slow`` in its own decorators."""
    found = {}
    for node in ast.walk(ast.parse((TESTS.parent / file).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found[node.name] = any("mark.slow" in ast.unparse(mark) for mark in node.decorator_list)
    return found


LISTED = [test.split("::") for test in tiers.listed()]


def test_every_listed_test_is_there():
    assert [(file, name) for file, name in LISTED if name not in marks_of(file)] == []


def test_the_files_that_go_first_are_there():
    assert [file for file in tiers.LONGEST if not (TESTS.parent / file).is_file()] == []


ROOMS = sorted({path.parent.name for path in TESTS.glob("*/test_*.py")})


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_keeps_fast_tests(room):
    files = [f"tests/{room}/{path.name}" for path in (TESTS / room).glob("test_*.py")]
    fast = [
        (file, name)
        for file in files
        for name, marked in marks_of(file).items()
        if not marked and [file, name] not in LISTED
    ]
    assert len(fast) >= 3


def test_the_outputs_of_every_model_with_a_public_class_are_compared_in_the_fast_tier():
    import test_parity

    compared = {test_parity.parity_models.our_name(name) for name in test_parity.FILES.values()}
    assert set(models.MODELS) - {"ufen_mtfn"} <= compared
    assert set(tiers.KEPT) == {"tests/test_parity.py::test_outputs_are_equal"}
    assert not set(tiers.KEPT) & set(tiers.listed())


def test_what_takes_long_is_listed():
    durations = """
    2.00s call     tests/a_test.py::test_sum[case one]
    0.50s setup    tests/a_test.py::test_sum[case one]
    0.70s call     tests/a_test.py::test_sum[case two]
    2.90s call     tests/a_test.py::test_quick
    9.00s call     tests/test_parity.py::test_outputs_are_equal[tfn_a.npz]
    """
    assert tiers.over_limit(durations, 1.0) == ["tests/a_test.py::test_sum"]
    assert tiers.over_limit(durations, 0.5) == []
    assert tiers.over_limit(durations, 2.0) == ["tests/a_test.py::test_quick", "tests/a_test.py::test_sum"]
