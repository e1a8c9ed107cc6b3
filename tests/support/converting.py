"""coremltools' conversion, as its users call it, in a process that has run thousands of tests."""

from __future__ import annotations

from typing import Any


def convert(*given: Any, **more: Any) -> Any:
    """``coremltools.convert``; its full collection leaves out what was there before.

    The heap of all tests' libraries takes a quarter of a second to go through, each time.
    """
    from coreml_lab.program import heap
    from coreml_lab.program.mil.tools import ct

    with heap.apart():
        return ct.convert(*given, **more)
