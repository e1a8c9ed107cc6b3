"""The machine's condition at this moment, read from the probes for the planner."""

from __future__ import annotations

import math
import os

from coreml_lab.errors import ProbeError
from coreml_lab.probes.memory import MemoryProbe
from coreml_lab.probes.pressure import PressureProbe
from coreml_lab.probes.protocol import Probe, Target
from coreml_lab.probes.supply import power, thermal
from coreml_lab.run.split.strategy import Conditions

# macOS tells a level: 1 is normal, 2 a warning, 4 critical.
NORMAL, MOST = 1.0, 4.0


def read(target: Target | None = None) -> Conditions:
    """Power, heat, memory pressure and free memory; what no sensor tells stays unknown."""
    target = target or Target(os.getpid())
    (pressure,) = _first(PressureProbe(), target, 1)
    if target.platform == "darwin":
        pressure = (pressure - NORMAL) / (MOST - NORMAL)
    (available,) = _first(MemoryProbe(), target, 1)
    free = {} if math.isnan(available) else {"cpu": int(available)}
    homes: dict[str, str] = {}
    if free and target.platform != "darwin":
        free["coreml:0"] = free["cpu"]  # the portable engine's, which is the CPU
        homes["coreml:0"] = "cpu"
    pressure = 0.0 if math.isnan(pressure) else pressure
    return Conditions(power(target), thermal(target), pressure, free, homes)


def _first(probe: Probe, target: Target, count: int) -> list[float]:
    """The first columns of a probe, NaN where it has no sensor."""
    try:
        probe.open(target)
        return list(probe.read(0))[:count]
    except (OSError, ValueError, ProbeError):
        return [math.nan] * count
