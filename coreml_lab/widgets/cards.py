"""Suggestions as cards: tried in the background, measured, accepted or undone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from coreml_lab.errors import LabError
from coreml_lab.explain.comparison_rows import quantity
from coreml_lab.improve.outcome import Outcome
from coreml_lab.improve.suggesting import (
    WARMUP,
    Improvable,
    Load,
    attempt,
    open_package,
    suggest,
)
from coreml_lab.improve.trial import Verdict
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.records import Recording
from coreml_lab.widgets.messages import VERSION, Card, Suggested
from coreml_lab.widgets.recorded import amount

PAIRS = 60
# The changed model runs once for its numbers, then to warm up, then in pairs.
RUNS = 1 + WARMUP + PAIRS
# Every so many runs the page is told: a message per run would be more than anyone sees.
STEP = 4


class Shows(Protocol):
    """What shows a model."""

    @property
    def model(self) -> Any:
        """The model that is shown, or None."""
        ...

    def show(self, model: Any) -> None:
        """Show another model."""
        ...


class Halted(Exception):
    """A trial was stopped."""


class Watched:
    """A model that tells before each run, so that a trial has progress and can be stopped."""

    def __init__(self, model: Improvable, before: Callable[[], None]) -> None:
        self.model = model
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        """Tell, then run."""
        self._before()
        return self.model.predict(inputs)


class Cards:
    """The cards of the model that was recorded last; all but ``halt`` and ``wait`` may take long.

    Attributes:
        cards: by their number.
    """

    def __init__(
        self, stage: Shows, post: Callable[[Any, list[bytes]], None], load: Load = open_package
    ) -> None:
        self.cards: dict[int, Card] = {}
        self._stage, self._post, self._load = stage, post, load
        self._recording: Recording | None = None
        self._found: dict[int, Outcome] = {}
        self._before: dict[int, Any] = {}
        self._halted = threading.Event()
        self._numbers = itertools.count(1)
        self._name = self._note = ""

    def look(self, recording: Recording) -> None:
        """Suggestions for another recording; what was accepted stays, and can be undone."""
        self._recording = recording
        kept = {i: card for i, card in self.cards.items() if card["state"] == "accepted"}
        try:
            found = suggest(recording, measure=False)
            outcomes, self._note = tuple(found), legible(found.looked_at, SENTENCE)
        except LabError as error:
            outcomes, self._note = (), legible(str(error), SENTENCE)
        self._name = legible(recording.program.name)
        fresh = {next(self._numbers): outcome for outcome in outcomes}
        self._found = {i: self._found[i] for i in kept} | fresh
        self.cards = {i: _card(i, outcome) for i, outcome in fresh.items()} | kept
        self.tell()

    def wait(self, index: Any) -> None:
        """Somebody wants it tried, and something else runs yet."""
        if self._may(index, "new", "rejected", "failed", "stopped"):
            self.cards[index]["state"] = "waiting"
            self.tell()

    def halt(self) -> None:
        """Stop the trial that runs, before its next inference."""
        self._halted.set()

    def attempt(self, index: Any) -> None:
        """Apply it to a copy, and measure both in turns."""
        if not self._may(index, "waiting") or self._recording is None:
            return
        self._halted.clear()
        card = self.cards[index]
        card.update({"state": "running", "done": 0, "of": RUNS, "reasons": []})
        self.tell()
        try:
            outcome = attempt(
                self._recording,
                self._found[index].suggestion,
                pairs=PAIRS,
                load=lambda *given: self._watched(card, *given),
            )
        except Halted:
            card.update({"state": "stopped", "done": 0})
        except LabError as error:
            card.update({"state": "failed", "reasons": [legible(str(error), SENTENCE)]})
        else:
            if index in self._found:
                self._found[index] = outcome
            _measured(card, outcome)
        self.tell()

    def _watched(self, card: Card, package: Path, function: str, device: str) -> Any:
        def before() -> None:
            if self._halted.is_set():
                raise Halted
            card["done"] = min(card["done"] + 1, card["of"])
            if card["done"] % STEP == 0:
                self.tell()

        return Watched(self._load(package, function, device), before)

    def accept(self, index: Any) -> None:
        """Show the changed model from now on: ``dashboard.model`` is it."""
        if not self._may(index, "awaits", "rejected") or self._found[index].model is None:
            return
        self._before[index] = self._stage.model
        self._stage.show(self._found[index].model.model)
        self.cards[index]["state"] = "accepted"
        self.tell()

    def undo(self, index: Any) -> None:
        """Back to the model before it was accepted; a result that waits is thrown away."""
        if not self._may(index, "accepted", "awaits", "rejected"):
            return
        if self.cards[index]["state"] == "accepted":
            self._stage.show(self._before.pop(index, None))
        fresh = self._found[index].suggestion
        self._found[index] = Outcome(fresh, Verdict.UNMEASURED, ())
        self.cards[index] = _card(index, self._found[index])
        self.tell()

    def tell(self) -> None:
        """Send all cards."""
        said: Suggested = {
            "k": "suggestions", "v": VERSION, "name": self._name, "note": self._note,
            "cards": [dict(card) for card in self.cards.values()],  # type: ignore[misc]
        }  # fmt: skip
        self._post(said, [])

    def _may(self, index: Any, *states: str) -> bool:
        card = self.cards.get(index) if isinstance(index, int) else None
        return card is not None and card["can"] and card["state"] in states


def _card(index: int, outcome: Outcome) -> Card:
    s = outcome.suggestion
    can = s.action is not None
    return {
        "id": index,
        "rule": s.rule,
        "title": legible(s.title, SENTENCE),
        "why": legible(s.why, SENTENCE),
        "evidence": [legible(text, SENTENCE) for text in s.evidence],
        "gain": amount(s.gain),
        "confidence": s.confidence,
        "serves": s.serves,
        "target": s.target,
        "risk": legible(s.risk, SENTENCE),
        "advice": legible(s.advice, SENTENCE),
        "can": can,
        "state": "new" if can else "advice",
        "done": 0,
        "of": RUNS,
        "reasons": [],
        "before": None,
        "after": None,
        "ratio": None,
        "size": None,
    }


def _measured(card: Card, outcome: Outcome) -> None:
    """Write what a trial found onto its card."""
    card["reasons"] = [legible(reason, SENTENCE) for reason in outcome.reasons]
    good = outcome.verdict in {Verdict.ACCEPTED, Verdict.ESTIMATED}
    failed = outcome.verdict is Verdict.FAILED
    card["state"] = "failed" if failed else "awaits" if good else "rejected"
    trial = outcome.trial
    if trial is not None:
        card["before"], card["after"] = amount(trial.latency_before), amount(trial.latency_after)
        card["ratio"], card["size"] = amount(quantity(trial.ratio)), amount(trial.size_after)
