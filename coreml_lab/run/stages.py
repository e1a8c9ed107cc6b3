"""How long the steps of loading a program take: kept while somebody collects them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from coreml_lab.circumstances import Stage

P = ParamSpec("P")
R = TypeVar("R")

_stages: ContextVar[list[Stage] | None] = ContextVar("stages", default=None)


def current() -> tuple[Stage, ...]:
    """What was kept so far of the loading that is under way; nothing outside of one."""
    return tuple(_stages.get() or ())


def collecting(function: Callable[P, R]) -> Callable[P, R]:
    """Steps inside a call of ``function`` are kept: for whoever is around, or anew."""

    @functools.wraps(function)
    def collected(*args: P.args, **kwargs: P.kwargs) -> R:
        if _stages.get() is not None:
            return function(*args, **kwargs)
        token = _stages.set([])
        try:
            return function(*args, **kwargs)
        finally:
            _stages.reset(token)

    return collected


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """A step, also as a decorator; the time of steps inside it is theirs, not its own."""
    kept = _stages.get()
    if kept is None:
        yield
        return
    before, start = len(kept), time.monotonic_ns()
    try:
        yield
    finally:
        inside = sum(stage.duration_ns for stage in kept[before:])
        kept.insert(before, Stage(name, start, time.monotonic_ns() - start - inside))
