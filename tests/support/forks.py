"""Something done in a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_child(work: Callable[[], int]) -> int:
    """The exit status of a child that does it: what it gives, or 1 where it raises."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
