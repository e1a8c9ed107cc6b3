"""A suggestion and what became of it, as data and as tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.explain.comparison import agreement_rows, quantity
from coreml_lab.explain.page import Cell, Table
from coreml_lab.explain.suggestion import Suggestion
from coreml_lab.improve.trial import Trial, Verdict
from coreml_lab.metrics import Provenance, Quantity


@dataclass(frozen=True)
class Outcome:
    """A suggestion and what became of it.

    Attributes:
        model: the changed model where it was measured; its files live as long as it is kept.
    """

    suggestion: Suggestion
    verdict: Verdict
    reasons: tuple[str, ...]
    trial: Trial | None = None
    model: Any = field(default=None, repr=False, compare=False, metadata={"transient": True})


def untried(suggestion: Suggestion) -> Outcome:
    """A suggestion that was not tried, or that only the author can follow."""
    if suggestion.action is None:
        return Outcome(suggestion, Verdict.ADVICE, (suggestion.advice,))
    return Outcome(suggestion, Verdict.UNMEASURED, ("It was not tried.",))


def summary(outcomes: Sequence[Outcome]) -> Table:
    """All suggestions, a line each."""
    columns = ("suggestion", "verdict", "expected gain", "for", "confidence", "operations")
    return Table("Suggestions", columns, tuple(_line(o) for o in outcomes))


def _line(outcome: Outcome) -> tuple[Cell, ...]:
    s = outcome.suggestion
    count = str(len(s.nodes)) if s.nodes else "all"
    return s.title, str(outcome.verdict), s.gain, FOR[s.target], s.confidence, count


FOR = {"any": "any processor", "ne": "the Neural Engine", "gpu": "the GPU"}


def tables_of(outcome: Outcome) -> tuple[Table, ...]:
    """What was found, and why."""
    title = f"{outcome.suggestion.title}: {outcome.verdict}"
    why = Table("Why", ("", "what"), tuple(_why(outcome)))
    if outcome.trial is None:
        rows: tuple[tuple[Cell, ...], ...] = (("expected to save", outcome.suggestion.gain),)
        rows += tuple(("", reason) for reason in outcome.reasons)
        return Table(title, ("", "what"), rows), why
    trial = outcome.trial
    rows = (
        ("size of the package", trial.size_before, trial.size_after, _share(trial)),
        ("time per inference", trial.latency_before, trial.latency_after, quantity(trial.ratio)),
    )
    measured = Table(title, ("", "before", "after", "after ÷ before [95 %]"), rows)
    columns = ("output", "signal to noise", "largest difference", "in last places of the largest")
    numbers = Table("Numbers, against before", columns, tuple(agreement_rows(trial.agreement)))
    return measured, numbers, why


def _why(outcome: Outcome) -> list[tuple[Cell, ...]]:
    s = outcome.suggestion
    told = [("reason", s.why), *(("seen here", text) for text in s.evidence)]
    if outcome.trial is not None:
        told += [("evidence", reason) for reason in outcome.reasons]
    named = {
        "risk": s.risk,
        "needs": s.since,
        "how to see it": s.verify,
        "rests on": ", ".join(s.sources),
    }
    return [*told, *((name, text) for name, text in named.items() if text)]


def _share(trial: Trial) -> Quantity:
    after, before = trial.size_after.value, trial.size_before.value
    return Quantity(after / before, "{ratio}", Provenance.MEASURED)
