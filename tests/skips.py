"""Which tests may be skipped, and when.

A test that lacks a package (or a browser) carries the marker ``extras``, or its skip is a failure: so
``-m extras`` is all that need something beside the [test] extra. Who asks for exactly these has the packages,
and there such a skip is a failure, too. Hooks for tests/conftest.py.
"""

from collections.abc import Generator
from typing import Any

import pytest

#: Parts of the reasons that no package would help.
ELSEWHERE = (
    "the shared data folder is not beside this checkout",
    "the recovered tables are not beside this checkout",
    "Windows has no such locks",
    "can only be reset on Linux",
    "this user may not mount a file system",
    "needs more than one device",
    "needs more than one core",
    "on this machine that makes environments",  # a Python that tests/test_wheel.py would install into
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turns the skips that must not be into failures."""
    report = yield
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = str(report.longrepr[-1])
    if any(part in reason for part in ELSEWHERE):
        return report
    if not item.get_closest_marker("extras"):
        report.outcome, report.longrepr = "failed", f"{reason} (a test that may be skipped is marked extras)"
    elif item.config.getoption("markexpr") == "extras":
        report.outcome, report.longrepr = "failed", f"{reason} (-m extras means that nothing is missing)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """A file that is skipped as a whole would take its markers with it."""
    report = yield
    if report.skipped:
        reason = str(report.longrepr[-1])
        report.outcome, report.longrepr = "failed", f"{reason} (skip tests marked extras, not their file)"
    return report
