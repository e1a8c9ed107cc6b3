"""All probes side by side: one row of columns, whatever this machine has or lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from coreml_lab.errors import ProbeError
from coreml_lab.probes.protocol import NAN, Channel, Probe, Target, unavailable


class Panel:
    """The opened probes, read together.

    A probe that cannot be opened leaves *unavailable* columns with its reason; one that fails
    later leaves NaN.
    """

    def __init__(self, target: Target, probes: Iterable[Callable[[], Probe]]) -> None:
        self._slots = tuple(_Slot(make(), target) for make in probes)
        self.channels: tuple[Channel, ...] = tuple(c for slot in self._slots for c in slot.channels)

    def read(self, now_ns: int) -> list[float]:
        """One value per channel."""
        values: list[float] = []
        for slot in self._slots:
            values += slot.read(now_ns)
        return values


class _Slot:
    """One probe's place in the row: a slow probe's last values stand until its next reading."""

    def __init__(self, probe: Probe, target: Target) -> None:
        self._probe = probe
        self._due_ns: int | None = None
        try:
            self.channels = probe.open(target)
            self._opened = True
        except (OSError, ProbeError) as error:
            self.channels = tuple(unavailable(m, _reason(error)) for m in probe.metrics)
            self._opened = False
        self._nothing = (NAN,) * len(self.channels)
        self._values: Sequence[float] = self._nothing

    def read(self, now_ns: int) -> Sequence[float]:
        if not self._opened or (self._due_ns is not None and now_ns < self._due_ns):
            return self._values
        self._due_ns = now_ns + round(self._probe.period * 1e9)
        try:
            self._values = self._probe.read(now_ns)
        except (OSError, ValueError, ProbeError):  # gone, or not what it was: no reading this time
            self._values = self._nothing
        return self._values


def _reason(error: OSError | ProbeError) -> str:
    if isinstance(error, ProbeError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
