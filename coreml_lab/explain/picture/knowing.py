"""What is known of a picture's boxes: where they would run, and how long they took (pure)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from coreml_lab.explain.facts import facts
from coreml_lab.explain.picture.data import Box, Placed, Placing, Time, Timed, Why
from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.estimated import Estimated, OpPlacement
from coreml_lab.explain.placing.page import why
from coreml_lab.explain.placing.reasons import Reason
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.records import Placement, Recording


def estimated(nodes: Sequence[Box], found: Estimated) -> Placing:
    """Where a chip would run the boxes: an estimate, with the sources of its reasons."""
    place = names(nodes)
    ops = [(place[legible(op.node)], op) for op in found.ops if legible(op.node) in place]
    rows = {str(own): _placed(op) for own, op in ops}
    told = {
        key for row in rows.values() for why in (*row.reasons, *row.risks) for key in why.sources
    }
    known = [(key, source) for key, source in tables.sources().items() if key in told]
    sources = {key: f"{source.title}, {source.where}" for key, source in known}
    return Placing(found.chip.name, rows, sources)


def planned(nodes: Sequence[Box], plan: Sequence[Placement], estimate: Placing) -> Placing:
    """Core ML's own plan of the boxes; reasons stay those of the estimate, with their sources."""
    place = names(nodes)
    rows = {}
    for row in plan:
        own = str(place.get(legible(row.node), -1))
        if own in estimate.rows:
            known = estimate.rows[own]
            rows[own] = dataclasses.replace(known, device=row.device, supported=row.supported)
    return Placing("Core ML", rows, estimate.sources, how="planned")


def measured(nodes: Sequence[Box], recording: Recording) -> Timed:
    """How long the boxes took in a recording; what an engine fused is told of its carrier."""
    found = facts(recording)
    place = names(nodes)
    rows: dict[str, Time] = {}
    for op in found.ops:
        own = str(place.get(legible(op.node), -1))
        # One operation may have several kernels.
        more = rows[own].seconds or 0.0 if own in rows else 0.0
        how, device, engine = op.time.provenance.value, legible(op.device), legible(op.engine)
        rows[own] = Time(op.time.value + more, how, device, engine)
    rows.pop("-1", None)
    for inner, carrier in _carried(recording, place).items():
        if str(carrier) in rows:
            told = dataclasses.replace(rows[str(carrier)], seconds=None, carrier=carrier)
            rows.setdefault(str(inner), told)
    missing = "" if rows else "the recording has no traced run"
    return Timed(legible(recording.plan.title), found.traced, rows, missing)


def _carried(recording: Recording, place: Mapping[str, int]) -> Mapping[int, int]:
    """Operations that an engine fused into another's kernel, and that other."""
    pairs = {(span.node, name) for span in recording.spans for name in span.fused}
    found = {}
    for node, name in sorted(pairs):
        carrier, inner = place.get(legible(node), -1), place.get(legible(name), -1)
        if carrier >= 0 and inner >= 0 and carrier != inner:
            found[inner] = carrier
    return found


def names(nodes: Sequence[Box]) -> Mapping[str, int]:
    """The place of each operation by its name."""
    return {node.name: i for i, node in enumerate(nodes) if node.kind == "op"}


def _placed(op: OpPlacement) -> Placed:
    seconds = op.time.value
    return Placed(
        device=op.device,
        supported=op.supported,
        note=legible(why(op), SENTENCE) if not op.reasons else "",
        seconds=seconds if math.isfinite(seconds) and op.device else None,
        reasons=tuple(map(_why, op.reasons)),
        risks=tuple(map(_why, op.risks)) if op.device == "ne" else (),
    )


def _why(reason: Reason) -> Why:
    text, remedy = legible(reason.text, SENTENCE), legible(reason.remedy, SENTENCE)
    return Why(text, remedy, reason.confidence, reason.sources)
