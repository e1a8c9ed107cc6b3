"""Battery and heat, live: a column for each that the machine has."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Sequence
from functools import partial

from coreml_lab.probes.context import THERMAL_STATES, battery, heat
from coreml_lab.probes.protocol import NAN, Channel, Target, measured, read_text
from coreml_lab.probes.supply import SUPPLIES, device_scope

PERIOD = 10.0
CHARGE, HEAT = "hw.battery.charge", "coreml_lab.thermal.state"


class ConditionsProbe:
    """How full the battery is, and how much heat slows the machine down."""

    name = "conditions"
    # What a machine lacks has no column: a desktop is not short of a battery.
    metrics: tuple[str, ...] = ()
    period = PERIOD

    def __init__(self) -> None:
        self._reads: list[Callable[[], float]] = []

    def open(self, target: Target) -> tuple[Channel, ...]:
        """See what there is."""
        levels = measured(HEAT, "0 nominal, 1 fair, 2 serious, 3 critical")
        wanted = ((measured(CHARGE), partial(_charge, target)), (levels, partial(_heat, target)))
        here = [(channel, read) for channel, read in wanted if not math.isnan(read())]
        self._reads = [read for _, read in here]
        return tuple(channel for channel, _ in here)

    def read(self, now_ns: int) -> Sequence[float]:  # noqa: ARG002 - levels, not differences
        """A share, a level."""
        return [read() for read in self._reads]


def _charge(target: Target) -> float:
    """The fullest battery of the machine itself, as a share; NaN where there is none."""
    if not target.linux:
        return battery(target).value
    found = []
    for folder in glob.glob(target.path(*SUPPLIES)):  # noqa: PTH207 - as the paths of probes
        try:
            if read_text(f"{folder}/type") == "Battery" and device_scope(folder) != "Device":
                found.append(int(read_text(f"{folder}/capacity")) / 100)
        except (OSError, ValueError):
            continue
    return max(found, default=NAN)


def _heat(target: Target) -> float:
    state = heat(target)
    return float(THERMAL_STATES.index(state)) if state in THERMAL_STATES else NAN
