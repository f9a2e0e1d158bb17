"""A skip that no marker announces is a failure, and so is every skip under ``-m extras``."""

import pathlib
import re
import subprocess
import sys

import pytest
import skips

#: One test of each kind.
TESTS = """
import pytest

def test_unmarked():
    pytest.importorskip("nowhere_to_be_found")

@pytest.mark.extras
def test_marked():
    pytest.importorskip("nowhere_to_be_found")

@pytest.mark.extras
@pytest.mark.skipif(True, reason="needs a browser")
def test_conditional():
    pass

@pytest.mark.extras
def test_data():
    pytest.skip("{elsewhere}")

@pytest.mark.xfail(reason="known")
def test_expected():
    raise AssertionError
"""


def outcomes(folder: pathlib.Path, content: str, *options: str) -> dict[str, str]:
    """What pytest says of each test of a file, and of the file where it fails as a whole."""
    (folder / "conftest.py").write_text("from skips import *\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = extras: of this test\n")
    (folder / "test_it.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options]
    place = {"PYTHONPATH": str(pathlib.Path(skips.__file__).parent), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=place)
    lines = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL) test_it\.py(?:::(\w+))?", done.stdout, re.M)
    lines += [
        ("SKIPPED", name) for name in re.findall(r"^SKIPPED \[\d+\] test_it\.py:\d+: (.*)", done.stdout, re.M)
    ]
    return {name: word for word, name in lines}


def test_without_the_packages(tmp_path):
    found = outcomes(tmp_path, TESTS.format(elsewhere=skips.ELSEWHERE[0]))
    skipped = {name for name, word in found.items() if word == "SKIPPED"}
    assert {name: word for name, word in found.items() if word != "SKIPPED"} == {
        "test_unmarked": "FAILED",
        "test_expected": "XFAIL",
    }
    assert skipped == {
        "could not import 'nowhere_to_be_found': No module named 'nowhere_to_be_found'",
        "needs a browser",
        skips.ELSEWHERE[0],
    }


def test_under_m_extras(tmp_path):
    found = outcomes(tmp_path, TESTS.format(elsewhere=skips.ELSEWHERE[0]), "-m", "extras")
    assert found == {
        "test_marked": "FAILED",
        "test_conditional": "ERROR",  # as pytest calls a failure before the test itself
        skips.ELSEWHERE[0]: "SKIPPED",
    }


@pytest.mark.parametrize("options", [(), ("-m", "extras")])
def test_a_file_that_is_skipped_as_a_whole_is_an_error(tmp_path, options):
    content = 'import pytest\npytest.importorskip("nowhere_to_be_found")\ndef test_it(): pass\n'
    assert outcomes(tmp_path, content, *options) == {"": "ERROR"}
