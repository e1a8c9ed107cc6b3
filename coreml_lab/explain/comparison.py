"""compare(): one model on several devices, in turns: time and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import LabError
from coreml_lab.explain.agreement import Agreement, agree
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import show
from coreml_lab.measure.paired import Ratio, interleave, ratio
from coreml_lab.measure.recorder import Subject
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import PlanInfo

# Where pairs of runs take long, as many are made as fit into this.
SECONDS = 60.0
WARMUP = 2
METHOD = (
    "Ratios are arm ÷ baseline: the median of pairs of runs made in turns, in random order, with "
    "its 95 % interval (sign test). A verdict is given only where the interval excludes 1."
)
NOT_APPLE = (
    "Nothing here is a statement about Core ML on Apple hardware or about the Neural Engine."
)


class Movable(Subject, Protocol):
    """A model that can go to another device."""

    def to(self, device: str, /) -> Movable:
        """The same model there."""
        ...


@dataclass(frozen=True)
class Arm:
    """One device against the baseline."""

    device: str
    plan: PlanInfo
    latency: Quantity
    baseline_latency: Quantity
    ratio: Ratio
    agreement: tuple[Agreement, ...]

    @property
    def verdict(self) -> str:
        """In words, and only where the interval allows them."""
        return verdict(self.ratio)


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """What was found; ratios are arm ÷ baseline."""

    program: str
    baseline: PlanInfo
    arms: tuple[Arm, ...]

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        return Page(self._headline(), (_times(self), _numbers(self.arms)), self._notes())

    def _headline(self) -> str:
        told = "; ".join(
            f"{arm.plan.title}: {arm.verdict}, {show(quantity(arm.ratio))}" for arm in self.arms
        )
        return f"{self.program} against {self.baseline.title}: {told}"

    def _notes(self) -> tuple[str, ...]:
        notes = [
            METHOD,
            *(
                f"{arm.device} and the baseline are the same engine on the same hardware: "
                "their ratio shows the noise of this machine."
                for arm in self.arms
                if (arm.plan.engine, arm.plan.title) == (self.baseline.engine, self.baseline.title)
            ),
            *(f"{g.output}: {g.note}" for arm in self.arms for g in arm.agreement if g.note),
        ]
        if all(plan.engine != "coreml" for plan in (self.baseline, *(a.plan for a in self.arms))):
            notes.append(NOT_APPLE)
        return tuple(notes)


def compare(
    model: Movable,
    inputs: Mapping[str, Any],
    devices: Sequence[str] = ("coreml", "cpu"),
    *,
    baseline: str | None = None,
    pairs: int = 20,
) -> Comparison:
    """Run a model on several devices in turns and compare their times and results.

    Args:
        model: what to run.
        inputs: name -> array.
        devices: where to run it.
        baseline: what the others are divided by; the last device where nothing is said.
        pairs: how many pairs of runs; fewer where they take longer than a minute.

    Raises:
        EngineUnavailable: for a device that is not here.
        LabError: for fewer than two devices.
    """
    return measure(model, inputs, devices, baseline=baseline, pairs=pairs, clock=SYSTEM)


def measure(
    model: Movable,
    inputs: Mapping[str, Any],
    devices: Sequence[str],
    *,
    baseline: str | None,
    pairs: int,
    clock: Clock,
) -> Comparison:
    """``compare`` with the clock handed in."""
    names = list(dict.fromkeys([devices] if isinstance(devices, str) else devices))
    base_name = baseline if baseline is not None else names[-1] if names else ""
    others = [name for name in names if name != base_name]
    if not others:
        raise LabError(f"compare needs two devices, not {names}", hint='devices=["coreml", "cpu"]')
    base = model.to(base_name)
    moved = [(name, model.to(name)) for name in others]
    arms = tuple(_arm(name, (arm, base), inputs, pairs=pairs, clock=clock) for name, arm in moved)
    return Comparison(model.info.name, base.plan, arms)


def _arm(
    name: str,
    sides: tuple[Subject, Subject],
    inputs: Mapping[str, Any],
    *,
    pairs: int,
    clock: Clock,
) -> Arm:
    arm, base = sides
    agreement = agree(arm.predict(inputs), base.predict(inputs))
    times = interleave(
        lambda: arm.predict(inputs),
        lambda: base.predict(inputs),
        pairs=pairs,
        warmup=WARMUP,
        seconds=SECONDS,
        clock=clock,
    )
    return Arm(
        name,
        arm.plan,
        seconds(times.arm),
        seconds(times.baseline),
        ratio(times),
        agreement,
    )


def seconds(durations_ns: Sequence[int]) -> Quantity:
    """The median of measured durations."""
    return Quantity(median(durations_ns) / 1e9, "s", Provenance.MEASURED)


def verdict(found: Ratio, less: str = "less time", more: str = "more time") -> str:
    """Words for a ratio, and only where its interval excludes 1."""
    if found.low is None:
        return f"not resolved: {found.pairs} pairs are too few"
    if not found.resolved:
        return "no difference shown"
    return less if found.value < 1 else more


def quantity(found: Ratio) -> Quantity:
    """A ratio as a quantity."""
    note = f"{found.pairs} pairs" + ("" if found.low is not None else ": too few for an interval")
    return Quantity(found.value, "{ratio}", Provenance.MEASURED, found.low, found.high, note)


def _times(found: Comparison) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for arm in found.arms:
        pairs = str(arm.ratio.pairs)
        rows.append(
            (arm.plan.title, arm.device, arm.latency, quantity(arm.ratio), pairs, arm.verdict)
        )
        rows.append(
            (
                f"baseline: {found.baseline.title}",
                found.baseline.device,
                arm.baseline_latency,
                "",
                "",
                "",
            )
        )
    columns = (
        "arm",
        "device",
        "time per inference",
        "ratio to baseline [95 %]",
        "pairs",
        "verdict",
    )
    return Table("Time", columns, tuple(rows))


def _numbers(arms: Sequence[Arm]) -> Table:
    rows = tuple(
        row for arm in arms for row in agreement_rows(arm.agreement, prefix=(arm.plan.title,))
    )
    columns = (
        "arm",
        "output",
        "signal to noise",
        "largest difference",
        "in last places of the largest",
    )
    return Table("Numbers, against the baseline", columns, rows)


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
