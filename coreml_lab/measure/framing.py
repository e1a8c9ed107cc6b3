"""The bytes between sampling process and reader: a line of JSON, then records of one size."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from coreml_lab.metrics import Provenance
from coreml_lab.probes.protocol import Channel


@dataclass(frozen=True, slots=True)
class Tick:
    """All values read at one moment; NaN where there was no reading."""

    t_ns: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Header:
    """What the columns of the records are, and how far apart in time they are meant to be."""

    channels: tuple[Channel, ...]
    interval_ns: int

    def to_line(self) -> bytes:
        """The header as the first line of the stream."""
        rows = [(c.metric, c.provenance.value, c.note) for c in self.channels]
        return json.dumps({"channels": rows, "interval_ns": self.interval_ns}).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Header:
        """The header that ``to_line`` wrote."""
        data = json.loads(line)
        channels = (Channel(m, Provenance(p), note) for m, p, note in data["channels"])
        return Header(tuple(channels), data["interval_ns"])

    @cached_property
    def record(self) -> struct.Struct:
        """One record: a monotonic time stamp in nanoseconds and a float per column."""
        return struct.Struct(f"<q{len(self.channels)}d")

    def pack(self, t_ns: int, values: Sequence[float]) -> bytes:
        """A tick as a record."""
        return self.record.pack(t_ns, *values)

    def unpack(self, record: bytes) -> Tick:
        """A record as a tick."""
        t_ns, *values = self.record.unpack(record)
        return Tick(t_ns, tuple(values))


class Decoder:
    """Takes the stream in pieces of any size; gives whole records."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The records that are complete now."""
        self._rest += data
        if self.header is None:
            line, end, rest = self._rest.partition(b"\n")
            if not end:
                return []
            self.header, self._rest = Header.from_line(line), rest
        size = self.header.record.size
        whole = len(self._rest) // size * size
        records = [self._rest[at : at + size] for at in range(0, whole, size)]
        self._rest = self._rest[whole:]
        return records
