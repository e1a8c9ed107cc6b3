"""How long operations take on a chip, and what energy they cost: estimates. Pure.

An operation takes as long as its arithmetic at the share of the peak that its kind reaches, or as
its bytes at the bandwidth they come through, whichever is longer (a roofline). How far off that is
on networks whose times were published is ``calibration``'s answer, and part of every estimate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from coreml_lab.explain.placing.tables import DEVICES, Chip, Fact, chip, read
from coreml_lab.explain.placing.workload import Workload
from coreml_lab.metrics import Provenance, Quantity

PRODUCTS = frozenset({"conv", "depthwise", "matmul", "attention", "recurrent"})
# Kinds whose share of the Neural Engine's peak was not fitted are taken for one that was.
LIKE = {"attention": "matmul", "recurrent": "matmul"}
CORE_ML = "Core ML"
# Time that is no device's: changing between them. Its constant was measured for one of them.
OVERHEAD = "between"
LIKE_THE = {OVERHEAD: "ne"}
# The share of the published times that the shown interval covers.
COVERED = 0.9


@functools.cache
def _table() -> Any:
    return read("roofline")


@functools.cache
def parameter(device: str, name: str) -> Fact:
    """A parameter of the estimates with its source."""
    return Fact(**_table()[device][name])


def parameters() -> Mapping[str, Fact]:
    """All of them, as ``ne conv``, ``gpu peak``."""
    return {
        f"{device} {name}": parameter(device, name)
        for device in DEVICES
        for name in _table()[device]
    }


def seconds(work: Workload, device: str, chip: Chip) -> float:
    """What an operation takes on a device of ``chip``."""
    if device == "ne":
        return _neural_engine(work, chip)
    peak = parameter(device, "peak").value * chip.number(f"{device}_tflops") * 1e12
    memory = parameter(device, "memory").value * chip.number("memory_gbs") * 1e9
    step = parameter(device, "operation_us").value / 1e6
    return float(step + max(work.flops / peak, work.moved / memory))


def _neural_engine(work: Workload, chip: Chip) -> float:
    moved = work.read + work.written
    # Values that do not fit into the engine's own memory are streamed.
    outside = work.largest > chip.number("ne_onchip_mb") * 1e6
    streamed = moved / (chip.number("ne_activations_gbs") * 1e9) if outside else 0.0
    weights = work.weights / (chip.number("ne_weights_gbs") * 1e9)
    if work.kind not in PRODUCTS:
        inside = moved / (parameter("ne", "onchip_gbs").value * 1e9)
        return float(max(inside, streamed, weights))
    share = parameter("ne", LIKE.get(work.kind, work.kind)).value
    faster = (
        parameter("ne", "int8").value if work.int8 and chip.facts["ne_int8_fast"].value else 1.0
    )
    return float(
        max(work.flops / (chip.number("ne_tflops") * 1e12 * share * faster), weights, streamed)
    )


def call(device: str, chip: Chip) -> float:
    """What a stretch of operations costs besides them: submitting it and waiting for it."""
    if device == "ne":
        return float(parameter("ne", "calls").value * chip.number("ne_floor_ms") / 1e3)
    return float(parameter(device, "call_ms").value / 1e3)


def watts(device: str, chip: Chip) -> tuple[float, float]:
    """What a busy device draws, from and to."""
    rows = _table()["watts"][device]
    if "per_tflops" in rows:
        peak = chip.number(f"{device}_tflops")
        return peak * rows["per_tflops"]["low"], peak * rows["per_tflops"]["high"]
    return float(rows[chip.kind]["low"]), float(rows[chip.kind]["high"])


def power_facts() -> Mapping[str, Mapping[str, Any]]:
    """The ranges of power with their sources, as ``ne mac``."""
    return {
        f"{d} {kind}": row for d, rows in _table()["watts"].items() for kind, row in rows.items()
    }


def latency(busy: Mapping[str, float]) -> Quantity:
    """Time in all, with the interval that the published times had around their estimates.

    Args:
        busy: device -> estimated seconds; ``OVERHEAD`` is between them.
    """
    factors = {found.device: found.covering for found in calibration()}
    off = {d: factors[LIKE_THE.get(d, d)] for d in busy}
    total = sum(busy.values())
    low = sum(t / off[d] for d, t in busy.items())
    high = sum(t * off[d] for d, t in busy.items())
    return Quantity(total, "s", Provenance.ESTIMATED, low, high)


def energy(busy: Mapping[str, float], chip: Chip) -> Quantity:
    """Energy in all as a range: estimated time by the power that such devices drew."""
    drawn = {d: watts(d, chip) for d in busy if d != OVERHEAD}
    low = sum(busy[d] * edges[0] for d, edges in drawn.items())
    high = sum(busy[d] * edges[1] for d, edges in drawn.items())
    note = (
        "busy time by the power that was measured on such devices; the rest of the chip is left out"
    )
    return Quantity(math.nan, "J", Provenance.ESTIMATED, low, high, note)


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
    energy_low: float = math.nan
    energy_high: float = math.nan

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
    busy = call(device, on) + sum(n * seconds(work, device, on) for work, n in works)
    low, high = (busy * edge for edge in watts(device, on))
    return replace(row, estimated=busy, energy_low=low, energy_high=high)


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
        place = math.ceil(COVERED * len(factors)) - 1
        found.append(Calibration(device, len(factors), median(factors), factors[place]))
    return tuple(found)
