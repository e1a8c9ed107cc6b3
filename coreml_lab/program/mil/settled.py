"""coremltools' packages, waited for until they are whole.

coremltools 9.0 writes a package's list of contents when it frees the object that made it, which is
a local of one function. Whoever holds that function's frame for a moment (a profiler that samples
threads, as Dask's workers have one) delays that, and the next line finds no list: 27 of 40
conversions failed beside a thread that looked every half millisecond.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coreml_lab.clock import SYSTEM

# Seconds between two looks, and nanoseconds after which its absence is left to coremltools to tell.
STEP, PATIENCE_NS = 0.001, 5_000_000_000


def settled(create: Callable[..., str]) -> Callable[..., str]:
    """What makes a package, which returns once its list of contents can be read."""

    @functools.wraps(create)
    def created(*given: Any, **more: Any) -> str:
        path = create(*given, **more)
        end = SYSTEM.now_ns() + PATIENCE_NS
        while not _whole(Path(path)) and SYSTEM.now_ns() < end:
            time.sleep(STEP)
        return path

    return created


def _whole(package: Path) -> bool:
    try:
        json.loads((package / "Manifest.json").read_bytes())
    except (OSError, ValueError):
        return False
    return True
