"""What is here, what is not, and why."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata

from coreml_lab import config
from coreml_lab.probes.modelled import parse_watts
from coreml_lab.probes.protocol import Target
from coreml_lab.probes.sources import described_sources, sources
from coreml_lab.records import Device
from coreml_lab.run.compiler import engines
from coreml_lab.run.devices import devices
from coreml_lab.run.lacking import lacking


@dataclass(frozen=True)
class Doctor:
    """What is here, what is not, and why: prints as a table."""

    devices: tuple[Device, ...]
    engines: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    absent: tuple[tuple[str, str], ...]
    energy: tuple[tuple[str, str], ...] = ()
    lacking: tuple[tuple[str, str], ...] = ()

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
            *(("energy", name, text) for name, text in self.energy),
            *(("version", name, text) for name, text in self.versions),
            *(("not built", name, text) for name, text in self.absent),
            *(("to get it", name, command) for name, command in self.lacking),
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


PACKAGES = (
    "coreml-lab",
    "coremltools",
    "onnxruntime",
    "onnx",
    "numpy",
    "ipywidgets",
    "anywidget",
    "bokeh",
    "jupyterlab",
)
# What this version does not have; the doctor says so instead of leaving people to find out.
ABSENT = (
    (
        "model kinds",
        "compiled models other than programs and those of Apple's frameworks are refused by kind",
    ),
)


def doctor() -> Doctor:
    """Every device, engine, energy counter and version; why some are missing, and what to do."""
    states = [(e.name, e.available(), ", ".join(e.devices)) for e in engines()]
    told = tuple(
        (name, f"available on {on} ({s.version})" if s.available else f"unavailable: {s.reason}")
        for name, s, on in states
    )
    versions = [("python", platform.python_version())]
    for package in PACKAGES:
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            versions.append((package, "not installed"))
    watched = Target(os.getpid(), parse_watts(config.current().core_watts))
    energy = described_sources(sources(watched))
    return Doctor(devices(), told, tuple(versions), ABSENT, energy, lacking())
