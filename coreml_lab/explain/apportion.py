"""Energy shared out among operations, and what a plan says beside what was measured: pure.

No counter tells the energy of an operation. What is known of a processor is given to its operations
in proportion to their time where an engine measures it, else to the weights that Core ML's compute
plan expects of them; so it is *apportioned* at best, and an estimate where the whole is one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreml_lab.explain.page import Cell
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Placement, Run

# Processor of a compute plan -> what people call it, and the groups of counters that tell of it.
PROCESSORS = {
    "ne": ("Neural Engine", ("ane",)),
    "gpu": ("GPU", ("gpu",)),
    "cpu": ("CPU", ("package", "cpu", "process")),
}
# A share of a plan below this is not expected to be seen in the energy.
EXPECTED = 0.05


@dataclass(frozen=True)
class Share:
    """One operation's part of its processor's energy."""

    node: str
    op: str
    where: str
    share: Quantity
    energy: Quantity


def shares(
    traced: Sequence[Run], placements: Sequence[Placement], energies: Mapping[str, Quantity]
) -> tuple[Share, ...]:
    """Per operation, by its time in instrumented runs; by Core ML's weights where none has any."""
    times: dict[tuple[str, str, str], float] = defaultdict(float)
    for run in traced:
        for span in run.spans:
            if span.provenance is Provenance.MEASURED:
                times[span.node, span.op, _processor(span.device)] += span.duration_ns
    if not times:
        return apportioned(placements, energies)
    return _shared(times, energies, "by time")


def apportioned(
    placements: Sequence[Placement], energies: Mapping[str, Quantity]
) -> tuple[Share, ...]:
    """Per operation, by the weights of Core ML's plan; nothing where it gives none."""
    weights = {(p.node, p.op, p.device): p.weight for p in placements if p.weight}
    return _shared(weights, energies, "by Core ML's weights")


def _processor(device: str) -> str:
    return "gpu" if device.startswith(("cuda", "metal", "opencl", "gpu")) else "cpu"


def _shared(
    amounts: Mapping[tuple[str, str, str], float], energies: Mapping[str, Quantity], how: str
) -> tuple[Share, ...]:
    sums: dict[str, float] = defaultdict(float)
    for (_, _, where), amount in amounts.items():
        sums[where] += amount
    found = [
        _share(key, amount / sums[key[2]], _energy(key[2], energies), how)
        for key, amount in amounts.items()
        if sums[key[2]] > 0
    ]
    return tuple(sorted(found, key=lambda s: (s.where, -s.share.value)))


def _share(key: tuple[str, str, str], part: float, whole: Quantity, how: str) -> Share:
    node, op, where = key
    share = Quantity(part, "1", Provenance.APPORTIONED, note=how)
    title = PROCESSORS[where][0]
    if whole.provenance is Provenance.UNAVAILABLE:
        return Share(node, op, title, share, Quantity.unavailable("J", whole.note))
    low, high = (None if end is None else end * part for end in (whole.low, whole.high))
    known = max(Provenance.APPORTIONED, whole.provenance, key=tuple(Provenance).index)
    energy = Quantity(whole.value * part, "J", known, low, high, how)
    return Share(node, op, title, share, energy)


def _energy(where: str, energies: Mapping[str, Quantity]) -> Quantity:
    """What a processor drew, by the first of its counters that is here."""
    title, groups = PROCESSORS[where]
    for group in groups:
        found = {n: q for n, q in energies.items() if n.partition("/")[0] == group}
        if found:
            return _at_work(found, title)
    return Quantity.unavailable("J", f"no counter tells of the {title} here")


def _at_work(found: Mapping[str, Quantity], title: str) -> Quantity:
    """Of several processors of a kind (GPUs) the one that drew energy.

    Engines and drivers number them in ways of their own: of two that drew, neither is known to
    have done the work. Where none is seen to have drawn, the loosest bound holds for each.
    """
    drew = {name: q for name, q in found.items() if math.isfinite(q.value) and q.value > 0}
    if len(drew) > 1:
        several = f"several {title}s drew energy ({', '.join(drew)})"
        return Quantity.unavailable("J", f"{several}: which of them did the work is not known")
    return next(iter(drew.values()), max(found.values(), key=_bound))


def _bound(quantity: Quantity) -> float:
    """What it is less than; of what is not known at all, less than anything."""
    unknown = quantity.provenance is Provenance.UNAVAILABLE or quantity.high is None
    return -math.inf if unknown else quantity.high  # type: ignore[return-value]


def planned(
    placements: Sequence[Placement], energies: Mapping[str, Quantity]
) -> tuple[tuple[Cell, ...], ...]:
    """Per processor: its share of Core ML's plan, its energy, its share of that, and what follows.

    The plan is by weight, or by the number of operations where Core ML gives no weights.
    """
    if not placements:
        return ()
    plan = _plan(placements)
    drawn = {where: _energy(where, energies) for where in PROCESSORS}
    known = {w: q.value for w, q in drawn.items() if math.isfinite(q.value) and q.value > 0}
    whole = sum(known.values())
    rows: list[tuple[Cell, ...]] = []
    for where, (title, _) in PROCESSORS.items():
        part = Quantity(plan.get(where, 0.0), "1", Provenance.ESTIMATED, note="Core ML's plan")
        seen = Quantity.unavailable("1", drawn[where].note or "its energy is not known")
        if where in known:
            seen = Quantity(known[where] / whole, "1", Provenance.MEASURED)
        rows.append((title, part, drawn[where], seen, _verdict(part.value, drawn[where])))
    return tuple(rows)


def _plan(placements: Sequence[Placement]) -> dict[str, float]:
    weighed = any(p.weight for p in placements)
    sums: dict[str, float] = defaultdict(float)
    for place in placements:
        sums[place.device] += (place.weight or 0.0) if weighed else 1.0
    whole = sum(sums.values())
    return {device: amount / whole for device, amount in sums.items()}


def _verdict(part: float, drawn: Quantity) -> str:
    """What plan and energy say together."""
    if drawn.provenance is Provenance.UNAVAILABLE:
        return "cannot be checked"
    active = math.isfinite(drawn.value) and drawn.value > 0
    if part >= EXPECTED:
        return "planned, and drew energy" if active else "planned, but no energy was seen"
    return "not planned, but drew energy" if active else "not planned, and drew none to be seen"
