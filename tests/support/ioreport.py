"""libIOReport and Core Foundation as tests make them up: objects behind integer handles.

The structure is that of XNU's ``IOReportTypes.h`` as far as it is read: a sample is a dictionary
with ``IOReportChannels``, a channel one with ``RawElements``, whose bytes 24 to 31 are a time.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Channel:
    """One channel: its amount and stamp (in ticks) now; no stamp where the element is short."""

    name: str
    unit: str = "mJ"
    amount: int = 0
    ticks: int | None = 0


@dataclass
class FakeIOReport:
    """All three libraries at once; every object made must be released."""

    channels: Sequence[Channel] = ()
    group: bool = True
    subscribes: bool = True
    samples: bool = True
    alive: dict[int, Any] = field(default_factory=dict)
    buffers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cf = self.ior = self.system = self
        self._next = 1

    def _made(self, thing: Any) -> int:
        self._next += 1
        self.alive[self._next] = thing
        return self._next

    def mach_timebase_info(self, info: Any) -> int:
        info._obj.numerator, info._obj.denominator = 125, 3
        return 0

    def CFStringCreateWithCString(self, _: None, text: bytes, encoding: int) -> int:  # noqa: N802
        return self._made(text.decode())

    def CFStringGetCString(self, handle: int, kept: Any, size: int, encoding: int) -> bool:  # noqa: N802
        kept.value = str(self.alive[handle]).encode()
        return True

    def CFDictionaryCreateMutableCopy(self, _: None, size: int, handle: int) -> int:  # noqa: N802
        return self._made(self.alive[handle])

    def CFDictionaryGetValue(self, handle: int, key: int) -> int | None:  # noqa: N802
        thing, name = self.alive[handle], self.alive[key]
        if name == "IOReportChannels":
            return self._made(list(thing))
        return None if thing.ticks is None else self._made(self._element(thing.ticks))

    def _element(self, ticks: int) -> Any:
        raw = ctypes.create_string_buffer(struct.pack("<24xQ", ticks), 32)
        self.buffers.append(raw)
        return raw

    def CFArrayGetCount(self, handle: int) -> int:  # noqa: N802
        return len(self.alive[handle])

    def CFArrayGetValueAtIndex(self, handle: int, index: int) -> int:  # noqa: N802
        return self._made(self.alive[handle][index])

    def CFDataGetBytePtr(self, handle: int) -> int:  # noqa: N802
        return ctypes.addressof(self.alive[handle])

    def CFDataGetLength(self, handle: int) -> int:  # noqa: N802
        return len(self.alive[handle])

    def CFRelease(self, handle: int) -> None:  # noqa: N802
        del self.alive[handle]

    def IOReportCopyChannelsInGroup(self, group: int, *_: Any) -> int | None:  # noqa: N802
        assert self.alive[group] == "Energy Model"
        return self._made(self.channels) if self.group else None

    def IOReportCreateSubscription(self, *_: Any) -> int | None:  # noqa: N802
        return self._made("subscription") if self.subscribes else None

    def IOReportCreateSamples(self, *_: Any) -> int | None:  # noqa: N802
        return self._made(tuple(self.channels)) if self.samples else None

    def IOReportChannelGetChannelName(self, handle: int) -> int:  # noqa: N802
        return self._made(self.alive[handle].name)

    def IOReportChannelGetUnitLabel(self, handle: int) -> int:  # noqa: N802
        return self._made(f"{self.alive[handle].unit} ")

    def IOReportSimpleGetIntegerValue(self, handle: int, index: int) -> int:  # noqa: N802
        return int(self.alive[handle].amount)


@dataclass
class FakeSystem:
    """libSystem: processes with nanojoules, and kernel variables."""

    nanojoules: dict[int, int] = field(default_factory=dict)
    pervasive: int = 1

    def proc_pid_rusage(self, pid: int, flavor: int, buffer: Any) -> int:
        if pid not in self.nanojoules:
            return -1
        struct.pack_into("<Q", buffer._obj, 336, self.nanojoules[pid])
        return 0

    def sysctlbyname(self, name: bytes, old: Any, size: Any, new: Any, length: Any) -> int:
        if name != b"kern.pervasive_energy":
            return -1
        old._obj.value = self.pervasive
        return 0


Make = Callable[[], Any]
