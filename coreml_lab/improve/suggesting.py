"""suggest(): what could be better about a model, each idea tried before it is believed."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import CompileError, EngineError, InputError, ModelError
from coreml_lab.explain.advisor import ON_THE_DEVICE, advise
from coreml_lab.explain.agreement import agree
from coreml_lab.explain.comparison import seconds
from coreml_lab.explain.page import Page
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.suggestion import NE, Suggestion
from coreml_lab.improve.actions import apply, size
from coreml_lab.improve.looking import ANYTHING, Wish, foreseen, look, looked_at, wished
from coreml_lab.improve.outcome import Outcome, summary, tables_of, untried
from coreml_lab.improve.trial import Trial, Verdict, judge
from coreml_lab.measure.paired import interleave, ratio
from coreml_lab.measure.recorder import Subject
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program.graph import TensorType
from coreml_lab.program.program import FILE, Program
from coreml_lab.records import Recording
from coreml_lab.run.simulated import noise, usual

# Where pairs of runs take long, as many are made as fit into this.
SECONDS = 30.0
WARMUP = 3


class Improvable(Subject, Protocol):
    """A model whose package can be changed."""

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """What it takes."""
        ...


Load = Callable[[Path, str, str], Improvable]


@dataclass(frozen=True, repr=False)
class Suggestions(Shown):
    """Every suggestion for a model, with its verdict."""

    program: str
    title: str
    outcomes: tuple[Outcome, ...]
    inputs_note: str
    looked_at: str = ""

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __getitem__(self, index: int) -> Outcome:
        return self.outcomes[index]

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        notes = tuple(filter(None, (self.inputs_note, self.looked_at, ON_THE_DEVICE)))
        if not self.outcomes:
            return Page(f"{self.program}: no rule has anything to suggest", (), notes)
        told = "; ".join(f"{o.suggestion.title}: {o.verdict}" for o in self.outcomes)
        tables = tuple(table for o in self.outcomes for table in tables_of(o))
        return Page(
            f"{self.program} on {self.title}: {told}", (summary(self.outcomes), *tables), notes
        )


def suggest(
    model_or_recording: Improvable | Recording,
    inputs: Mapping[str, Any] | None = None,
    *,
    target: str | None = None,
    goal: str | None = None,
    measure: bool = True,
    pairs: int = 60,
    min_snr: float = 30.0,
) -> Suggestions:
    """Say what could be better, and try each idea: size, time and numbers before and after.

    Args:
        model_or_recording: a model, or a recording of one.
        inputs: what to try it on; else the recording's own inputs, else simulated ones.
        target: what it shall run on: ``ane``, ``gpu``, ``cpu``, or a chip (``M4``, ``A17 Pro``).
            Default: all of them, with the Neural Engine of an M4.
        goal: only what serves it: ``latency``, ``size``, ``memory``, ``energy``, ``correctness``.
        measure: whether to try the ideas; without, they are only listed.
        pairs: how many pairs of runs decide about time.
        min_snr: how close the results must stay, in dB.

    Raises:
        ModelError: for a recording from a file whose model is not there any more.
        UnknownParameter: for a goal or chip there is not.
    """
    trying = Trying(pairs, min_snr, SYSTEM, open_package)
    wish = wished(target, goal)
    return trying.suggest(model_or_recording, inputs, measure=measure, wish=wish)


def open_package(package: Path, function: str, device: str) -> Improvable:
    """How a changed package is opened where nobody says otherwise."""
    from coreml_lab.run import compiler  # noqa: PLC0415 - a recording can be advised upon without an engine

    return compiler.load(package, function=function or None, device=device)


def attempt(
    source: Improvable | Recording,
    suggestion: Suggestion,
    *,
    pairs: int = 60,
    min_snr: float = 30.0,
    load: Load = open_package,
) -> Outcome:
    """Try one suggestion that has an action; ``load`` opens the changed package.

    Raises:
        ModelError: for a recording from a file whose model is not there any more.
        InputError: for advice that only the author can follow.
    """
    if suggestion.action is None:
        raise InputError(f"{suggestion.title}: nothing to try", hint=suggestion.advice)
    trying = Trying(pairs, min_snr, SYSTEM, load)
    recording = source if isinstance(source, Recording) else _unmeasured(source)
    model = trying.model_of(recording)
    feeds, _, provenance = _inputs(recording, model, None)
    return trying.outcome(suggestion, model, feeds, provenance, ANYTHING)


@dataclass(frozen=True)
class Trying:
    """How ideas are tried; ``load`` opens a package on a device."""

    pairs: int
    min_snr: float
    clock: Clock
    load: Load

    def suggest(
        self,
        source: Improvable | Recording,
        inputs: Mapping[str, Any] | None,
        *,
        measure: bool,
        wish: Wish = ANYTHING,
    ) -> Suggestions:
        """See ``suggest``."""
        recording = source if isinstance(source, Recording) else _unmeasured(source)
        seen = look(recording, wish)
        found = advise(seen, goal=wish.goal, target=wish.target)
        name, title = recording.program.name, recording.plan.title
        if not measure or not any(s.action for s in found):
            outcomes = tuple(untried(s) for s in found)
            note = "Nothing was tried: gains are estimates."
            return Suggestions(name, title, outcomes, note, looked_at(seen))
        model = self.model_of(recording)
        feeds, note, provenance = _inputs(recording, model, inputs)
        outcomes = tuple(
            self.outcome(s, model, feeds, provenance, wish) if s.action else untried(s)
            for s in found
        )
        return Suggestions(name, title, outcomes, note, looked_at(seen))

    def model_of(self, recording: Recording) -> Improvable:
        """The recording's model: the living one, or the one its package holds."""
        if recording.live is not None:
            model: Improvable = recording.live[0]
            return model
        program = recording.program
        package = Path(program.package)
        hint = "open the model again and give it: cl.suggest(cl.load(path), inputs)"
        if not program.package or not package.exists():
            raise ModelError(f"the recording's model is not at {package} any more", hint=hint)
        model = self.load(package, program.function, recording.plan.device)
        if program.key not in {model.info.key, _compiled_key(package)}:
            raise ModelError(f"{package} is not the model that was recorded", hint=hint)
        return model

    def outcome(
        self,
        suggestion: Suggestion,
        model: Improvable,
        inputs: Mapping[str, Any],
        provenance: Provenance,
        wish: Wish,
    ) -> Outcome:
        """What becomes of one suggestion with an action."""
        assert suggestion.action is not None  # noqa: S101 - for the type checker: asked before
        folder = tempfile.TemporaryDirectory(prefix="coreml_lab_")
        try:
            original, name = Path(model.info.package), model.info.name
            package = apply(suggestion.action, original, Path(folder.name), name=name).package
            changed = self.load(package, model.info.function, model.plan.device)
            trial = self._trial(model, changed, package, inputs, provenance)
        except (CompileError, EngineError, InputError, ModelError) as error:
            folder.cleanup()
            if isinstance(error, InputError):
                model.predict(inputs)  # raises where it is the inputs that do not fit
            return Outcome(suggestion, Verdict.FAILED, (str(error),))
        except BaseException:
            folder.cleanup()
            raise
        # The changed package lives as long as the model made from it.
        weakref.finalize(changed, folder.cleanup)
        verdict, reasons = judge(trial, self.min_snr, suggestion.serves, suggestion.target)
        if suggestion.target == NE:
            reasons += foreseen(model, changed, wish.chip)
        return Outcome(suggestion, verdict, reasons, trial, changed)

    def _trial(
        self,
        model: Improvable,
        changed: Improvable,
        package: Path,
        inputs: Mapping[str, Any],
        provenance: Provenance,
    ) -> Trial:
        agreement = agree(changed.predict(inputs), model.predict(inputs), provenance)
        times = interleave(
            lambda: changed.predict(inputs),
            lambda: model.predict(inputs),
            pairs=self.pairs,
            warmup=WARMUP,
            seconds=SECONDS,
            clock=self.clock,
        )
        return Trial(
            size_before=_bytes(size(Path(model.info.package))),
            size_after=_bytes(size(package)),
            latency_before=seconds(times.baseline),
            latency_after=seconds(times.arm),
            ratio=ratio(times),
            agreement=agreement,
        )


def _compiled_key(package: Path) -> str:
    """The key under which a package was compiled here; empty where it came from elsewhere."""
    if not (package.parent / FILE).is_file():
        return ""
    return Program.open(package.parent, package, package.stem).key


def _unmeasured(model: Improvable) -> Recording:
    return Recording({}, model.info, model.plan, (), live=(model, None))


def _inputs(
    recording: Recording, model: Improvable, given: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], str, Provenance]:
    """What to try ideas on, what to say about it, and how numbers found with it count."""
    if given is not None:
        return given, "Tried on the given inputs.", Provenance.MEASURED
    if recording.live is not None and recording.live[1] is not None:
        return recording.live[1], "Tried on the recording's own inputs.", Provenance.MEASURED
    note = "Tried on simulated inputs (seeded noise): errors on real data may be larger or smaller."
    return noise(usual(model.inputs, model.info)), note, Provenance.SIMULATED


def _bytes(count: int) -> Quantity:
    return Quantity(count, "By", Provenance.MEASURED)
