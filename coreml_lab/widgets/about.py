"""What the head of the dashboard says: model, devices, and where numbers come from (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import METRICS, Metric, Provenance
from coreml_lab.records import Placement, PlanInfo, ProgramInfo
from coreml_lab.widgets.messages import About, Chip, Column, Schema
from coreml_lab.widgets.quantities import show

Provenances = Mapping[str, tuple[Provenance, str]]

PACKAGE, LOW = "hw.power.package", "coreml_lab.power.cpu.low"


class Shown(Protocol):
    """What a dashboard needs of a model: ``coreml_lab.load`` and ``compile`` give such objects."""

    @property
    def info(self) -> ProgramInfo:
        """What the program is."""
        ...

    @property
    def plan(self) -> PlanInfo:
        """Who runs it."""
        ...


def about(model: Shown | None) -> About:
    """Name and one line of facts."""
    if model is None:
        return {"name": "coreml_lab", "detail": "this kernel, no model chosen"}
    info = model.info
    count = len(info.ops)
    facts = (info.precision, f"{count} op{'' if count == 1 else 's'}", show(info.size_bytes, "By"))
    # A model's names are anyone's: the page sets them as text, and they are short and visible.
    return {"name": legible(info.name), "detail": legible(" · ".join(f for f in facts if f))}


def chips(model: Shown | None, provenance: Provenances, neural_engine: str) -> list[Chip]:
    """The device that runs, those that cannot, and how power is known.

    Args:
        neural_engine: why no run is on the Neural Engine.
    """
    found: list[Chip] = []
    if model is not None:
        plan = model.plan
        kind = "gpu" if plan.device.startswith(("cuda", "metal", "opencl")) else "cpu"
        note = plan.reason or f"engine {plan.engine} on {plan.device}"
        found.append(_chip(plan.title, kind, Provenance.MEASURED, note))
    found.append(_neural_engine(() if model is None else model.plan.placements, neural_engine))
    how, note = provenance.get(PACKAGE, (Provenance.UNAVAILABLE, "this system has no such sensor"))
    if how is Provenance.MEASURED:
        found.append(_chip("CPU package power: measured", "source", how, note))
    estimate = provenance.get(LOW)
    if estimate is not None and estimate[0] is Provenance.ESTIMATED:
        found.append(_chip("CPU energy: estimated", "source", *estimate))
    elif how is not Provenance.MEASURED:
        found.append(_chip("CPU power: unavailable", "source", Provenance.UNAVAILABLE, note))
    return found


def _neural_engine(placements: Sequence[Placement], missing: str) -> Chip:
    """What Core ML plans for the Neural Engine: where a run really was, nothing tells."""
    if not placements:
        reason = f"Neural Engine: {missing}"
        return _chip("Neural Engine: unavailable", "ane", Provenance.UNAVAILABLE, reason)
    count = sum(p.device == "ne" for p in placements)
    title = f"Neural Engine: planned for {count} of {len(placements)} ops"
    return _chip(title, "ane", Provenance.ESTIMATED, "Core ML's plan, not where a run really was")


def _chip(title: str, kind: str, how: Provenance, note: str) -> Chip:
    title, note = legible(title), legible(note, SENTENCE)
    return Chip(title=title, kind=kind, provenance=how.value, note=note)  # type: ignore[typeddict-item]


def schema(columns: Sequence[str], provenance: Provenances, interval: float) -> Schema:
    """The columns with everything the page must know to label them."""
    described = [
        _column(name, *provenance.get(name, (Provenance.MEASURED, ""))) for name in columns
    ]
    return {"id": 1, "interval": interval, "columns": described}


def _column(name: str, how: Provenance, note: str) -> Column:
    metric: Metric | None = METRICS.get(name) or METRICS.get(name.partition("/")[0])
    _, slash, part = name.partition("/")
    label = metric.label if metric else name
    return {
        "name": name,
        "label": f"{label} {part}" if slash else label,
        "unit": metric.unit if metric else "",
        "panel": metric.panel if metric else "other",
        "provenance": how.value,
        "note": note,
        "help": metric.help if metric else "",
    }
