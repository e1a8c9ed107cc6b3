"""What a model's own values take: weights as held, and activations by liveness, for recordings."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.clock import Clock
from coreml_lab.errors import LabError, ProbeError
from coreml_lab.measure.memory import NO_NEURAL, Peak
from coreml_lab.measure.source import Source
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes.highwater import marks
from coreml_lab.probes.protocol import Target
from coreml_lab.program.liveness import ActivationPlan, Manner, liveness
from coreml_lab.records import Run, Sample
from coreml_lab.run import memory
from coreml_lab.run.native.process import worker

WEIGHTS = "coreml_lab.memory.weights"
ACTIVATIONS = "coreml_lab.memory.activations"
ABOVE = "coreml_lab.memory.above"
NEURAL = "coreml_lab.memory.neural"
NEURAL_NOTE = "the kernel's neural footprint of the process that runs Core ML; experimental"
# The engine whose work is done in another process.
NATIVE = "coreml"
NO_PROGRAM = "only a model that was loaded or compiled here has operations to look at"
LET_GO = "its operations are not at hand: cl.footprint(model, inputs) reads them from the package"


def manner(model: Any) -> Manner:
    """How an engine keeps values: what ONNX Runtime plans is in place, PyTorch's results are new.

    fp16 is widened, unless a GPU computes faithfully in it, or Core ML itself does.
    """
    engine, device = model.plan.engine, model.plan.device
    native = engine == NATIVE or (model.options.faithful and device.startswith("cuda"))
    return Manner(engine in {"portable", "openvino", "coreml"}, widened=not native)


def planned(model: Any, inputs: Mapping[str, Any], *, read: bool = True) -> ActivationPlan | str:
    """How a model's activations lie, or why that is not known.

    Args:
        model: a model, or a test's stand-in for one.
        inputs: name -> array; their shapes decide where the model's are flexible.
        read: whether a program whose operations were let go is read again, which takes seconds.
    """
    program = getattr(model, "program", None)
    if program is None:
        return NO_PROGRAM
    if not read and "graph" not in vars(program):
        return LET_GO
    shapes = {name: np.shape(value) for name, value in inputs.items()}
    try:
        return liveness(program.graph, shapes, manner(model))
    except LabError as error:
        return error.message


def samples(
    model: Any, inputs: Mapping[str, Any], runs: Iterable[Run], now_ns: int
) -> tuple[Sample, ...]:
    """A recording's samples about memory: the device's, the weights', the activations'."""
    found = list(memory.samples(model.plan, now_ns))
    held = getattr(model, "weight_bytes", None)
    if held is not None:
        note = "as the engine holds them"
        found.append(Sample(now_ns, WEIGHTS, float(held), Provenance.MEASURED, note))
    told = [s.memory for run in runs for s in run.spans if s.memory is not None]
    if told or held is not None:
        found.append(_activations(model, inputs, told, now_ns))
    if model.plan.engine == NATIVE:
        found.append(neural(worker().pid, now_ns))
    return tuple(found)


def neural(pid: int | None, now_ns: int, platform: str = sys.platform) -> Sample:
    """What the Neural Engine held at most for the process that runs Core ML.

    It is the kernel's count (``ri_*_neural_footprint``); how much of a Core ML model is in it has
    not been verified on hardware by this project, which the note says.
    """
    why = "the process that runs Core ML is gone"
    if pid is not None:
        try:
            most = marks(Target(pid, platform=platform)).level().neural_most
        except (ProbeError, OSError) as error:
            why = str(error)
        else:
            if not math.isnan(most):
                return Sample(now_ns, NEURAL, most, Provenance.MEASURED, NEURAL_NOTE)
            why = NO_NEURAL
    return Sample(now_ns, NEURAL, math.nan, Provenance.UNAVAILABLE, why)


def _activations(model: Any, inputs: Mapping[str, Any], told: Sequence[int], now_ns: int) -> Sample:
    """Measured by the engine's allocator where it tells; else by liveness, else why not."""
    if told:
        note = "by the engine's allocator, operation by operation"
        return Sample(now_ns, ACTIVATIONS, float(max(told)), Provenance.MEASURED, note)
    plan = planned(model, inputs, read=False)
    if isinstance(plan, str):
        return Sample(now_ns, ACTIVATIONS, math.nan, Provenance.UNAVAILABLE, plan)
    note = f"at {plan.at}, by liveness of the values" if plan.at else "by liveness of the values"
    return Sample(now_ns, ACTIVATIONS, float(plan.peak), Provenance.ESTIMATED, note)


class WithPeak:
    """A source of samples, and what this process held at most meanwhile."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._peak = Peak()

    def start(self) -> None:
        """Begin."""
        self._source.start()
        self._peak = Peak().__enter__()

    def stop(self, window: tuple[int, int] | None) -> Sequence[Sample]:
        """End; what the source read, and a last sample about memory."""
        self._peak.__exit__(None, None, None)
        found = self._peak.use.above
        now = self._clock.now_ns()
        last = Sample(now, ABOVE, found.value, found.provenance, found.note)
        return [*self._source.stop(window), last]

    @property
    def load(self) -> Quantity:
        """Cores that sampling kept busy."""
        return self._source.load
