"""What every device holds for this process, how much was copied, and how much was not."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from coreml_lab.errors import ProbeError, UnknownParameter
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes import highwater, process
from coreml_lab.probes.protocol import Target
from coreml_lab.records import PlanInfo, Sample
from coreml_lab.run.ledger import LEDGER, Account, Ledger, Moved

LIVE, PEAK = "coreml_lab.device.memory.live", "coreml_lab.device.memory.peak"
COUNTED = "weights as the engine holds them, states, tensors' arrays; not what a run works in"
GONE = "its process is not there, or the system does not tell"
WHOLE = "process: all of it, also what runs on the CPU work in, which no engine tells by itself"
_readers: dict[str, Callable[[], tuple[float, float]]] = {}
THOUSAND = 1000.0
# The engine whose own process tells what it holds.
READ = "coreml"
GPUS = ("cuda", "metal", "opencl")


@dataclass(frozen=True)
class DeviceMemory:
    """One device; a GPU's framework and Core ML's process tell their live and peak memory.

    Attributes:
        device: its name.
        live: what is held now.
        peak: the most that was held.
        sent: bytes copied to it, of inputs.
        received: bytes copied back, of results.
        copies: arrays that were copied.
        shared: bytes that were not copied: both sides work in the same memory.
        shares: arrays that were not copied.
        untold: runs of engines that do not tell what they copy.
    """

    device: str
    live: Quantity
    peak: Quantity
    sent: Quantity
    received: Quantity
    copies: int = 0
    shared: Quantity = Quantity(0.0, "By", Provenance.MEASURED)  # noqa: RUF009 - it is frozen
    shares: int = 0
    untold: int = 0


@dataclass(frozen=True)
class Memory:
    """Every device that was used, and the process as a whole; prints as a table.

    ``memory["cuda:0"]``, or ``memory["cuda"]`` for the first of them, is one device's row.
    """

    devices: tuple[DeviceMemory, ...]
    process: Quantity
    process_peak: Quantity

    def __getitem__(self, device: str) -> DeviceMemory:
        names = (device, f"{device}:0")
        found = next((d for d in self.devices if d.device in names), None)
        if found is None:
            used = ", ".join(d.device for d in self.devices) or "none"
            raise UnknownParameter(
                f"memory()[{device!r}]: this process has not used such a device; it used: {used}",
                hint="look again after a run there; cl.devices() lists what is here",
            )
        return found

    def __str__(self) -> str:
        heads = ("device", "live", "peak", "sent", "received", "copies", "not copied", "in")
        rows = [heads, *(_row(d) for d in self.devices)]
        whole = ("process", _shown(self.process), _shown(self.process_peak))
        rows.append((*whole, *[""] * (len(heads) - len(whole))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)) for r in rows]
        return "\n".join([*(line.rstrip() for line in table), *self._notes()])

    def _notes(self) -> list[str]:
        quantities = [
            (f"{d.device}: {f.name}", q)
            for d in self.devices
            for f in fields(d)
            if isinstance(q := getattr(d, f.name), Quantity)
        ]
        quantities += [("process: live", self.process), ("process: peak", self.process_peak)]
        lines = [
            f"{name}: unavailable: {q.note}"
            for name, q in quantities
            if q.provenance is Provenance.UNAVAILABLE
        ]
        if any(q.provenance is Provenance.ESTIMATED for _, q in quantities):
            lines.append(f"~ estimated: {COUNTED}; the rest is measured")
        lines += [WHOLE]
        lines += [
            f"{d.device}: {d.untold} runs of an engine that does not tell what it copies"
            for d in self.devices
            if d.untold
        ]
        return lines

    def __repr__(self) -> str:
        return str(self)


def memory(ledger: Ledger = LEDGER) -> Memory:
    """What every device that was used holds for this process, and what was copied."""
    return Memory(tuple(_of(account) for account in ledger.accounts), *_process())


def copied(device: str, *, sent: int, received: int, arrays: int) -> None:
    """Count a run's copies."""
    LEDGER.account(device).moved(Moved(sent, received, arrays))


def held_by(device: str, read: Callable[[], tuple[float, float]]) -> None:
    """Let a device's bytes, live and at most, be told by ``read``; NaN where they are not known."""
    LEDGER.account(device)
    _readers[device] = read


def samples(plan: PlanInfo, now_ns: int) -> tuple[Sample, ...]:
    """Live and peak memory of a GPU or of Core ML's process, for a recording; else nothing."""
    used = {a.device for a in LEDGER.accounts}
    apart = plan.device.startswith(GPUS) or (plan.engine == READ and plan.device in _readers)
    if plan.device not in used or not apart:
        return ()
    live, peak = _held(LEDGER.account(plan.device))
    return tuple(
        Sample(now_ns, name, q.value, q.provenance, q.note)
        for name, q in ((LIVE, live), (PEAK, peak))
    )


def _of(account: Account) -> DeviceMemory:
    total = account.total
    return DeviceMemory(
        account.device,
        *_held(account),
        sent=_bytes(total.sent),
        received=_bytes(total.received),
        copies=total.copies,
        shared=_bytes(total.shared),
        shares=total.shares,
        untold=account.untold,
    )


def _held(account: Account) -> tuple[Quantity, Quantity]:
    """Live and peak: a framework's own count where it keeps one, else what the ledger holds."""
    if account.device in _readers:
        live, peak = map(_known, _readers[account.device]())
        return live, peak
    kind = account.device.partition(":")[0]
    told = _FRAMEWORKS[kind](account.device) if kind in _FRAMEWORKS else None
    return told or (_estimated(account.live), _estimated(account.peak))


def _bytes(number: float) -> Quantity:
    return Quantity(float(number), "By", Provenance.MEASURED)


def _known(number: float) -> Quantity:
    return Quantity.unavailable("By", GONE) if math.isnan(number) else _bytes(number)


def _estimated(number: int) -> Quantity:
    return Quantity(float(number), "By", Provenance.ESTIMATED, note=COUNTED)


def _process() -> tuple[Quantity, Quantity]:
    """What the system says of the whole process, which holds what engines on the CPU work in."""
    try:
        now, most = _reader(os.getpid())()
    except (ProbeError, OSError) as error:
        return (Quantity.unavailable("By", str(error)),) * 2
    # A mark that was set back, to watch a cell, forgets; we do not.
    return _known(now), _known(max(most, highwater.reached(os.getpid())))


@functools.cache
def _reader(pid: int) -> Callable[[], tuple[float, float]]:
    return process.memory(Target(pid))


def _row(device: DeviceMemory) -> tuple[str, ...]:
    sizes = (device.live, device.peak, device.sent, device.received)
    shown = (_shown(q) for q in sizes)
    return (device.device, *shown, str(device.copies), _shown(device.shared), str(device.shares))


def _shown(quantity: Quantity) -> str:
    if quantity.provenance is Provenance.UNAVAILABLE:
        return "unavailable"
    about = "~" * (quantity.provenance is not Provenance.MEASURED)
    return about + _size(quantity.value)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < THOUSAND:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= THOUSAND
    return f"{size:.1f} GB"


def _cuda(device: str) -> tuple[Quantity, Quantity] | None:
    torch: Any = sys.modules.get("torch")  # it is here if something ran on the GPU
    if torch is None:
        return None
    live, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    return _bytes(live), _bytes(peak)


def _metal(device: str) -> tuple[Quantity, Quantity] | None:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return _tinygrad(device)
    why = "PyTorch keeps no record of it for Metal"
    return _bytes(torch.mps.current_allocated_memory()), Quantity.unavailable("By", why)


def _tinygrad(device: str) -> tuple[Quantity, Quantity] | None:
    helpers: Any = sys.modules.get("tinygrad.helpers")
    if helpers is None:
        return None
    kind, _, number = device.partition(":")
    name = f"{'METAL' if kind == 'metal' else 'CL'}:{number}".removesuffix(":0")
    live = helpers.GlobalCounters.mem_used_per_device.get(name, 0)
    return _bytes(live), Quantity.unavailable("By", "tinygrad keeps no record of it")


_FRAMEWORKS: dict[str, Callable[[str], tuple[Quantity, Quantity] | None]] = {
    "cuda": _cuda,
    "metal": _metal,
    "opencl": _tinygrad,
}
