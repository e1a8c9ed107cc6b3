"""footprint(): where the memory of a model goes: weights, activations, workspace; per operation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coreml_lab.errors import LabError
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import show
from coreml_lab.measure.alone import Alone, alone
from coreml_lab.measure.given import runnable
from coreml_lab.measure.model_memory import planned
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.plain import to_plain
from coreml_lab.program.liveness import ActivationPlan, Held
from coreml_lab.records import PlanInfo
from coreml_lab.run.model import Model
from coreml_lab.run.op_memory import MemoryTrace

TOP = 20
GPUS = ("cuda", "metal", "opencl")
SEPARATE = "process of its own, above the imported libraries"
LEFT = "the peak less weights, activations, inputs and results: buffers, code, the engine itself"
MAPPED = "weights are mapped from their file, and not all of them were resident"


@dataclass(frozen=True)
class OpRow:
    """One operation: what is in use while it runs, and what it makes.

    Attributes:
        share: of the peak.
    """

    node: str
    op: str
    fused: tuple[str, ...]
    live: Quantity
    made: Quantity
    share: Quantity
    where: str = ""


@dataclass(frozen=True, repr=False)
class Footprint(Shown):
    """Where the memory of a model goes; bytes.

    Attributes:
        weights: as the engine holds them.
        activations: values of one inference at their peak: by the engine's allocator where it
            tells, else by liveness.
        estimate: the same by liveness alone, to be compared.
        workspace: what is left of the running peak.
        running, loading, held: of a process that does nothing else: its peaks, and at the end.
        device: what the device's framework held at most.
        at: the operation at the peak.
        alive: what is alive then, by liveness, the largest first.
        ops: every operation, in order.
        source: who told ``ops``.
        notes: what could not be had, and why.
    """

    program: str
    plan: PlanInfo
    weights: Quantity
    activations: Quantity
    estimate: Quantity
    workspace: Quantity
    border: Quantity
    running: Quantity
    loading: Quantity
    held: Quantity
    device: Quantity
    at: str
    alive: tuple[Held, ...]
    ops: tuple[OpRow, ...]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        tables = (
            Table("Where the memory goes", ("what", "bytes"), self._whole()),
            Table(
                f"Alive at the peak, {self.at}, by liveness",
                ("value of", "type", "bytes", "written in"),
                tuple((h.node, h.op, _estimated(h.bytes), h.where) for h in self.alive[:TOP]),
            ),
            Table(
                f"Operations that need most: {self.source}",
                ("operation", "type", "in use", "makes", "of the peak"),
                tuple(map(_row, sorted(self.ops, key=lambda row: -row.live.value)[:TOP])),
            ),
        )
        headline = (
            f"{self.program} on {self.plan.title}: weights {show(self.weights)}, "
            f"activations {show(self.activations)}, at most at {self.at or 'no operation'}"
        )
        return Page(headline, tuple(t for t in tables if t.rows), self.notes)

    def _whole(self) -> tuple[tuple[Cell, ...], ...]:
        rows: list[tuple[Cell, ...]] = [
            ("weights, as held", self.weights),
            ("activations, at the most", self.activations),
            ("activations by liveness", self.estimate),
            ("inputs and results", self.border),
            ("workspace: what is left", self.workspace),
            ("peak of the process, running", self.running),
            ("peak of the process, loading", self.loading),
            ("held when all is done", self.held),
        ]
        if self.plan.device.startswith(GPUS) or math.isfinite(self.device.value):
            rows.append((f"peak on {self.plan.device}", self.device))
        return tuple(rows)

    def to_json(self) -> str:
        """The page as JSON and, under ``data``, everything behind it."""
        page = to_plain(self.page)
        return json.dumps({**page, "data": to_plain(self)}, allow_nan=False, ensure_ascii=False)


def footprint(
    model: Model, inputs: Mapping[str, Any], *, processes: bool = True, seconds: float = 120.0
) -> Footprint:
    """Measure and estimate where the memory of a model goes.

    Args:
        model: a loaded or compiled model.
        inputs: name -> array.
        processes: whether to load it in processes of its own, too, for what they hold at most:
            a cold and a warm start, some seconds each.
        seconds: what those may take.

    Raises:
        InputError: for inputs that do not fit.
    """
    runnable(model, "footprint")
    model.feeds(inputs)
    seen: tuple[Alone, ...] = ()
    notes: list[str] = []
    if processes:
        try:
            for each in alone(model, inputs, seconds=seconds):
                seen = (*seen, each)
        except LabError as error:
            _let(error)
            notes.append(f"the process's own memory: {error.message}")
    return described(model, planned(model, inputs), _account(model, inputs, notes), seen, notes)


def _account(model: Model, inputs: Mapping[str, Any], notes: list[str]) -> MemoryTrace | None:
    try:
        return model.account(inputs)
    except LabError as error:
        _let(error)
        notes.append(f"memory per operation is by liveness: {error.message}")
        return None


def _let(error: LabError) -> None:
    """An interrupt is an error, too, but nothing to go on after."""
    if isinstance(error, KeyboardInterrupt):
        raise error


def described(
    model: Model,
    plan: ActivationPlan | str,
    trace: MemoryTrace | None,
    seen: Sequence[Alone],
    notes: Sequence[str] = (),
) -> Footprint:
    """From what was measured and planned to one thing to read. Pure."""
    known = _written(plan, model) if isinstance(plan, ActivationPlan) else None
    why = "" if isinstance(plan, ActivationPlan) else plan
    estimate = _estimated(known.peak) if known else Quantity.unavailable("By", why)
    activations = estimate if trace is None else _measured(trace.peak, trace.source)
    border = _estimated(known.inputs + known.outputs) if known else Quantity.unavailable("By", why)
    weights = _measured(model.weight_bytes, "as the engine holds them")
    running = _of(seen, "run_peak")
    on_device = _of(seen, "device_peak")
    peak = on_device if model.plan.device.startswith(GPUS) else running
    return Footprint(
        program=model.name,
        plan=model.plan,
        weights=weights,
        activations=activations,
        estimate=estimate,
        workspace=left(peak, (weights, activations, border)),
        border=border,
        running=running,
        loading=_of(seen, "load_peak"),
        held=_of(seen, "held"),
        device=on_device,
        at=(trace.at if trace else known.at if known else ""),
        alive=known.alive if known else (),
        ops=_ops(known, trace),
        source=trace.source if trace else "by liveness of the values",
        notes=tuple(notes),
    )


def _written(plan: ActivationPlan, model: Model) -> ActivationPlan:
    """With the lines of code that wrote the operations, which a package does not keep."""
    lines = {op.name: op.where for op in model.info.ops if op.where}
    steps = (replace(step, where=lines.get(step.node, step.where)) for step in plan.steps)
    alive = (replace(held, where=lines.get(held.node, held.where)) for held in plan.alive)
    return replace(plan, steps=tuple(steps), alive=tuple(alive))


def left(peak: Quantity, parts: Sequence[Quantity]) -> Quantity:
    """What the parts do not explain of a peak; there is none where they are more than all of it."""
    missing = next((q for q in (peak, *parts) if not math.isfinite(q.value)), None)
    if missing is not None:
        return Quantity.unavailable("By", missing.note)
    rest = peak.value - sum(part.value for part in parts)
    if rest < 0:
        return Quantity.unavailable("By", MAPPED)
    return Quantity(rest, "By", Provenance.ESTIMATED, note=LEFT)


def _ops(plan: ActivationPlan | None, trace: MemoryTrace | None) -> tuple[OpRow, ...]:
    where = {step.node: step.where for step in plan.steps} if plan else {}
    if trace is not None:
        return tuple(
            OpRow(
                op.node,
                op.op,
                op.fused,
                _measured(op.live, trace.source),
                _measured(op.made, trace.source),
                _share(op.live, trace.peak, Provenance.MEASURED),
                where.get(op.node, ""),
            )
            for op in trace.ops
        )
    steps = plan.steps if plan else ()
    peak = plan.peak if plan else 0
    return tuple(
        OpRow(
            step.node,
            step.op,
            (),
            _estimated(step.live),
            _estimated(step.made),
            _share(step.live, peak, Provenance.ESTIMATED),
            step.where,
        )
        for step in steps
    )


def _row(op: OpRow) -> tuple[Cell, ...]:
    return (op.node, op.op, op.live, op.made, op.share)


def _share(part: int, whole: int, provenance: Provenance) -> Quantity:
    if not whole:
        return Quantity.unavailable("1", "nothing is in use")
    return Quantity(part / whole, "1", provenance)


def _measured(size: float, note: str = "") -> Quantity:
    return Quantity(float(size), "By", Provenance.MEASURED, note=note)


def _estimated(size: float) -> Quantity:
    return Quantity(float(size), "By", Provenance.ESTIMATED, note="by liveness of the values")


def _of(seen: Sequence[Alone], name: str) -> Quantity:
    """A number of the warm process; of the cold one, if that is all there is."""
    if not seen:
        return Quantity.unavailable("By", "it was not loaded in a process of its own")
    value = getattr(seen[-1], name)
    if math.isnan(value):
        return Quantity.unavailable("By", "no framework counts for this device")
    return _measured(value, f"{seen[-1].what}, {SEPARATE}")
