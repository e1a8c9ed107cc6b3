"""What a comparison found, as data: arms with rows, and how they are built from a study. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from coreml_lab.errors import LabError
from coreml_lab.explain import comparison_page as drawn
from coreml_lab.explain import draw
from coreml_lab.explain.agreement import Agreement, Tally
from coreml_lab.explain.comparison_arms import Absent
from coreml_lab.explain.comparison_counted import counted, energies, throughputs
from coreml_lab.explain.comparison_ops import OpGroup, grouped, total
from coreml_lab.explain.comparison_rows import Row, intervals, quantity, timed, verdict
from coreml_lab.explain.comparison_study import Study
from coreml_lab.explain.page import Page
from coreml_lab.explain.shown import Shown
from coreml_lab.measure.paired import Ratio
from coreml_lab.measure.recorder import environment
from coreml_lab.measure.rounds import against, middle, shared_confidence
from coreml_lab.metrics import Quantity
from coreml_lab.plain import to_plain
from coreml_lab.records import PlanInfo

NOT_TIMED = Quantity.unavailable("s", "it was not timed")
NOT_TRACED = Quantity.unavailable("s", "no instrumented run")
NO_RATIO = Ratio(math.nan, None, None, 0)
# Engines whose work is done in another process: this one's CPU time does not count it.
ELSEWHERE = frozenset({"coreml"})


@dataclass(frozen=True)
class Arm:
    """A model on a device, against the baseline; the baseline's own ratios are unavailable.

    Attributes:
        name: what tells it from the others: a model, a device, or both.
        model: the program's name.
        rows: what was measured, each with its ratio and verdict.
        times: seconds per inference in each round; what stands at the same place was paired.
        agreement: how far its results are from the baseline's, per output.
        numbers: why that is not known, or "".
        ops: where the time went, the largest difference first.
        trace: why that is not known, or "".
        total: the instrumented runs' whole time.
    """

    name: str
    model: str
    device: str
    plan: PlanInfo
    rows: tuple[Row, ...]
    times: tuple[float, ...]
    latency: Quantity
    baseline_latency: Quantity
    ratio: Ratio
    agreement: tuple[Agreement, ...] = ()
    numbers: str = ""
    ops: tuple[OpGroup, ...] = ()
    trace: str = ""
    total: Quantity = NOT_TRACED

    @property
    def verdict(self) -> str:
        """In words, about its time, and only where the interval allows them."""
        return verdict(self.ratio)

    def row(self, metric: str) -> Row:
        """What was measured under that name.

        Raises:
            LabError: where there is no such row.
        """
        for row in self.rows:
            if row.metric == metric:
                return row
        raise LabError(
            f"{self.name} has no row {metric!r}",
            hint="one of " + ", ".join(row.metric for row in self.rows),
        )


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """What was found; ratios are arm ÷ baseline.

    Attributes:
        program: what was compared.
        baseline: who ran the baseline.
        arms: all but the baseline.
        reference: the baseline as an arm.
        absent: what was asked for and is not here, with the reason.
        confidence: what each interval holds with, so that all hold together with 95 %.
        statements: how many intervals share the error.
        unfinished: stages that were not measured, and why.
        environment: the machine and the libraries.
    """

    program: str
    baseline: PlanInfo
    arms: tuple[Arm, ...]
    reference: Arm
    absent: tuple[Absent, ...]
    confidence: float
    statements: int
    unfinished: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        return drawn.page(self)

    @property
    def figures(self) -> Mapping[str, draw.Drawer]:
        """The arms' ratios of time to the baseline, with their intervals."""
        rows = [(drawn.title(a, self), quantity(a.ratio), a.device) for a in self.arms]
        base = drawn.title(self.reference, self)
        title = f"{self.program}: time per inference, arm ÷ {base}"
        return draw.of_ratios("time ratios", rows, title)

    def to_json(self) -> str:
        """The page as JSON and, under ``data``, everything behind it."""
        page = to_plain(self.page)
        return json.dumps({**page, "data": to_plain(self)}, allow_nan=False)


def built(study: Study) -> Comparison:
    """What the study has found so far."""
    others = [a for i, a in enumerate(study.arms) if i != study.base]
    statements = intervals(len(others), len(study.batches)) + energies(study)
    confidence = shared_confidence(statements)
    arms = {a.name: _arm(study, i, confidence) for i, a in enumerate(study.arms)}
    return Comparison(
        program=", ".join(dict.fromkeys(a.label for a in study.arms)),
        baseline=study.baseline.model.plan,
        arms=tuple(arms[a.name] for a in others),
        reference=arms[study.baseline.name],
        absent=tuple(study.absent),
        confidence=confidence,
        statements=statements,
        unfinished=dict(study.unfinished),
        environment=environment(),
    )


def _arm(study: Study, place: int, confidence: float) -> Arm:
    candidate, base = study.arms[place], study.base
    away = {i for i, a in enumerate(study.arms) if a.model.plan.engine in ELSEWHERE}
    rows = timed(study.rounds, place, base, confidence, away) if study.rounds else ()
    more = *throughputs(study, candidate.name, confidence), *counted(study, candidate, confidence)
    numbers = study.numbers.get(candidate.name, "it is the baseline")
    trace, other = (study.traces.get(a.name, "") for a in (candidate, study.baseline))
    told = trace if isinstance(trace, str) else other if isinstance(other, str) else ""
    both = not isinstance(trace, str) and not isinstance(other, str) and place != base
    return Arm(
        candidate.name,
        candidate.model.info.name,
        candidate.device,
        candidate.model.plan,
        (*rows, *more),
        tuple(middle(r[place]) / 1e9 for r in study.rounds),
        rows[0].value if rows else NOT_TIMED,
        timed(study.rounds, base, base, confidence)[0].value if study.rounds else NOT_TIMED,
        _ratio(study, place, confidence),
        agreement=numbers.results() if isinstance(numbers, Tally) else (),
        numbers=numbers if isinstance(numbers, str) else "",
        ops=grouped(trace, other) if both else (),  # type: ignore[arg-type]
        trace=told,
        total=NOT_TRACED if isinstance(trace, str) else total(trace),
    )


def _ratio(study: Study, place: int, confidence: float) -> Ratio:
    try:
        return against(study.rounds, place, study.base, middle, confidence)
    except LabError:
        return NO_RATIO
