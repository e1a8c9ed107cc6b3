"""What was sampled and is not yet forgotten: one writer, many readers at their own pace."""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice

from coreml_lab.errors import ProbeError
from coreml_lab.measure.framing import Header, Tick
from coreml_lab.probes.protocol import NAN


class Backlog:
    """A bounded log of ticks, kept as bytes until somebody wants them.

    Attributes:
        count: ticks ever taken; a reader's place is such a count.
        failure: why nothing will come any more; None while something may.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self.failure: ProbeError | None = None
        self._header: Header | None = None
        self._records: deque[bytes] = deque(maxlen=most)
        self._changed = threading.Condition()

    def put(self, header: Header, records: list[bytes]) -> None:
        """Add records; their columns are brought into the order of the first ones."""
        with self._changed:
            if self._header is None:
                self._header = header
            elif header is not self._header and header.channels != self._header.channels:
                records = _relaid(records, header, self._header)
            self._records.extend(records)
            self.count += len(records)
            self._changed.notify_all()

    def fail(self, failure: ProbeError | None) -> None:
        """Say that nothing will come any more, and why (None: something may come again)."""
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def after(self, count: int) -> tuple[list[Tick], int, int]:
        """The ticks after the first ``count``, the count now, and how many are forgotten."""
        with self._changed:
            header, now = self._header, self.count
            kept = min(now - count, len(self._records))
            newest_first = list(islice(reversed(self._records), kept))
        ticks = [header.unpack(r) for r in reversed(newest_first)] if header is not None else []
        return ticks, now, now - count - kept

    def wait(self, count: int, timeout: float) -> bool:
        """Wait for a tick after the first ``count``; False where none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self.count > count or self.failure, timeout)
            return self.count > count

    def header(self, timeout: float) -> Header:
        """What the columns are; waits until it is known.

        Raises:
            ProbeError: where it does not become known.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._header or self.failure, timeout)
            if self._header is not None:
                return self._header
        raise self.failure or ProbeError(
            f"the sampling process has said nothing for {timeout:g} s",
            hint="call start() first; is the machine overloaded?",
        )


def _relaid(records: list[bytes], header: Header, wanted: Header) -> list[bytes]:
    """Records with the columns of ``wanted``: a restarted process may see other sensors."""
    place = {channel.metric: i for i, channel in enumerate(header.channels)}
    order = [place.get(channel.metric) for channel in wanted.channels]
    ticks = map(header.unpack, records)
    return [wanted.pack(t.t_ns, [NAN if i is None else t.values[i] for i in order]) for t in ticks]
