"""The calls behind ``ioreport``: Core Foundation and libIOReport by ctypes, on a Mac only."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coreml_lab.errors import ProbeError

GROUP = "Energy Model"
UTF8 = 0x08000100
# struct IOReportElement in XNU's IOReportTypes.h: its time stamp, in mach ticks.
STAMP, ELEMENT = 24, 32
_TEXT = 256
P, I64, U64 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64
Q = ctypes.c_long

# Library, function, result, arguments.
_CALLS: tuple[tuple[str, str, Any, list[Any]], ...] = (
    ("cf", "CFStringCreateWithCString", P, [P, ctypes.c_char_p, ctypes.c_uint32]),
    ("cf", "CFStringGetCString", ctypes.c_bool, [P, ctypes.c_char_p, Q, ctypes.c_uint32]),
    ("cf", "CFDictionaryGetValue", P, [P, P]),
    ("cf", "CFDictionaryCreateMutableCopy", P, [P, Q, P]),
    ("cf", "CFArrayGetCount", Q, [P]),
    ("cf", "CFArrayGetValueAtIndex", P, [P, Q]),
    ("cf", "CFDataGetBytePtr", P, [P]),
    ("cf", "CFDataGetLength", Q, [P]),
    ("cf", "CFRelease", None, [P]),
    ("ior", "IOReportCopyChannelsInGroup", P, [P, P, U64, U64, U64]),
    ("ior", "IOReportCreateSubscription", P, [P, P, ctypes.POINTER(P), U64, P]),
    ("ior", "IOReportCreateSamples", P, [P, P, P]),
    ("ior", "IOReportChannelGetChannelName", P, [P]),
    ("ior", "IOReportChannelGetUnitLabel", P, [P]),
    ("ior", "IOReportSimpleGetIntegerValue", I64, [P, ctypes.c_int]),
)


@dataclass(frozen=True)
class Value:
    """What a channel says.

    Attributes:
        name: its own name, such as ``GPU Energy``; the two dies of an Ultra may share one.
        amount: in ``unit``.
        published_ns: when the driver made it; None where the channel does not tell.
    """

    name: str
    unit: str
    amount: int
    published_ns: int | None


class _Timebase(ctypes.Structure):
    """mach_timebase_info: nanoseconds per tick as a fraction."""

    _fields_ = (("numerator", ctypes.c_uint32), ("denominator", ctypes.c_uint32))


class Libraries:
    """The three libraries, with the types of what is called."""

    def __init__(self) -> None:
        frameworks = "/System/Library/Frameworks"
        try:
            self.cf = ctypes.CDLL(f"{frameworks}/CoreFoundation.framework/CoreFoundation")
            self.ior = ctypes.CDLL("/usr/lib/libIOReport.dylib")
            self.system = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        except OSError as error:
            raise ProbeError(f"IOReport is not here: {error}") from error
        for library, name, result, arguments in _CALLS:
            call = getattr(getattr(self, library), name)
            call.restype, call.argtypes = result, arguments


class Subscription:
    """A subscription to all channels of the group; names and units are asked once."""

    def __init__(self, libraries: Any = None) -> None:
        self._at = Libraries() if libraries is None else libraries
        self._ticks = _Timebase()
        self._at.system.mach_timebase_info(ctypes.byref(self._ticks))
        group = self._text(GROUP)
        channels = self._at.ior.IOReportCopyChannelsInGroup(group, None, 0, 0, 0)
        if not channels:
            raise ProbeError(f"IOReport has no group {GROUP!r} here: usual in virtual machines")
        self._wanted = self._at.cf.CFDictionaryCreateMutableCopy(None, 0, channels)
        self._given = P()
        self._subscription = self._at.ior.IOReportCreateSubscription(
            None, self._wanted, ctypes.byref(self._given), 0, None
        )
        if not self._subscription:
            raise ProbeError("IOReport refuses the subscription to its energy channels")
        self._channels_key, self._raw_key = (
            self._text("IOReportChannels"),
            self._text("RawElements"),
        )
        self._names: list[tuple[str, str]] = []

    def sample(self) -> Sequence[Value]:
        """Every channel's value now."""
        taken = self._at.ior.IOReportCreateSamples(self._subscription, self._wanted, None)
        if not taken:
            raise ProbeError("IOReport gives no sample")
        try:
            channels = self._at.cf.CFDictionaryGetValue(taken, self._channels_key)
            count = self._at.cf.CFArrayGetCount(channels) if channels else 0
            items = [self._at.cf.CFArrayGetValueAtIndex(channels, i) for i in range(count)]
            if len(self._names) != count:
                self._names = [self._named(item) for item in items]
            return [
                Value(
                    *named, self._at.ior.IOReportSimpleGetIntegerValue(item, 0), self._stamp(item)
                )
                for item, named in zip(items, self._names, strict=True)
            ]
        finally:
            self._at.cf.CFRelease(taken)

    def _named(self, item: int) -> tuple[str, str]:
        name = self._read(self._at.ior.IOReportChannelGetChannelName(item))
        return name, self._read(self._at.ior.IOReportChannelGetUnitLabel(item)).strip()

    def _stamp(self, item: int) -> int | None:
        """When the driver made the number, in nanoseconds of the machine's monotonic clock."""
        raw = self._at.cf.CFDictionaryGetValue(item, self._raw_key)
        if not raw or self._at.cf.CFDataGetLength(raw) < ELEMENT:
            return None
        start = self._at.cf.CFDataGetBytePtr(raw)
        ticks = U64.from_address(start + STAMP).value
        return ticks * self._ticks.numerator // self._ticks.denominator if ticks else None

    def _text(self, text: str) -> int:
        made: int = self._at.cf.CFStringCreateWithCString(None, text.encode(), UTF8)
        return made

    def _read(self, reference: int) -> str:
        kept = ctypes.create_string_buffer(_TEXT)
        told = reference and self._at.cf.CFStringGetCString(reference, kept, _TEXT, UTF8)
        return kept.value.decode(errors="replace") if told else ""
