"""Regions: stretches of the user's code that have a name, nested, in any thread or task.

    with cl.region("decode"):
        with cl.region("step"):
            model.predict(inputs)

    @cl.region("tokenize")
    def tokenize(text): ...

They are kept while something is being profiled; otherwise they cost a look at a list.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from coreml_lab.circumstances import Region
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

Watcher = Callable[[Region], None]

# Told of each region that ends, while a profile is open.
WATCHERS: list[Watcher] = []
_numbers = itertools.count()


@dataclass(frozen=True)
class Here:
    """A region that is open: hand it to a thread, as ``cl.region("part", parent=here)``."""

    index: int
    name: str
    start_ns: int
    around: Here | None
    parent: Here | None


# Each thread and each task has its own.
_here: ContextVar[Here | None] = ContextVar("region", default=None)


def current() -> int | None:
    """The number of the innermost open region of this thread or task; None outside of all."""
    here = _here.get()
    return None if here is None else here.index


class region(contextlib.AbstractContextManager["Here"]):  # noqa: N801 - used as a function is
    """A named stretch of code: ``with cl.region("decode"):``, or ``@cl.region("decode")``.

    Args:
        name: what it is called; the same name in the same place is one row of a report.
        parent: the region it belongs to, where that was opened in another thread: what
            ``with cl.region("all") as here:`` gave. Without it, the one around it here.
        clock: the time.

    Raises:
        InputError: for a name that is no text or is empty.
    """

    # Who is told; a subclass may tell others.
    watchers: ClassVar[list[Watcher]] = WATCHERS

    def __init__(self, name: str, *, parent: Here | None = None, clock: Clock = SYSTEM) -> None:
        if type(name) is not str or not name.strip():
            raise InputError(f"region({name!r}): a region has a name", hint='cl.region("decode")')
        self.name = name
        self._parent = parent
        self._clock = clock

    def __enter__(self) -> Here:
        # Nothing is kept on self: one object may be open several times, and in several threads.
        around = _here.get()
        parent = self._parent or around
        here = Here(next(_numbers), self.name, self._clock.now_ns(), around, parent)
        _here.set(here)
        return here

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        here = _here.get()
        if here is None:
            return
        _here.set(here.around)
        if self.watchers:
            spent = self._clock.now_ns() - here.start_ns
            parent = None if here.parent is None else here.parent.index
            thread = threading.current_thread().name
            ended = Region(here.index, here.name, parent, here.start_ns, spent, thread)
            for watch in tuple(self.watchers):
                watch(ended)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function``, each call of which is a region; a coroutine's, until it has finished.

        Raises:
            InputError: for a generator, whose work is done between the steps of its caller.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InputError(
                f"{function.__name__} is a generator: its calls do no work of their own",
                hint=f"inside of it: with cl.region({self.name!r}): … around each piece of work",
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", awaited)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return called
