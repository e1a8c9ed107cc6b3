"""How long operations take on a chip, and what power its devices draw: estimates. Pure.

An operation takes as long as its arithmetic at the share of the peak that its kind reaches, or as
its bytes at the bandwidth they come through, whichever is longer (a roofline). How far off that is
on networks whose times were published is ``calibration``'s answer, and part of every estimate.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from coreml_lab.explain.placing.tables import DEVICES, Chip, Fact, read
from coreml_lab.explain.placing.workload import Workload

PRODUCTS = frozenset({"conv", "depthwise", "matmul", "attention", "recurrent"})
# Kinds whose share of the Neural Engine's peak was not fitted are taken for one that was.
LIKE = {"attention": "matmul", "recurrent": "matmul"}


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
    # Of values that do not fit into the engine's own memory, what is too much is streamed.
    inside = chip.number("ne_onchip_mb") * 1e6
    outside = moved * _excess(work.largest, inside)
    # Scores are written, read and written by softmax, and read again.
    outside += 4 * work.scores * _excess(work.scores, inside)
    streamed = outside / (chip.number("ne_activations_gbs") * 1e9)
    weights = work.weights / (chip.number("ne_weights_gbs") * 1e9)
    if work.kind not in PRODUCTS:
        near = moved / (parameter("ne", "onchip_gbs").value * 1e9)
        return float(max(near, streamed, weights))
    share = parameter("ne", LIKE.get(work.kind, work.kind)).value
    faster = (
        parameter("ne", "int8").value if work.int8 and chip.facts["ne_int8_fast"].value else 1.0
    )
    return float(
        max(work.flops / (chip.number("ne_tflops") * 1e12 * share * faster), weights, streamed)
    )


def _excess(size: float, limit: float) -> float:
    """The share of a value that lies beyond a limit."""
    return max(0.0, 1 - limit / size) if size else 0.0


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
