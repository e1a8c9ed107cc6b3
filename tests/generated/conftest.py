"""Generated cases run without coverage's tracing, which would take as long again as they do.

They are most of the suite's tests, and run the same lines for one operation and type after another.
Lines that nothing else runs are missing from the report, which has to reach its share without them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """No trace function from a test's set-up to its tear-down (pytest-cov's ``no_cover`` costs as
    much as it saves)."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)
