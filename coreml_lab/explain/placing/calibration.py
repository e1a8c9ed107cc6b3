"""How far off estimates are, by published times and energies, and so their intervals. Pure.

Networks whose times others published are counted layer by layer (``docs/calibration.py``); what
is estimated for them, and how far off it is, decides the interval of every estimate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from coreml_lab.explain.placing import roofline
from coreml_lab.explain.placing.tables import DEVICES, Chip, chip, read
from coreml_lab.explain.placing.workload import Workload
from coreml_lab.metrics import Provenance, Quantity

CORE_ML = "Core ML"
ENERGY = "the time's interval by the power that such devices drew; the rest of the chip is left out"
# Time that is no device's: changing between them. Its constant was measured for one of them.
OVERHEAD = "between"
LIKE_THE = {OVERHEAD: "ne"}
# The share of the published times that the shown interval covers.
COVERED = 0.9


def latency(busy: Mapping[str, float]) -> Quantity:
    """Time in all, with the interval that the published times had around their estimates.

    Args:
        busy: device -> estimated seconds; ``OVERHEAD`` is between them.
    """
    off = {device: _covering(LIKE_THE.get(device, device)) for device in busy}
    total = sum(busy.values())
    low = sum(t / off[d] for d, t in busy.items())
    high = sum(t * off[d] for d, t in busy.items())
    return Quantity(total, "s", Provenance.ESTIMATED, low, high)


def energy(busy: Mapping[str, float], chip: Chip) -> Quantity:
    """Energy in all as a range: the times' intervals by the power that such devices drew."""
    edges = [_joules(t, device, chip) for device, t in busy.items() if device != OVERHEAD]
    low, high = (sum(edge[i] for edge in edges) for i in (0, 1))
    return Quantity(math.nan, "J", Provenance.ESTIMATED, low, high, ENERGY)


def _joules(seconds: float, device: str, chip: Chip) -> tuple[float, float]:
    low, high = roofline.watts(device, chip)
    off = _covering(device)
    return seconds / off * low, seconds * off * high


def _covering(device: str) -> float:
    return next(found.covering for found in calibration() if found.device == device)


@dataclass(frozen=True)
class Known:
    """A published time, and what is estimated for it."""

    network: str
    chip: str
    device: str
    where: str
    path: str
    source: str
    measured: float
    estimated: float = math.nan
    energy: float | None = None

    @property
    def joules(self) -> tuple[float, float]:
        """The range that is given for its energy."""
        return _joules(self.estimated, self.device, chip(self.chip))

    @property
    def factor(self) -> float:
        """How far off the estimate is, as a factor of at least 1."""
        return max(self.estimated / self.measured, self.measured / self.estimated)


@dataclass(frozen=True)
class Calibration:
    """How far off estimates were on a device: factors, over times published for Core ML.

    Attributes:
        typical: half of them are off by less.
        covering: nine of ten are off by less.
    """

    device: str
    rows: int
    typical: float
    covering: float


@functools.cache
def known() -> tuple[Known, ...]:
    """Every published time of a network that was counted."""
    return tuple(_known(row) for row in read("calibration")["measured"])


def again(row: Known) -> Known:
    """A published time, estimated anew with the parameters as they are now."""
    device, on = row.device, chip(row.chip)
    works = networks()[row.network]
    busy = roofline.call(device, on) + sum(
        n * roofline.seconds(work, device, on) for work, n in works
    )
    return replace(row, estimated=busy)


@functools.cache
def networks() -> Mapping[str, tuple[tuple[Workload, int], ...]]:
    """The networks that were counted: operations, and how often they have each."""
    return {name: tuple(_works(rows)) for name, rows in read("calibration")["networks"].items()}


def _works(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[Workload, int]]:
    for kind, flops, read_, written, weights, largest, count in rows:
        yield Workload(kind, flops, read_, written, weights, largest), count


def _known(row: Mapping[str, Any]) -> Known:
    given = {k: row[k] for k in ("network", "chip", "device", "where", "path", "source")}
    joules = None if row["energy_mj"] is None else row["energy_mj"] / 1e3
    return again(Known(**given, measured=row["latency_ms"] / 1e3, energy=joules))


@functools.cache
def calibration() -> tuple[Calibration, ...]:
    """How far off estimates are on each device; on other ways to it only where Core ML has none."""
    found = []
    for device in DEVICES:
        every = [row for row in known() if row.device == device]
        factors = sorted(row.factor for row in every if row.path == CORE_ML or device != "ne")
        covering = factors[math.ceil(COVERED * len(factors)) - 1]
        if device == "ne":
            # Its parameters were fitted to these very times: what others would find counts.
            covering = max(covering, roofline.parameter("ne", "left_out").value)
        found.append(Calibration(device, len(factors), median(factors), covering))
    return tuple(found)


def energies(device: str) -> tuple[int, int]:
    """How many published energies there are for a device, and how many lie in the given range."""
    rows = [row for row in known() if row.device == device and row.energy is not None]
    inside = sum(low <= (row.energy or 0.0) <= high for row in rows for low, high in [row.joules])
    return len(rows), inside
