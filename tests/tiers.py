"""Which tests are slow: those of tests/slow_tests.txt, beside those that carry the marker themselves.

The fast tier must end within five minutes on two cores, and most of what tests do is to compile. So that
the list follows what was measured, it is made of a run of everything:

    pytest -n 2 -m "not extras" --durations=0 --durations-min=0.1 > durations.txt
    python tests/tiers.py durations.txt

A parametrised test goes by the sum of its cases, for it is a case per model that makes the suite long.
What begins with ``pytest_`` is a hook for tests/conftest.py.
"""

import collections
import pathlib
import re
import sys
from typing import Any

import pytest

LIST = pathlib.Path(__file__).with_name("slow_tests.txt")
#: Seconds on a quiet core.
LIMIT = 3.0
#: Fast whatever they take: every model's outputs are held against its public original.
KEPT = ("tests/test_parity.py::test_outputs_are_equal",)
#: Files with tests of a minute or more, which go first: a process that has nothing left takes short tests of
#: another, but not the one that runs there nor the one behind it.
LONGEST = (
    "tests/test_wheel.py",
    "tests/studies/test_ray.py",
    "tests/launch/test_distributed.py",
    "tests/test_doc_commands.py",
    "tests/training/test_seeds.py",
    "tests/training/test_resume.py",
    "tests/tuning/test_command.py",
    "tests/export/test_exported_models.py",
    "tests/media/test_extract.py",
)
HEAD = f"# Tests that took more than {LIMIT:g} seconds, all cases together; made by tests/tiers.py.\n"


def listed() -> list[str]:
    """The slow tests, as ``FILE::NAME``."""
    return [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = set(listed())
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(LONGEST)))
    for item in items:
        if item.nodeid.partition("[")[0] in slow:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Lets a process that has nothing left take tests of another."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def over_limit(durations: str, factor: float) -> list[str]:
    """The slow tests of a run, by what ``--durations=0`` printed, each second counted ``factor``."""
    seconds: collections.Counter[str] = collections.Counter()
    line = r"^\s*([\d.]+)s (?:call|setup|teardown)\s+(\S+?)(?:\[|\s|$)"
    for number, test in re.findall(line, durations, re.MULTILINE):
        seconds[test] += float(number) * factor
    return sorted(test for test, total in seconds.items() if total > LIMIT and test not in KEPT)


def main(path: str, factor: str = "1") -> None:
    """Writes the list anew; factor: below 1 where the machine was busy."""
    tests = over_limit(pathlib.Path(path).read_text(), float(factor))
    LIST.write_text(HEAD + "".join(f"{test}\n" for test in tests))


if __name__ == "__main__":
    main(*sys.argv[1:])
