"""What a measurement was made under: supply, battery, heat, memory pressure, or why unknown."""

from __future__ import annotations

import ctypes
import glob
from collections.abc import Callable
from typing import Any

from coreml_lab.errors import ProbeError
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes import supply
from coreml_lab.probes.pressure import PressureProbe
from coreml_lab.probes.protocol import Target, read_text

# NSProcessInfo.thermalState, as Apple documents it.
THERMAL_STATES = ("nominal", "fair", "serious", "critical")
Battery = Callable[[], Any]


def context(target: Target) -> tuple[tuple[str, str | Quantity], ...]:
    """Name and state of each, now."""
    return (
        ("power supply", _told(supply.power(target), "this system does not tell")),
        ("battery", battery(target)),
        ("heat", _told(heat(target), "this system does not tell whether heat slows it down")),
        ("hottest sensor", hottest(target)),
        ("memory pressure", pressure(target)),
    )


def battery(target: Target, ask: Battery | None = None) -> Quantity:
    """How full the battery is, as a share."""
    try:
        found = (_psutil_battery if ask is None else ask)()
    except (OSError, RuntimeError, AttributeError) as error:
        return Quantity.unavailable("1", f"the battery cannot be asked: {error}")
    if found is None:
        return Quantity.unavailable("1", "this machine has no battery")
    plugged = "plugged in" if found.power_plugged else "discharging"
    del target
    return Quantity(found.percent / 100, "1", Provenance.MEASURED, note=plugged)


def _psutil_battery() -> Any:
    import psutil  # noqa: PLC0415 - slow to import

    return psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None


def heat(target: Target, state: Callable[[], int] | None = None) -> str:
    """``nominal``, ``fair``, ``serious``, ``critical`` or ``unknown``."""
    if target.platform != "darwin":
        return supply.thermal(target)
    try:
        return THERMAL_STATES[(_apple_thermal_state if state is None else state)()]
    except (OSError, AttributeError, IndexError):
        return supply.thermal(target)


def _apple_thermal_state() -> int:
    """``NSProcessInfo.processInfo.thermalState``."""
    ctypes.CDLL("/System/Library/Frameworks/Foundation.framework/Foundation")
    objc = ctypes.CDLL("/usr/lib/libobjc.dylib")
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p
    send_object = ctypes.CFUNCTYPE(pointer, pointer, pointer)(("objc_msgSend", objc))
    send_number = ctypes.CFUNCTYPE(ctypes.c_long, pointer, pointer)(("objc_msgSend", objc))
    kind = objc.objc_getClass(b"NSProcessInfo")
    info = send_object(kind, objc.sel_registerName(b"processInfo"))
    return int(send_number(info, objc.sel_registerName(b"thermalState")))


def hottest(target: Target) -> Quantity:
    """The hottest of the machine's thermal zones."""
    if not target.linux:
        return Quantity.unavailable("Cel", "only Linux names temperatures without privilege")
    found = []
    for zone in glob.glob(target.path(*supply.ZONES)):  # noqa: PTH207 - as the paths of probes
        try:
            name, heat = read_text(f"{zone}/type"), int(read_text(f"{zone}/temp")) / 1000
            found.append((heat, name))
        except (OSError, ValueError):
            continue
    if not found:
        why = "no thermal zone in /sys/class/thermal: usual in virtual machines"
        return Quantity.unavailable("Cel", why)
    heat, name = max(found)
    return Quantity(heat, "Cel", Provenance.MEASURED, note=name)


def pressure(target: Target) -> str | Quantity:
    """Linux' share of time that tasks waited for memory; macOS' level in words."""
    probe = PressureProbe()
    try:
        probe.open(target)
        value = probe.read(0)[0]
    except (OSError, ProbeError, ValueError) as error:
        return Quantity.unavailable("1", str(error))
    if target.platform == "darwin":
        return {1: "normal", 2: "warning", 4: "critical"}.get(int(value), f"level {value:g}")
    return Quantity(value, "1", Provenance.MEASURED, note="of the last 10 s")


def _told(state: str, why: str) -> str | Quantity:
    return Quantity.unavailable("1", why) if state == supply.UNKNOWN else state
