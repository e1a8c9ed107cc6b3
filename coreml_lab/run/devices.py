"""Where programs can run, and why not elsewhere."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coreml_lab.errors import EngineUnavailable, UnknownParameter
from coreml_lab.records import Device
from coreml_lab.run import torch_devices
from coreml_lab.run.tinygrad_onnx import TinygradEngine, opencl_devices

KINDS = ("cpu", "coreml", "metal", "cuda", "opencl")


def is_apple_hardware() -> bool:
    """Whether this is a Mac with an Apple chip."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def resolve(device: str) -> str:
    """The full name of a device that is here: ``coreml`` is ``coreml:0``.

    Raises:
        UnknownParameter: for what is no device name.
        EngineUnavailable: for a device that is not here; the message says why.
    """
    kind, _, number = device.partition(":")
    if kind not in KINDS or (number and not number.isdigit()) or (kind == "cpu" and number):
        raise UnknownParameter(
            f"there is no device {device!r}", hint="one of cpu, coreml:0, metal:0, cuda:0, opencl:0"
        )
    full = kind if kind == "cpu" else f"{kind}:{number or 0}"
    found = next((d for d in _FINDERS[kind]() if d.name == full), None)
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


def devices() -> tuple[Device, ...]:
    """Every device of the kinds we know, with the reason for each that cannot be used."""
    return tuple(device for find in _FINDERS.values() for device in find())


def _cpu() -> tuple[Device, ...]:
    torch = torch_devices.ENGINES if torch_devices.installed().available else ()
    return (Device("cpu", _cpu_name(), True, engines=(*torch, "reference")),)


def _coreml() -> tuple[Device, ...]:
    if sys.platform == "darwin":
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


def _cpu_name() -> str:
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


@dataclass(frozen=True)
class Doctor:
    """What is here, what is not, and why: prints as a table."""

    devices: tuple[Device, ...]
    engines: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    absent: tuple[tuple[str, str], ...]

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Section, name, and what is to be said of it."""
        return (
            *(
                (
                    "device",
                    d.name,
                    ("available: " + d.title) if d.available else f"unavailable: {d.reason}",
                )
                for d in self.devices
            ),
            *(("engine", name, text) for name, text in self.engines),
            *(("version", name, text) for name, text in self.versions),
            *(("not built", name, text) for name, text in self.absent),
        )

    def __str__(self) -> str:
        width = max(len(name) for _, name, _ in self.rows())
        lines, section = [], ""
        for kind, name, text in self.rows():
            lines += [kind] if kind != section else []
            lines.append(f"  {name:<{width}}  {text}")
            section = kind
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


# What this version does not have; the doctor says so instead of leaving people to find out.
ABSENT = (
    (
        "model kinds",
        "classic neural networks, pipelines and classical models are refused with their kind",
    ),
)


def doctor() -> Doctor:
    """Every device, engine and version, with why each is or is not available."""
    from importlib import metadata  # noqa: PLC0415

    from coreml_lab.run.compiler import engines  # noqa: PLC0415 - the engines know the compiler's cache

    states = [(e.name, e.available(), ", ".join(e.devices)) for e in engines()]
    told = tuple(
        (name, f"available on {on} ({s.version})" if s.available else f"unavailable: {s.reason}")
        for name, s, on in states
    )
    versions = [("python", platform.python_version())]
    for package in (
        "coreml-lab",
        "coremltools",
        "onnxruntime",
        "onnx",
        "numpy",
        "ipywidgets",
        "anywidget",
        "bokeh",
        "jupyterlab",
    ):
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            versions.append((package, "not installed"))
    return Doctor(devices(), told, tuple(versions), ABSENT)
