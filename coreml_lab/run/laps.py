"""Where the time of one inference goes: engines say ``lap`` after each part of their work.

Nobody listens, mostly: then it costs one look at ``on``. The whole of an engine's work that says
nothing is kept as one part.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

from coreml_lab.circumstances import Split

# Parts that an engine leaves undivided, and what is ours around it.
WHOLE, OURS = "engine", "binding"
on = 0
_lock = threading.Lock()


class _Here(threading.local):
    watch: Watch | None = None


_here = _Here()


class Watch:
    """Adds up the parts of one inference."""

    def __init__(self) -> None:
        self.parts: dict[str, int] = defaultdict(int)
        self.start_ns = self.last_ns = time.monotonic_ns()

    def lap(self, name: str) -> None:
        """What passed since the last lap was spent on ``name``."""
        now = time.monotonic_ns()
        self.parts[name] += now - self.last_ns
        self.last_ns = now

    @property
    def split(self) -> Split:
        """What was found, once it is over."""
        return Split(self.start_ns, self.last_ns - self.start_ns, dict(self.parts))


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Listen to this thread's laps; what is left at the end is ours."""
    global on  # noqa: PLW0603 - looked at by every run: nothing is faster
    with _lock:
        on += 1
    _here.watch = watch = Watch()
    try:
        yield watch
        watch.lap(OURS)
    finally:
        _here.watch = None
        with _lock:
            on -= 1


def lap(name: str) -> None:
    """What passed since the last lap of this thread was spent on ``name``."""
    if not on:
        return
    if _here.watch is not None:
        _here.watch.lap(name)


def told(parts: Mapping[str, int], rest: str) -> None:
    """Parts that were measured elsewhere, within what passed since the last lap; ``rest``: more."""
    watch = _here.watch
    if watch is None:
        return
    begun = watch.last_ns
    watch.lap(rest)
    left = watch.last_ns - begun
    for name, spent in parts.items():
        part = min(spent, left)
        watch.parts[name] += part
        watch.parts[rest] -= part
        left -= part


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """An engine's work: undivided where it says nothing itself."""
    watch = _here.watch
    if watch is None:
        yield
        return
    watch.lap(OURS)
    before = dict(watch.parts)
    yield
    watch.lap(WHOLE if watch.parts == before else OURS)
