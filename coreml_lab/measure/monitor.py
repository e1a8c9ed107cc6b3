"""The stream of samples for people: an iterator, an async iterator and a context manager."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, Self

from coreml_lab.errors import ProbeError
from coreml_lab.measure.framing import Tick
from coreml_lab.records import Sample

_PATIENCE = 1.0  # seconds between looks at whether anything can still come
_POLL = 0.02


class Source(Protocol):
    """What a monitor reads from."""

    closed: bool

    @property
    def failure(self) -> ProbeError | None:
        """Why nothing will come any more."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values of a tick."""
        ...

    def read(self) -> list[Tick]:
        """The ticks since the last call."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait for a tick."""
        ...

    def samples(self, tick: Tick) -> tuple[Sample, ...]:
        """A tick as rows."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class Monitor:
    """Sample after sample, all metrics of a tick one after another, from the moment it was opened.

    It ends when it is closed, and lets the sampler go then or when it is forgotten.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows: deque[Sample] = deque()

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics of a tick, in order."""
        return self._source.columns

    def tick(self) -> tuple[Sample, ...]:
        """All samples of the next tick; waits for it.

        Raises:
            ProbeError: where no samples come any more, or the monitor is closed.
        """
        while not self._fetch():
            self._source.wait(_PATIENCE)
        first = self._rows[0].t_ns
        taken: list[Sample] = []
        while self._rows and self._rows[0].t_ns == first:
            taken.append(self._rows.popleft())
        return tuple(taken)

    def close(self) -> None:
        """End the stream."""
        self._rows.clear()
        self._source.close()

    def _fetch(self) -> bool:
        """Whether there are rows; looks for new ones."""
        if self._rows:
            return True
        if self._source.closed:
            raise ProbeError("the monitor is closed", hint="open another: cl.monitor()")
        for tick in self._source.read():
            self._rows.extend(self._source.samples(tick))
        if not self._rows and self._source.failure is not None:
            raise self._source.failure
        return bool(self._rows)

    def __iter__(self) -> Monitor:
        return self

    def __next__(self) -> Sample:
        while not self._source.closed:
            if self._fetch():
                return self._rows.popleft()
            self._source.wait(_PATIENCE)
        raise StopIteration

    def __aiter__(self) -> Monitor:
        return self

    async def __anext__(self) -> Sample:
        while not self._source.closed:
            if self._fetch():
                return self._rows.popleft()
            await asyncio.sleep(_POLL)
        raise StopAsyncIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
