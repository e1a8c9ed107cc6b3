"""check(): whether models keep their limits, for a person to read and for CI to obey."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import bare
from coreml_lab.improve.limits import Decision
from coreml_lab.metrics import Quantity
from coreml_lab.plain import to_plain

SCHEMA = 1
OUTCOMES = {0: "passed", 1: "failed", 2: "could not be checked"}
COLUMNS = ("", "output", "found", "limit", "verdict", "")
TIMES = (
    "Times: the median of blocks of runs (in turns with the reference's) and its interval. A limit "
    "is kept where the whole interval lies below it, exceeded where all of it lies above; "
    "otherwise up to four times as many are measured. The intervals of all looks hold together "
    "with 95 % (sign test)."
)
OPEN = {
    False: (
        "What is then still not resolved passes (strict: fails): the interval ends below twice "
        "the limit. Noise that reaches further is no pass: it could not be checked."
    ),
    True: "Strict: what is then still not resolved fails.",
}


@dataclass(frozen=True)
class Row:
    """One thing that was looked at; ``limit`` is None where nothing is asked of it.

    Attributes:
        what: in words.
        output: of which output; empty where it concerns the whole model.
        sign: on which side of the limit it must be: ``≤`` or ``≥``.
        note: what the numbers do not say.
        against: what the reference calls that output, where it has another name for it.
    """

    what: str
    output: str
    value: Quantity
    limit: float | None
    verdict: Decision
    sign: str = "≤"
    note: str = ""
    against: str = ""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What tables show of it."""
        asked = "" if self.limit is None else f"{self.sign} {bare(self.limit, self.value.unit)}"
        output = f"{self.output} ({self.against})" if self.against else self.output
        return self.what, output, self.value, asked, self.verdict.value, self.note


@dataclass(frozen=True)
class Checked:
    """One model: what it is, who ran it, and every row."""

    model: str
    path: str
    title: str
    rows: tuple[Row, ...]
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """0 where it passed, 1 where a limit is exceeded, 2 where one could not be checked."""
        if self.failed:
            return 1
        return 2 if any(row.verdict is Decision.UNCHECKED for row in self.rows) else 0

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows whose limits are exceeded."""
        fatal = {Decision.FAIL, Decision.OPEN} if self.strict else {Decision.FAIL}
        return tuple(row for row in self.rows if row.verdict in fatal)

    @property
    def table(self) -> Table:
        """What the renderers draw."""
        title = f" on {self.title}" if self.title else ""
        caption = f"{self.model}{title}: {OUTCOMES[self.exit_code]}"
        return Table(caption, COLUMNS, tuple(row.cells for row in self.rows))


@dataclass(frozen=True, repr=False)
class Gate(Shown):
    """Every model that was checked. ``passed`` is what counts; it prints as tables."""

    models: tuple[Checked, ...]
    inputs: str
    reference: str = ""
    strict: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every model keeps every limit."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """The command's status: 0 passed, 1 a limit is exceeded, 2 something was not checked."""
        codes = {model.exit_code for model in self.models}
        return 1 if 1 in codes else max(codes)

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        notes = [f"Reference: {self.reference}."] if self.reference else []
        notes += [self.inputs]
        timed = any(row.value.unit == "s" for model in self.models for row in model.rows)
        notes += [TIMES, OPEN[self.strict]] if timed else []
        return Page(self._headline(), tuple(m.table for m in self.models), tuple(notes))

    def _headline(self) -> str:
        if len(self.models) == 1:
            rows = ", ".join(dict.fromkeys(row.what for row in self.models[0].failed))
            told = f" ({rows})" if rows else ""
            return f"{self.models[0].model}: {OUTCOMES[self.exit_code]}{told}"
        counts = [sum(m.exit_code == code for m in self.models) for code in OUTCOMES]
        told = ", ".join(
            f"{n} {word}" for n, word in zip(counts, OUTCOMES.values(), strict=True) if n
        )
        return f"{len(self.models)} models: {told}"

    def to_json(self) -> str:
        """The rows as JSON in SI base units; missing and infinite numbers are null, with a note."""
        found = {"schema": SCHEMA, "passed": self.passed, "exit_code": self.exit_code}
        models = [{**to_plain(m), "exit_code": m.exit_code} for m in self.models]
        return json.dumps({**found, **to_plain(self), "models": models}, allow_nan=False)


def refused(name: str, path: Path | str, reason: str) -> Checked:
    """A model of which nothing could be found out."""
    value = Quantity.unavailable("{value}", reason)
    row = Row("model", "", value, None, Decision.UNCHECKED)
    return Checked(name, str(path), "", (row,))
