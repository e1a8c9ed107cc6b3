"""optimize(): tries candidates in turn and keeps what measurement speaks for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from coreml_lab.errors import CacheError, InputError, LabError, UnknownParameter
from coreml_lab.improve.actions import Samples
from coreml_lab.improve.editing import Edit
from coreml_lab.improve.optimizing import mixed
from coreml_lab.improve.optimizing.bench import Bench, Metric
from coreml_lab.improve.optimizing.candidates import (
    THRESHOLD,
    Candidate,
    Chosen,
    candidates,
    together,
)
from coreml_lab.improve.optimizing.ledger import Entry, Evidence, Optimized
from coreml_lab.improve.optimizing.question import question
from coreml_lab.improve.optimizing.verdicts import OPEN, REJECTED, judge
from coreml_lab.plain import from_plain, to_plain, write_atomically
from coreml_lab.program.graph import Array
from coreml_lab.run import compiler

REFERENCE = "reference"
GOALS = ("latency", "size", "memory", "energy")
FAILED = "failed"
# An engine that takes longer than this with what held is not tried with something else, too.
HOPELESS = 2.0
LEDGER = "ledger.json"
TABLES = "palettize_weights"
LOSSES = (0.1, 0.05, 0.02)
METHOD = (
    "Each candidate was timed in turns with what held before it, and compared with the original on "
    "the data given; the last row of numbers was measured anew, the result against the original."
)
ENERGY = (
    "Energy is joules per inference by this machine's counters. Where it has none they are CPU "
    "time x watts per busy core (setting core_watts), a range: of two ranges that overlap, neither "
    "is less, and such a candidate is not kept for it."
)
Told = Callable[[Entry], None]


def optimize(
    model: Any,
    data: Samples | Mapping[str, Array],
    *,
    goal: str = "latency",
    tolerance: float = 0.02,
    metric: Metric | None = None,
    engines: str | Sequence[str] | None = None,
    pairs: int = 21,
    seconds: float = 10.0,
    weight_threshold: int = THRESHOLD,
    folder: str | Path | None = None,
    progress: Told | None = None,
) -> Optimized:
    """Make a copy of a model better for a goal, by what is measured here and now.

    Args:
        model: a loaded model, or the path of one; its file is not touched.
        data: inputs (name -> array), or several: calibration, results and times rest on them.
        goal: ``latency``, ``size``, ``memory`` or ``energy``; or several, ``"latency+memory"``:
            their ratios are multiplied, and the product must become smaller.
        tolerance: the largest loss: relative L2 error of the outputs, or drop of ``metric``.
        metric: a function of a model, larger is better: what really counts.
        engines: engines that may be chosen too, a name or several; default: those that are here.
        pairs: pairs of runs that decide about time.
        seconds: the most that timing one candidate takes.
        weight_threshold: arrays of fewer elements stay as they are.
        folder: where to keep the ledger: a search that was interrupted goes on from there, and what
            was not resolved or failed is tried again.
        progress: called with each entry of the ledger.

    Returns:
        The model with what was kept, and the ledger. Interrupted, it holds what was decided.

    Raises:
        UnknownParameter: for another goal, or an engine that is not here.
        InputError: without data, or where they do not fit.
    """
    goals = goal.split("+")
    if not set(goals) <= set(GOALS):
        hint = f"one of {', '.join(GOALS)}, or several: latency+memory"
        raise UnknownParameter(f"goal={goal!r}", hint=hint)
    edit = Edit.of(model)
    samples = [dict(data)] if isinstance(data, Mapping) else [dict(each) for each in data]
    if not samples:
        raise InputError("optimize needs data to compare results on", hint="data={name: array}")
    asked = {"memory": "memory" in goals, "energy": "energy" in goals}
    bench = Bench(edit, samples, metric, pairs, seconds, **asked)
    chosen = chosen_engines(engines, bench.original.plan.engine)
    kept = Kept(folder, bench, goal, tolerance)
    search = Search(bench, goal, tolerance, kept, progress)
    rows = len(next(iter(samples[0].values()))) if bench.original.batched else 1
    found = candidates(bench.original.info, goal, chosen, threshold=weight_threshold, rows=rows)
    finished = search.run(found, weight_threshold)
    return search.result(finished)


def engines_here(own: str) -> dict[str, str]:
    """Engines besides its own that are here, each with a device that it drives."""
    found = {
        e.name: e.devices[0] for e in compiler.engines() if e.available().available and e.devices
    }
    return {name: device for name, device in found.items() if name not in {own, REFERENCE}}


def chosen_engines(asked: str | Sequence[str] | None, own: str) -> dict[str, str]:
    """The engines that may be chosen besides its own, each with a device.

    Raises:
        UnknownParameter: for one that is not here; the hint names those that are.
    """
    here = engines_here(own)
    names = [asked] if isinstance(asked, str) else list(here) if asked is None else list(asked)
    unknown = [name for name in names if name not in here and name != own]
    if unknown:
        listed = ", ".join(sorted({own, *here}))
        raise UnknownParameter(f"engines: {unknown[0]!r} is not here", hint=f"some of: {listed}")
    return {name: here[name] for name in names if name in here}


class Kept:
    """A ledger on disk, of one question; nothing where no folder is given."""

    def __init__(
        self, folder: str | Path | None, bench: Bench, goal: str, tolerance: float
    ) -> None:
        self._file = None if folder is None else Path(folder) / LEDGER
        self.failure = ""
        given = bench.original, bench.data, goal, tolerance, bench.metric
        self._of = "" if folder is None else question(*given)

    def entries(self) -> tuple[Entry, ...]:
        """What an earlier search decided.

        Raises:
            CacheError: where the folder holds another search.
        """
        if self._file is None or not self._file.exists():
            return ()
        try:
            held = json.loads(self._file.read_text(encoding="utf-8"))
            if held["of"] == self._of:
                return tuple(from_plain(Entry, row) for row in held["entries"])
            why = (
                "it is of another model, data, goal or tolerance, another metric (or what that "
                "refers to), or another machine or versions"
            )
        except (OSError, ValueError, KeyError, TypeError) as failure:
            why = str(failure)
        raise CacheError(f"{self._file} cannot be gone on with: {why}", hint="give another folder")

    def save(self, entries: Sequence[Entry]) -> None:
        """Write what is decided so far."""
        if self._file is not None:
            text = json.dumps({"of": self._of, "entries": to_plain(list(entries))})
            try:
                write_atomically(self._file, text.encode())
            except OSError as error:  # the search is worth more than its ledger on disk
                self.failure = str(error)


class Search:
    """The search going on: what holds, and what was tried."""

    def __init__(
        self, bench: Bench, goal: str, tolerance: float, kept: Kept, progress: Told | None
    ) -> None:
        self._bench, self._goal, self._tolerance = bench, goal, tolerance
        self._kept, self._progress = kept, progress
        self._known = {e.configuration.key: e for e in kept.entries()}
        self._ledger: list[Entry] = []
        self._chosen = Chosen()
        self._edit, self._model = bench.edit, bench.original
        self._before = self._measured(bench.edit, {})
        self._start = self._before

    def _measured(self, edit: Edit, settings: Mapping[str, Any]) -> Evidence:
        return self._bench.evidence(edit, settings, self._model, memory=self._bench.memory)

    def run(self, found: Sequence[Candidate], threshold: int) -> bool:
        """Try each, and bits layer by layer where fewer for all lose too much.

        Returns:
            Whether nobody interrupted.
        """
        try:
            for candidate in found:
                self._try(candidate)
            for pair in together(found):
                self._try_anew(pair)
            for candidate in self._mixed(threshold):
                self._try(candidate)
        except KeyboardInterrupt:
            return False
        return True

    def _mixed(self, threshold: int) -> Iterator[Candidate]:
        beyond = [e for e in self._ledger if e.evidence and e.evidence.loss > self._tolerance]
        by_table = [e for e in beyond if any(a.name == TABLES for a in e.configuration.actions)]
        if not by_table:
            return
        layers = mixed.measured(self._bench.edit, self._bench.feeds, threshold)
        # A metric says nothing of L2 errors: several are tried, from the loosest on.
        for loss in LOSSES if self._bench.metric else (self._tolerance,):
            found = mixed.candidate(layers, loss, threshold)
            if found is not None:
                yield found
                if self._ledger[-1].accepted:
                    return

    def _try_anew(self, pair: tuple[Candidate, Candidate]) -> None:
        """Two together, unless they were, or one of them is hopeless."""
        chosen = self._chosen.replaced(pair[0]).replaced(pair[1])
        known = {e.configuration.key for e in self._ledger}
        slow = {e.title for e in self._ledger if e.evidence and (e.evidence.low or 0) > HOPELESS}
        failed = {e.title for e in self._ledger if e.verdict == FAILED}
        if chosen.configuration.key in known or pair[1].title in slow or pair[0].title in failed:
            return
        self._tried(" with ".join(c.title for c in pair), chosen)

    def _try(self, candidate: Candidate) -> None:
        self._tried(candidate.title, self._chosen.replaced(candidate))

    def _tried(self, title: str, chosen: Chosen) -> None:
        configuration = chosen.configuration
        against = self._chosen.configuration
        known = self._known.get(configuration.key)
        # A verdict is of use beside the same one before it, and only where it is one.
        if known is not None and known.against.key != against.key:
            known = None
        if known is not None and known.verdict == REJECTED:
            self._add(known)
            return
        try:
            edit = self._bench.made(configuration)
            evidence = self._measured(edit, configuration.settings)
        except LabError as failure:
            if isinstance(failure, KeyboardInterrupt):  # a run that was interrupted is both
                raise
            self._add(Entry(title, configuration, FAILED, failure.message, against=against))
            return
        verdict, reason = judge(self._goal, self._before, evidence, self._tolerance)
        if known is not None and known.accepted:  # what is measured now only stands beside it
            verdict, reason = known.verdict, known.reason
        entry = Entry(title, configuration, verdict, reason, evidence, against)
        self._add(entry)
        if entry.accepted:
            self._chosen, self._before = chosen, evidence
            self._edit, self._model = edit, edit.load(configuration.settings)

    def _add(self, entry: Entry) -> None:
        self._ledger.append(entry)
        self._kept.save(self._ledger)
        if self._progress is not None:
            self._progress(entry)

    def result(self, finished: bool) -> Optimized:
        """What holds, measured anew against the original."""
        settings = self._chosen.configuration.settings
        self._model = self._bench.original
        start = self._start
        after = self._bench.evidence(self._edit, settings, self._bench.original, memory=True)
        if start.memory is None:
            held, unknown = self._bench.held(self._bench.edit, {})
            memory = int(median(held)) if held else None
            start = dataclasses.replace(start, memory=memory, memories=held, unknown=unknown)
        return Optimized(
            self._bench.edit.name,
            self._goal,
            self._tolerance,
            start,
            after,
            tuple(self._ledger),
            self._chosen.configuration,
            tuple(self._notes(finished)),
            self._bench.metric is not None,
            self._edit,
        )

    def _notes(self, finished: bool) -> list[str]:
        notes = [METHOD]
        notes += [f"{s.action.name}: {r}." for s in self._edit.steps for r in s.remarks]
        if "energy" in self._goal:
            notes.append(ENERGY)
        if self._kept.failure:
            notes.append(f"The ledger on disk is not complete: {self._kept.failure}.")
        if not finished:
            notes.append("It was interrupted: candidates that were not tried are not here.")
        beyond = [e for e in self._ledger if e.evidence and e.evidence.loss > self._tolerance]
        if beyond and not any(e.accepted for e in self._ledger):
            near = min(beyond, key=lambda e: e.evidence.loss if e.evidence else np.inf)
            loss = near.evidence.loss if near.evidence else np.nan
            notes.append(f"Nearest to the tolerance came {near.title}: a loss of {loss:.3g}.")
        if any(e.verdict == OPEN for e in self._ledger):
            notes.append("More pairs may resolve what is not: pairs=100, seconds=60.")
        return notes
