"""What GPUs and Core ML's process hold for this one, and how much was copied there and back."""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Sample

LIVE, PEAK = "coreml_lab.device.memory.live", "coreml_lab.device.memory.peak"
UNTOUCHED = "nothing has run on it in this process"
GONE = "its process is not there, or the system does not tell"
_copied: Counter[tuple[str, str]] = Counter()
_readers: dict[str, Callable[[], tuple[float, float]]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class DeviceMemory:
    """One GPU, as its framework counts for this process; or Core ML's own process.

    Attributes:
        device: its name.
        live: what tensors hold now.
        peak: the most they have held.
        sent: bytes copied to it, of inputs.
        received: bytes copied back, of results.
    """

    device: str
    live: Quantity
    peak: Quantity
    sent: Quantity
    received: Quantity


@dataclass(frozen=True)
class Memory:
    """Every GPU that something ran on, and Core ML's process."""

    devices: tuple[DeviceMemory, ...]

    def __getitem__(self, device: str) -> DeviceMemory:
        return next(d for d in self.devices if d.device == device)

    def __str__(self) -> str:
        if not self.devices:
            return "no GPU has been used; on the CPU arrays are read where they are"
        return "\n".join(
            f"{d.device}: live {_shown(d.live)}, peak {_shown(d.peak)}, "
            f"sent {_shown(d.sent)}, received {_shown(d.received)}"
            for d in self.devices
        )

    def __repr__(self) -> str:
        return str(self)


def memory() -> Memory:
    """What every GPU, and Core ML's process, holds if something ran there, and what was copied."""
    with _lock:
        copied = dict(_copied)
    names = sorted({device for device, _ in copied})
    return Memory(tuple(_of(name, copied) for name in names))


def copied(device: str, *, sent: int, received: int) -> None:
    """Count a run's copies."""
    with _lock:
        _copied[device, "sent"] += sent
        _copied[device, "received"] += received


def held_by(device: str, read: Callable[[], tuple[float, float]]) -> None:
    """Let a device's bytes, live and at most, be told by ``read``; NaN where they are not known."""
    _readers[device] = read


def samples(device: str, now_ns: int) -> tuple[Sample, ...]:
    """Live and peak memory of a GPU for a recording; nothing for what is none, or was not used."""
    with _lock:
        used = (device, "sent") in _copied
    if not used:
        return ()
    live, peak = _held(device)
    return tuple(
        Sample(now_ns, name, q.value, q.provenance, q.note)
        for name, q in ((LIVE, live), (PEAK, peak))
    )


def _of(device: str, copied: Mapping[tuple[str, str], int]) -> DeviceMemory:
    sent, received = (_bytes(copied[device, way]) for way in ("sent", "received"))
    return DeviceMemory(device, *_held(device), sent, received)


def _held(device: str) -> tuple[Quantity, Quantity]:
    """Live and peak, by the framework's own count; it is here if something ran on it."""
    if device in _readers:
        live, peak = map(_known, _readers[device]())
        return live, peak
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return (Quantity.unavailable("By", UNTOUCHED),) * 2
    if device.startswith("cuda"):
        cuda = torch.cuda
        return _bytes(cuda.memory_allocated(device)), _bytes(cuda.max_memory_allocated(device))
    why = "PyTorch keeps no record of it for Metal"
    return _bytes(torch.mps.current_allocated_memory()), Quantity.unavailable("By", why)


def _bytes(number: int) -> Quantity:
    return Quantity(float(number), "By", Provenance.MEASURED)


def _known(number: float) -> Quantity:
    return Quantity.unavailable("By", GONE) if math.isnan(number) else _bytes(int(number))


def _shown(quantity: Quantity) -> str:
    if quantity.provenance is Provenance.UNAVAILABLE:
        return f"unavailable ({quantity.note})"
    return f"{quantity.value / 1e6:,.1f} MB".replace(",", " ")
