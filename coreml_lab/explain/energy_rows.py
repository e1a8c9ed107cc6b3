"""What each counter says per inference, as quantities: with an interval, or below resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from coreml_lab.explain.units import digits, scale, show
from coreml_lab.measure.energy import GroupEnergy, Measurement
from coreml_lab.measure.energy_estimate import Estimate, Interval, estimate
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes.counters import Domain, Scope

BELOW = "below resolution"


@dataclass(frozen=True)
class EnergyRow:
    """What one counter, or a group of them, says per inference.

    Attributes:
        group: ``gpu/0``, ``package``, ``ane``, ``process``, ``total`` …
        above_idle: joules beyond what the idle machine draws. Where it is too small to be told,
            there is no value, ``high`` is what it is less than, and the note says so.
        gross: joules, idle power included.
        active, idle: watts.
        degrees: of freedom, behind the interval of ``above_idle``.
    """

    group: str
    title: str
    source: str
    above_idle: Quantity
    gross: Quantity
    active: Quantity
    idle: Quantity
    degrees: int = 0


def cpu_time(found: Measurement) -> Quantity:
    """What the estimate was made of."""
    for group in found.groups:
        watts = group.domains[0].watts
        if watts and math.isfinite(group.estimate.high):
            return Quantity(group.estimate.high / watts[1], "s", Provenance.MEASURED)
    return Quantity.unavailable("s", "energy was counted, not estimated from CPU time")


def energy_rows(found: Measurement) -> tuple[EnergyRow, ...]:
    """The rows of a measurement; with a total where several counters can be added up."""
    rows = [_row(g.group, g.title, named(g), g.domains, g.estimate) for g in found.groups]
    parts = [g for g in found.groups if _adds_up(g)]
    if len(parts) > 1 and found.pairs:
        domains = tuple(d for g in parts for d in g.domains)
        title = " + ".join(g.title for g in parts)
        total = estimate(found.pairs, found.timelines, domains)
        rows.append(_row("total", title, "added up", domains, total))
    return tuple(rows)


def _adds_up(group: GroupEnergy) -> bool:
    """Whether it has an energy of its own, which stands beside the others."""
    return _beside(group) and group.estimate.marginal is not None


def left_out(group: GroupEnergy) -> bool:
    """Whether it would be part of a total if it had an energy."""
    return _beside(group) and group.estimate.marginal is None


def _beside(group: GroupEnergy) -> bool:
    """Whether no other row contains it, or it them."""
    first = group.domains[0]
    measured = first.provenance is Provenance.MEASURED
    return measured and first.scope is not Scope.PROCESS and group.group != "machine"


def named(group: GroupEnergy) -> str:
    """Where a group is read."""
    count = len(group.domains)
    return group.domains[0].source + (f", {count} counters" if count > 1 else "")


def _row(
    group: str, title: str, source: str, domains: Sequence[Domain], found: Estimate
) -> EnergyRow:
    note = domains[0].note
    if math.isfinite(found.low):
        edges = Quantity(math.nan, "J", Provenance.ESTIMATED, found.low, found.high, note)
        why = "an estimate from CPU time knows nothing of idle power"
        gross, watts = Quantity.unavailable("J", why), Quantity.unavailable("W", why)
        return EnergyRow(group, title, source, edges, gross, watts, watts)
    return EnergyRow(
        group,
        title,
        source,
        _above(found, note),
        _quantity(found.gross, "J", note, found.reason),
        _quantity(found.active, "W", note, found.reason),
        _quantity(found.idle, "W", note, found.reason),
        found.marginal.degrees if found.marginal is not None else 0,
    )


def _above(found: Estimate, note: str) -> Quantity:
    """Joules above idle, or what they are less than."""
    if found.marginal is None or found.resolved:
        return _quantity(found.marginal, "J", note, found.reason)
    why = f"{BELOW} (< {bare_digits(found.below)})"
    return Quantity(math.nan, "J", Provenance.MEASURED, 0.0, found.below, why)


def bare_digits(joules: float) -> str:
    """``1.24 mJ``: three digits, no mark."""
    factor, unit = scale(joules, "J")
    return f"{digits(joules / factor)} {unit}"


def _quantity(found: Interval | None, unit: str, note: str, why: str) -> Quantity:
    if found is None:
        return Quantity.unavailable(unit, why or "it was not measured")
    if not math.isfinite(found.half):
        return Quantity(found.mean, unit, Provenance.MEASURED, note=why or note)
    low, high = found.mean - found.half, found.mean + found.half
    return Quantity(found.mean, unit, Provenance.MEASURED, low, high, note)


def told(quantity: Quantity) -> str:
    """As ``show``; what is too small to be told says so."""
    return quantity.note + " ●" if quantity.note.startswith(BELOW) else show(quantity)
