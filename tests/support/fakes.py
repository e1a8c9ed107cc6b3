"""A model without an engine: real arithmetic on a clock that only moves when it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.clock import FakeClock
from coreml_lab.errors import EngineUnavailable
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program.graph import TensorType
from coreml_lab.records import (
    OpInfo,
    OpSpan,
    PlanInfo,
    PortInfo,
    ProgramInfo,
    Recording,
    Run,
    Sample,
)
from coreml_lab.run.activity import ACTIVITY

MS = 1_000_000
Array = np.ndarray[Any, np.dtype[Any]]

INFO = ProgramInfo(
    name="tiny",
    key="k" * 32,
    package="tiny.mlpackage",
    precision="fp32",
    inputs=(PortInfo("x", (1, 8), "fp32"),),
    outputs=(PortInfo("y", (1, 8), "fp32"),),
    ops=(
        OpInfo("conv_0", "conv", (1, 8), "fp32", weight_bytes=2_000_000, where="cell 3"),
        OpInfo("relu_1", "relu", (1, 8), "fp32"),
        OpInfo("linear_2", "linear", (1, 8), "fp32", weight_bytes=500_000),
    ),
    size_bytes=2_501_000,
)
PLANS = {
    "coreml": PlanInfo("portable", "coreml:0", "Core ML program, portable engine (CPU)"),
    "cpu": PlanInfo("reference", "cpu", "NumPy reference (CPU)"),
}


def spans(start_ns: int) -> tuple[OpSpan, ...]:
    """What an engine reports of one run: a fused convolution, a layout change, a matrix product."""
    rows = (
        ("conv_0", "conv", 2 * MS, 3_000, ("relu_1",)),
        ("[reorder]", "[reorder]", MS // 2, 1_000, ()),
        ("linear_2", "linear", MS, 2_000, ()),
    )
    result = []
    for node, op, duration, size, fused in rows:
        result.append(
            OpSpan(
                node, op, "portable", "cpu", start_ns, duration, size, Provenance.MEASURED, fused
            )
        )
        start_ns += duration
    return tuple(result)


@dataclass
class FakeModel:
    """Doubles its input; each inference takes ``milliseconds`` of the clock it was given."""

    clock: FakeClock = field(default_factory=FakeClock)
    milliseconds: Callable[[int], float] = lambda _: 4.0
    device: str = "coreml"
    error: float = 0.0
    info: ProgramInfo = INFO
    calls: int = 0
    interrupt_at: int | None = None
    siblings: dict[str, FakeModel] = field(default_factory=dict)

    @property
    def plan(self) -> PlanInfo:
        """Where it pretends to run."""
        return PLANS[self.device]

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """What it takes."""
        return {"x": TensorType((1, 8), np.dtype("float32"))}

    @property
    def outputs(self) -> Mapping[str, TensorType]:
        """What it gives."""
        return {"y": TensorType((1, 8), np.dtype("float32"))}

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference, reported to ACTIVITY as the executor does."""
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        start = self.clock.now_ns()
        self.clock.advance(self.milliseconds(self.calls) / 1000)
        duration = self.clock.now_ns() - start
        ACTIVITY.finished.append((start, duration))
        ACTIVITY.total += 1
        for watch in tuple(ACTIVITY.watchers):
            watch(self, inputs, start, duration)
        return {"y": (inputs["x"] * np.float32(2) * np.float32(1 + self.error)).astype("float32")}

    def trace(self, inputs: Mapping[str, Array], runs: int = 1) -> tuple[Run, ...]:
        """Instrumented inferences: a millisecond slower."""
        del inputs
        result = []
        for index in range(runs):
            start = self.clock.now_ns()
            self.clock.advance(0.005)
            result.append(Run(index, start, 5 * MS, spans(start + MS), instrumented=True))
        return tuple(result)

    def to(self, device: str) -> FakeModel:
        """The same model elsewhere; devices without a plan are not here."""
        if device not in PLANS:
            raise EngineUnavailable(f"{device}: not here", reason="a fake has two devices")
        if device == self.device:
            return self
        return self.siblings.get(device) or FakeModel(
            self.clock, self.milliseconds, device, self.error
        )


@dataclass
class FakeSource:
    """A source of samples for the profiler: one reading of two metrics at the window's end."""

    running: bool = False
    windows: list[tuple[int, int] | None] = field(default_factory=list)

    @property
    def load(self) -> Quantity:
        """What sampling costs."""
        return Quantity(0.002, "{core}", Provenance.MEASURED)

    def start(self) -> None:
        """Begin."""
        self.running = True

    def stop(self, window: tuple[int, int] | None) -> tuple[Sample, ...]:
        """A level that is measured and one that is missing."""
        self.running = False
        self.windows.append(window)
        if window is None:
            return ()
        return (
            Sample(window[1], "process.cpu.cores", 1.5, Provenance.MEASURED),
            Sample(window[1], "hw.power.package", float("nan"), Provenance.UNAVAILABLE, "no RAPL"),
        )


def recording(**changes: Any) -> Recording:
    """A recording with four plain runs, two instrumented ones, three samples and no live model."""
    plain = tuple(Run(i, 10 * MS * i, (4 + i) * MS) for i in range(4))
    traced = tuple(
        Run(4 + i, (50 + 10 * i) * MS, 5 * MS, spans((51 + 10 * i) * MS), instrumented=True)
        for i in range(2)
    )
    samples = (
        Sample(5 * MS, "process.cpu.cores", 1.0, Provenance.MEASURED),
        Sample(15 * MS, "process.cpu.cores", 2.0, Provenance.MEASURED),
        Sample(15 * MS, "hw.power.package", float("nan"), Provenance.UNAVAILABLE, "no RAPL here"),
    )
    settings: dict[str, Any] = {
        "environment": {"system": "Linux", "engine": PLANS["coreml"].title},
        "program": INFO,
        "plan": PLANS["coreml"],
        "runs": plain + traced,
        "samples": samples,
        "overhead_ns": 400,
    }
    return Recording(**{**settings, **changes})


def empty_package(path: Path, size: int) -> Path:
    """A folder that is as big as a package."""
    path.mkdir(parents=True)
    (path / "weight.bin").write_bytes(bytes(size))
    return path
