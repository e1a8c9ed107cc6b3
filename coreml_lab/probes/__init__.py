"""Reading the machine: a probe knows one part of it; a new one is a file and a line in ``PROBES``.

Only the standard library is imported, and psutil where there is no ``/proc``: the sampling
process must start fast.
"""

from __future__ import annotations

from collections.abc import Callable

from coreml_lab.probes.conditions import ConditionsProbe
from coreml_lab.probes.cpu import CpuProbe
from coreml_lab.probes.gpu import GpuProbe
from coreml_lab.probes.memory import MemoryProbe
from coreml_lab.probes.modelled import ModelledProbe
from coreml_lab.probes.panel import Panel
from coreml_lab.probes.pressure import PressureProbe
from coreml_lab.probes.process import ProcessProbe
from coreml_lab.probes.protocol import Channel, Probe, Target
from coreml_lab.probes.sources import ENERGY_PROBES

PROBES: tuple[Callable[[], Probe], ...] = (
    ProcessProbe,
    CpuProbe,
    MemoryProbe,
    PressureProbe,
    ModelledProbe,
    *ENERGY_PROBES,
    GpuProbe,
    ConditionsProbe,
)

__all__ = ["PROBES", "Channel", "Panel", "Probe", "Target"]
