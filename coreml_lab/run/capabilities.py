"""What a device can do and hold, and for each thing that is not known the reason.

Finding a device is cheap and happens whenever one is named; asking it happens here, on demand.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from coreml_lab.errors import LabError
from coreml_lab.records import Device
from coreml_lab.run.steps import devices as torch_devices

# What is asked of every device.
ASKED = ("dtypes", "memory", "memory_free", "compute_units", "unified_memory")
GPUS = frozenset({"metal", "cuda"})
# Devices that are the machine's own chip.
OURS = frozenset({"cpu", "coreml", "metal"})
COMPUTED = ("fp32", "int32", "bool")
SHARED = "it shares the machine's memory: see the row of cpu"


def is_apple_hardware() -> bool:
    """Whether this is a Mac with an Apple chip."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def described(device: Device) -> Device:
    """The device with its capabilities; each that it does not tell has a reason in ``missing``."""
    device = replace(device, is_gpu=device.kind in GPUS)
    if not device.available:
        return replace(device, missing=dict.fromkeys(ASKED, device.reason))
    try:
        known, missing = _ASK[device.kind](device)
    except (LabError, OSError, RuntimeError) as error:
        known, missing = {}, dict.fromkeys(ASKED, str(error).splitlines()[0])
    known = {k: v for k, v in known.items() if v is not None}
    if device.kind in OURS:
        known["is_apple_hardware"] = is_apple_hardware()
    untold = {k: f"{device.title} does not tell" for k in ASKED if k not in known}
    return replace(device, **known, missing=untold | {k: v for k, v in missing.items() if v})


Answer = tuple[dict[str, Any], Mapping[str, str]]


def _cpu(device: Device) -> Answer:
    del device
    free, total = _memory()
    units = {"core": os.cpu_count() or 1}
    known = {"dtypes": COMPUTED, "compute_units": units, "unified_memory": True}
    return {**known, "memory": total, "memory_free": free}, {}


def _coreml(device: Device) -> Answer:
    if "coreml" not in device.engines:  # the portable engine is the CPU's
        known, _ = _cpu(device)
        return {**known, "dtypes": (*COMPUTED, "int8")}, {}
    free, total = _memory()
    why = "which processors Core ML has is told by its worker, once a model is loaded"
    known = {"dtypes": ("fp16", *COMPUTED), "unified_memory": is_apple_hardware()}
    return {**known, "memory": total, "memory_free": free}, {"compute_units": why}


def _metal(device: Device) -> Answer:
    known = {"dtypes": ("fp16", *COMPUTED), "unified_memory": is_apple_hardware()}
    most = torch_devices.metal_memory() if "pytorch" in device.engines else None
    return {**known, "memory": most}, {
        "memory": "" if most else SHARED,
        "memory_free": SHARED,
        "compute_units": "Metal does not tell how many cores the GPU has",
    }


def _cuda(device: Device) -> Answer:
    return torch_devices.details(device.name)


def _opencl(device: Device) -> Answer:
    from coreml_lab.run import tinygrad_devices  # noqa: PLC0415 - only where it is asked for

    return tinygrad_devices.details(device.name)


_ASK: Mapping[str, Callable[[Device], Answer]] = {
    "cpu": _cpu,
    "coreml": _coreml,
    "metal": _metal,
    "cuda": _cuda,
    "opencl": _opencl,
}


def _memory() -> tuple[int, int]:
    """Bytes that can be had and bytes at most, within the container's limit."""
    from coreml_lab.probes.memory import MemoryProbe  # noqa: PLC0415 - only where it is asked for
    from coreml_lab.probes.protocol import Target  # noqa: PLC0415

    probe = MemoryProbe()
    probe.open(Target(os.getpid(), platform=sys.platform))
    free, total = probe.read(0)
    return int(free), int(total)
