"""A comparison as a page: arms and metrics with ratio and verdict, numbers, operations, notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from coreml_lab.explain.agreement import Agreement
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.units import show
from coreml_lab.metrics import Quantity

if TYPE_CHECKING:
    from coreml_lab.explain.comparison_result import Arm, Comparison

METHOD = (
    "Ratios are arm ÷ baseline: the median of rounds in which every arm has a turn, in an order "
    "drawn anew, with its interval (sign test). A verdict is given only where the interval "
    "excludes 1, or where numbers are exact."
)
NOT_APPLE = (
    "Nothing here is a statement about Core ML on Apple hardware or about the Neural Engine."
)
# As many operations are listed; the others are added up.
LISTED = 10
SAME = 1e-9


def page(found: Comparison) -> Page:
    """What the renderers draw."""
    tables = [_measured(found), _numbers(found)]
    tables += [_operations(arm, found) for arm in found.arms if arm.ops]
    if found.absent:
        tables.append(_absent(found))
    return Page(_headline(found), tuple(tables), tuple(_notes(found)))


def _headline(found: Comparison) -> str:
    if not found.arms:
        return f"{found.program}: only {found.reference.name} is here, nothing to compare it with"
    told = "; ".join(
        f"{title(arm, found)}: {arm.verdict}, {show(arm.rows[0].ratio)}"
        if arm.times
        else f"{title(arm, found)}: not timed"
        for arm in found.arms
    )
    several = len({a.model for a in (found.reference, *found.arms)}) > 1
    what = "" if several else f"{found.program} "
    return f"{what}against {title(found.reference, found)}: {told}"


def title(arm: Arm, found: Comparison) -> str:
    """Who did the work; with the name of the arm where that alone does not tell them apart."""
    every = (found.reference, *found.arms)
    alone = len({a.plan.title for a in every}) == len(every)
    return arm.plan.title if alone else f"{arm.name}: {arm.plan.title}"


def _measured(found: Comparison) -> Table:
    """As in the mock-up: a block of rows per arm, the baseline last."""
    rows: list[tuple[Cell, ...]] = []
    every = (*found.arms, found.reference)
    # What was not begun is told once, in the notes, and not row by row.
    late = set(found.unfinished.values())
    told = {r.metric for a in every for r in a.rows if r.value.note not in late}
    for arm in every:
        name = title(arm, found)
        name = f"baseline: {name}" if arm is found.reference else name
        for row in arm.rows:
            if row.metric in told:
                ratio = "" if arm is found.reference else row.ratio
                rows.append((name, row.label, row.value, ratio, row.verdict))
    columns = ("arm", "metric", "value", "ratio to baseline", "verdict")
    return Table("Measured in turns, and counted", columns, tuple(rows))


def _numbers(found: Comparison) -> Table:
    rows = [
        row
        for arm in found.arms
        for row in (
            _agreement(arm.agreement, (title(arm, found),))
            or [(title(arm, found), "", "not comparable: " + arm.numbers, "", "", "", "")]
        )
    ]
    columns = (
        "arm",
        "output",
        "signal to noise",
        "largest difference",
        "in last places of the largest",
        "same top 1",
        "examples",
    )
    return Table("Numbers, against the baseline", columns, tuple(rows))


def _agreement(found: Sequence[Agreement], prefix: tuple[Cell, ...]) -> list[tuple[Cell, ...]]:
    rows = agreement_rows(found, prefix)
    return [(*row, a.top1, str(a.examples)) for row, a in zip(rows, found, strict=True)]


def agreement_rows(
    agreement: Sequence[Agreement], prefix: tuple[Cell, ...] = ()
) -> list[tuple[Cell, ...]]:
    """One row per output."""
    rows: list[tuple[Cell, ...]] = []
    for found in agreement:
        numbers = (
            ("identical", "", "") if found.identical else (found.snr, found.largest, found.ulp)
        )
        rows.append((*prefix, found.output, *numbers))
    return rows


def _operations(arm: Arm, found: Comparison) -> Table:
    """The largest differences, the rest together, and the whole instrumented run."""
    rows: list[tuple[Cell, ...]] = [
        (g.node, _kind(g.op, len(g.nodes)), g.time, g.baseline, g.difference)
        for g in arm.ops[:LISTED]
    ]
    rest = arm.ops[LISTED:]
    if rest:
        less = Quantity(sum(g.difference.value for g in rest), "s", rest[0].difference.provenance)
        rows.append((f"{len(rest)} more", "", "", "", less))
    other = found.reference.total
    whole = Quantity(arm.total.value - other.value, "s", arm.total.provenance)
    rows.append(("whole instrumented run", "", arm.total, other, whole))
    columns = ("operation", "type", "arm", "baseline", "arm less baseline")
    return Table(f"Where the time went: {title(arm, found)}", columns, tuple(rows))


def _kind(op: str, members: int) -> str:
    return f"{op} and {members - 1} more" if members > 1 else op


def _absent(found: Comparison) -> Table:
    rows = tuple((a.name, a.reason, a.hint) for a in found.absent)
    return Table("Not here", ("arm", "why", "what it takes"), rows)


def _notes(found: Comparison) -> Iterator[str]:
    yield METHOD
    if found.statements > 1:
        each = f"{100 * found.confidence:.3g}"
        yield (
            f"{found.statements} intervals are given: each holds with {each} %, so that all of "
            "them hold together with 95 % (Bonferroni)."
        )
    for arm in found.arms:
        same = (arm.plan.engine, arm.plan.title) == (found.baseline.engine, found.baseline.title)
        if same and arm.model == found.reference.model:
            yield (
                f"{arm.name} and the baseline are the same engine on the same hardware: "
                "their ratio shows the noise of this machine."
            )
        yield from (f"{g.output}: {g.note}" for g in arm.agreement if g.note)
        if arm.trace:
            yield f"{arm.name}: no times per operation: {arm.trace}"
        if arm.ops:
            yield (
                "Times per operation come from instrumented runs, which are slower; what either "
                "arm computes in one kernel is one row. They are shown, not ranked."
            )
    yield from (f"{stage}: {why}" for stage, why in found.unfinished.items())
    if all(a.plan.engine != "coreml" for a in (found.reference, *found.arms)):
        yield NOT_APPLE
