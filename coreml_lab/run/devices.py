"""Where programs can run, and why not elsewhere."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from coreml_lab import config
from coreml_lab.errors import EngineUnavailable, UnknownParameter
from coreml_lab.records import Device
from coreml_lab.run.capabilities import described
from coreml_lab.run.coreml import Host
from coreml_lab.run.steps import devices as torch_devices
from coreml_lab.run.tinygrad_onnx import TinygradEngine, opencl_devices

KINDS = ("cpu", "coreml", "metal", "cuda", "opencl")
ALWAYS = frozenset({"cpu", "coreml:0"})
# Of a device's number, at the most.
DIGITS = 9


class Devices(tuple[Device, ...]):
    """Devices that print as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        heads = ("device", "what it is", "memory", "free", "units", "computes in")
        rows = [heads, *(_row(d) for d in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)) for r in rows]
        notes = [f"{d.name} cannot be used: {d.reason}" for d in self if not d.available]
        notes += [f"{d.name}: {k}: {why}" for d in self if d.available for k, why in _told(d)]
        return "\n".join([*(line.rstrip() for line in lines), *notes])


def _row(device: Device) -> tuple[str, ...]:
    """The cells of a device; a dash where something is not known, and the notes say why."""

    def size(number: int | None) -> str:
        return "-" if number is None else f"{number / 2**30:.1f} GiB"

    units = ", ".join(f"{n} {k}{'s' * (n != 1)}" for k, n in device.compute_units.items())
    kinds = " ".join(device.dtypes)
    memory = size(device.memory) + " unified" * (device.is_gpu and bool(device.unified_memory))
    return device.name, device.title, memory, size(device.memory_free), units or "-", kinds or "-"


def _told(device: Device) -> tuple[tuple[str, str], ...]:
    return tuple((k.replace("_", " "), why) for k, why in device.missing.items())


def device(name: str | None = None) -> Device:
    """One device with what it can do, also where it cannot be used; the current one by default.

    Raises:
        UnknownParameter: for what is no device name.
    """
    full = _full_name(config.current().device if name is None else name)
    found = [d for d in _FINDERS[full.partition(":")[0]]() if d.name == full]
    absent = Device(full, "not there", available=False, reason="no such number")
    return described(found[0] if found else absent)


class set_device(config.configure):  # noqa: N801 - reads as a verb: cl.set_device(...)
    """Where new tensors and models live, from now on or inside a ``with`` block only.

    A block is that of ``cl.configure``: it holds for the thread or ``asyncio`` task that is in it.

    Raises:
        UnknownParameter: for what is no device name.
        EngineUnavailable: for a device that is not here; the message says why.
    """

    def __init__(self, name: str) -> None:
        super().__init__(device=resolve(name))

    def __repr__(self) -> str:
        return repr(Devices((device(),)))


def resolve(device: str) -> str:
    """The full name of a device that is here: ``coreml`` is ``coreml:0``.

    Raises:
        UnknownParameter: for what is no device name.
        EngineUnavailable: for a device that is not here; the message says why.
    """
    full = _full_name(device)
    if full in ALWAYS:
        return full  # every new tensor asks
    found = next((d for d in _FINDERS[full.partition(":")[0]]() if d.name == full), None)
    if found is None:
        raise EngineUnavailable(
            f"there is no device {full}",
            reason="no such number",
            hint="cl.devices() lists what is here",
        )
    if not found.available:
        raise EngineUnavailable(
            f"{full} cannot be used: {found.reason}",
            reason=found.reason,
            hint="cl.devices() lists what is here",
        )
    return full


def _full_name(device: object) -> str:
    kind, number = "", ""
    if isinstance(device, str):
        kind, _, number = device.partition(":")
    numbered = not number or (number.isascii() and number.isdigit() and len(number) <= DIGITS)
    if kind not in KINDS or not numbered or (kind == "cpu" and number):
        raise UnknownParameter(
            f"there is no device {device!r}", hint="one of cpu, coreml:0, metal:0, cuda:0, opencl:0"
        )
    return kind if kind == "cpu" else f"{kind}:{int(number or 0)}"


def devices() -> Devices:
    """Every device of the kinds we know, with the reason for each that cannot be used."""
    return Devices(described(found) for find in _FINDERS.values() for found in find())


def _cpu() -> tuple[Device, ...]:
    torch = torch_devices.ENGINES if torch_devices.installed().available else ()
    return (Device("cpu", cpu_name(), True, engines=(*torch, "reference")),)


def _coreml() -> tuple[Device, ...]:
    if Host.here().mac:
        return (Device("coreml:0", "Core ML", True, engines=("coreml", "portable")),)
    title = "Core ML programs, on the portable engine (CPU)"
    return (Device("coreml:0", title, True, engines=("portable",)),)


def _metal() -> tuple[Device, ...]:
    if "metal:0" in TinygradEngine().devices:
        return (Device("metal:0", "Apple GPU", True, engines=("tinygrad",)),)
    return (torch_devices.metal(),)


def _cuda() -> tuple[Device, ...]:
    return torch_devices.cuda()


def _opencl() -> tuple[Device, ...]:
    names = opencl_devices()
    if not names:
        why = TinygradEngine().available().reason
        return (Device("opencl:0", "OpenCL device", False, why),)
    return tuple(
        Device(f"opencl:{i}", name, True, engines=("tinygrad",)) for i, name in enumerate(names)
    )


# Looking for the devices of one kind can take long: one that is named is looked for alone.
_FINDERS: Mapping[str, Callable[[], tuple[Device, ...]]] = {
    "cpu": _cpu,
    "coreml": _coreml,
    "metal": _metal,
    "cuda": _cuda,
    "opencl": _opencl,
}


def cpu_name() -> str:
    """The processor as people know it, and its cores."""
    name = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            name = next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")),
                name,
            )
    except OSError:
        pass  # not Linux: the platform's own name stands
    return f"{name}, {os.cpu_count()} cores"
