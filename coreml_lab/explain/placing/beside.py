"""Core ML's own plan beside the estimate: where they agree, operation by operation. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreml_lab.explain.page import Cell, Table
from coreml_lab.explain.placing.estimated import Estimated
from coreml_lab.explain.placing.tables import DEVICES, TITLES
from coreml_lab.explain.units import others
from coreml_lab.records import Placement

SHOWN = 20


@dataclass(frozen=True)
class Pair:
    """One operation in both plans; ``estimated`` is "" where the estimate folds or lacks it."""

    node: str
    op: str
    planned: str
    estimated: str
    why: str = ""

    @property
    def agree(self) -> bool:
        """Whether both place it alike."""
        return self.planned == self.estimated


@dataclass(frozen=True)
class Beside:
    """Both plans, operation by operation, as far as Core ML tells."""

    pairs: tuple[Pair, ...]

    @property
    def common(self) -> tuple[Pair, ...]:
        """Operations that both place."""
        return tuple(pair for pair in self.pairs if pair.estimated)

    @property
    def agreement(self) -> float:
        """The share of the common operations that both place alike; NaN where there are none."""
        common = self.common
        return sum(p.agree for p in common) / len(common) if common else float("nan")

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """(Core ML's device, estimated device) -> operations."""
        return Counter((pair.planned, pair.estimated) for pair in self.common)

    def tables(self) -> tuple[Table, ...]:
        """What can be shown of it; nothing where Core ML told nothing."""
        if not self.pairs:
            return ()
        return (_matrix(self), *_differences(self))


def beside(placements: Sequence[Placement], estimated: Estimated) -> Beside:
    """Core ML's plan (``model.plan.placements``, on a Mac) beside an estimate.

    Args:
        placements: what Core ML plans; empty off a Mac.
        estimated: what ``cl.placement(model).estimated`` says of the same program.
    """
    known = {op.node: op for op in estimated.ops}
    pairs = []
    for placement in placements:
        op = known.get(placement.node)
        why = "; ".join(r.text for r in op.reasons) if op is not None else ""
        device = op.device if op is not None else ""
        pairs.append(Pair(placement.node, placement.op, placement.device, device, why))
    return Beside(tuple(pairs))


def _matrix(found: Beside) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (TITLES[planned], *(str(found.counts.get((planned, own), 0)) for own in DEVICES))
        for planned in DEVICES
    ]
    alike = sum(pair.agree for pair in found.common)
    caption = f"Core ML's own plan against the estimate: {alike} of {len(found.common)} alike"
    return Table(
        caption, ("Core ML plans", *(f"estimated: {TITLES[d]}" for d in DEVICES)), tuple(rows)
    )


def _differences(found: Beside) -> tuple[Table, ...]:
    differing = [pair for pair in found.common if not pair.agree]
    if not differing:
        return ()
    rows: list[tuple[Cell, ...]] = [
        (
            p.node,
            p.op,
            TITLES[p.planned],
            TITLES[p.estimated],
            p.why or "nothing is known against it",
        )
        for p in differing[:SHOWN]
    ]
    if rest := differing[SHOWN:]:
        rows.append((others(len(rest)), "", "", "", ""))
    columns = ("operation", "type", "Core ML plans", "estimated", "estimate's reason")
    return (Table("Where Core ML's plan and the estimate differ", columns, tuple(rows)),)
