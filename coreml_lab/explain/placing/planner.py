"""What Core ML's planner is estimated to expect of an operation on each device. Pure.

These are the planner's expectations, by which it places; they are no times that a user would see
(``roofline`` estimates those).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coreml_lab.explain.placing.segments import Fixed
from coreml_lab.explain.placing.tables import PLANNER_CHIP, Chip, Fact, chips, read
from coreml_lab.explain.placing.workload import Workload

# Kinds that the published rows do not have are taken for one that they have.
STANDS_FOR = {"depthwise": "conv"}
# What a chip's own number says of the rates of another one.
SPEED = {"ne": "ne_tflops", "gpu": "gpu_tflops", "cpu": "cpu_tflops"}


FIELDS = ("flops", "read", "written", "weights")


@dataclass(frozen=True)
class Published:
    """An operation whose expectations were published, in microseconds, and ours."""

    operation: str
    work: Workload
    ne: float
    cpu: float


@functools.cache
def _table() -> Any:
    return read("segmenter")


def fixed() -> Fixed:
    """The fixed costs of stretches and changes, in seconds."""
    ms = {name: fact.value / 1e3 for name, fact in fixed_facts().items()}
    launch = {"ne": ms["ne_segment"], "gpu": ms["gpu_segment"]}
    output = {"ne": ms["ne_output"], "gpu": ms["gpu_output"]}
    return Fixed(launch=launch, output=output, switch=ms["switch"])


def fixed_facts() -> Mapping[str, Fact]:
    """The fixed costs with their sources, in milliseconds."""
    return {name: Fact(**row) for name, row in _table()["fixed_ms"].items()}


def published() -> tuple[Published, ...]:
    """The rows that the rates were fitted to."""
    rows = []
    for row in _table()["published_us"]:
        flops, read_, written, held = (float(row[k]) for k in FIELDS)
        work = Workload(row["kind"], flops, read_, written, held, max(read_, written))
        rows.append(Published(row["operation"], work, row["ne"], row["cpu"]))
    return tuple(rows)


def expected(work: Workload, device: str, chip: Chip) -> float:
    """Seconds that the planner is estimated to expect."""
    rates = _table()["rates"][STANDS_FOR.get(work.kind, work.kind)][device]
    arithmetic, memory = 0.0, 0.0
    if "tflops" in rates:
        arithmetic = work.flops / (rates["tflops"] * 1e12 * _relative(chip, device))
    if "gbs" in rates:
        memory = work.moved / (rates["gbs"] * 1e9)
    elif "weights_gbs" in rates:
        memory = work.weights / (rates["weights_gbs"] * 1e9)
    return float(rates.get("base_us", 0.0) / 1e6 + max(arithmetic, memory))


def _relative(chip: Chip, device: str) -> float:
    """How fast a chip's device is, to that of the chip whose planner was looked at."""
    name = SPEED[device]
    return chip.number(name) / chips()[PLANNER_CHIP].number(name)
