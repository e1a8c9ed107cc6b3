"""What the page asks of the kernel, done in threads of their own: no cell ever waits for it."""

from __future__ import annotations

import functools
import itertools
import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import LabError
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.records import Recording
from coreml_lab.run.split.strategy import STRATEGIES, current, strategy
from coreml_lab.widgets.lane import Lane
from coreml_lab.widgets.messages import VERSION, Aims, Compared, Comparing, Place, Taping
from coreml_lab.widgets.past import past

if TYPE_CHECKING:
    from coreml_lab.explain.comparison import Comparison
    from coreml_lab.measure.profiler import Profile
    from coreml_lab.widgets.cards import Cards, Shows

SECOND_NS = 1_000_000_000
# Seconds that a comparison from the page may take.
BUDGET = 30.0
# Recordings that a page can compare; older ones are forgotten here, the page keeps what it has.
KEPT = 8

Post = Callable[[Any, list[bytes]], None]


class Desk:
    """Answers the page's wishes one after the other; ``close`` ends it.

    Attributes:
        recording: the newest recording that was seen.
    """

    def __init__(
        self, stage: Shows, post: Post, *, clock: Clock = SYSTEM, folder: Path | None = None
    ) -> None:
        self.recording: Recording | None = None
        self._stage, self._post, self._clock = stage, post, clock
        self._folder = folder
        self._told: dict[int, tuple[Any, list[bytes]]] = {}
        self._pairs: deque[Compared] = deque(maxlen=KEPT)
        self._places_found: list[Place] = []
        self._numbers = itertools.count(1)
        self._profile: Profile | None = None
        self._taping: Taping = {
            "k": "recording", "v": VERSION, "on": False, "since": None, "saved": "", "error": "",
        }  # fmt: skip
        self._lane = Lane("coreml_lab desk", self._failed)
        self._trials = Lane("coreml_lab trials", self._failed)

    @functools.cached_property
    def _cards(self) -> Cards:
        """Made with the first recording: what it stands on takes half a second to load."""
        from coreml_lab.widgets.cards import Cards  # noqa: PLC0415 - see above

        return Cards(self._stage, self._post)

    def hello(self) -> None:
        """A page has come: tell it everything slow that is known."""
        self.later(self._tell_everything)

    def recorded(self, recording: Recording) -> None:
        """A recording is finished; called on the thread that made it, so it only leaves a note."""
        self.later(lambda: self._take(recording))

    def compared(self, comparison: Comparison) -> None:
        """A comparison is finished; called on the thread that made it."""
        self.later(lambda: self._took(comparison))

    def heard(self, content: Mapping[str, Any]) -> None:
        """A wish of the page; what makes no sense is ignored."""
        what, arg = content.get("what"), content.get("arg")
        if what == "halt":
            # It shall end what runs now, so it does not queue behind it.
            self._halt()
        elif what == "try":
            self._lane.put(lambda: self._cards.wait(arg))
            self._lane.put(lambda: self._trials.put(lambda: self._cards.attempt(arg)))
        elif what == "compare":
            self._trials.put(self._compare)
        else:
            wish = self._wishes(arg).get(str(what))
            if wish is not None:
                self._lane.put(wish)

    def _wishes(self, arg: Any) -> Mapping[str, Callable[[], None]]:
        return {
            "record": self._record,
            "stop": self._stop,
            "save": self._save,
            "open": lambda: self._open(str(arg)),
            "accept": lambda: self._cards.accept(arg),
            "undo": lambda: self._cards.undo(arg),
            "strategy": lambda: self._aim(str(arg)),
            "places": self._look_around,
            "device": lambda: self._move(str(arg)),
        }

    def later(self, job: Callable[[], None]) -> None:
        """Do it in the desk's thread, after what was asked before."""
        self._lane.put(job)

    def drain(self, timeout: float = 60.0) -> bool:
        """Wait until everything asked so far is done; False where that takes longer."""
        return self._lane.drain(timeout) and self._trials.drain(timeout)

    def close(self) -> None:
        """End both threads; a recording that is being made ends, too."""
        self._halt()
        self._trials.close()
        self._lane.close()
        if self._profile is not None:
            self._profile.stop(spans=False)
            self._profile = None

    def _halt(self) -> None:
        if "_cards" in vars(self):
            self._cards.halt()

    def _failed(self, error: Exception) -> None:
        self._tape(error=_said(error))

    def _tell_everything(self) -> None:
        for message in (*self._told.values(), *((told, []) for told in self._pairs)):
            self._post(*message)
        if "_cards" in vars(self):
            self._cards.tell()
        self._aims()
        self._tape()

    def _take(self, recording: Recording) -> None:
        self.recording = recording
        number = next(self._numbers)
        from coreml_lab.widgets.telling import told  # noqa: PLC0415 - with the first recording

        self._told[number] = message = told(recording, number)
        while len(self._told) > KEPT:
            self._told.pop(next(iter(self._told)))
        self._post(*message)
        self._cards.look(recording)
        self._aims()

    def _record(self) -> None:
        from coreml_lab.measure.profiler import Profile  # noqa: PLC0415 - loads engines

        if self._profile is None:
            self._profile = Profile().start()
            self._tape(on=True, since=self._clock.now_ns() / SECOND_NS)

    def _stop(self) -> None:
        profile, self._profile = self._profile, None
        if profile is None:
            return
        self._tape(on=False, since=None)
        if not profile.stop():
            self._tape(error="no model ran in it")

    def _save(self) -> None:
        if self.recording is None:
            self._tape(error="there is no recording yet")
            return
        path = _free(self._folder or Path.cwd(), self.recording.program.name)
        self._tape(saved=str(self.recording.save(path).name))

    def _open(self, path: str) -> None:
        given = Recording.load((self._folder or Path.cwd()) / path) if path else self.recording
        if given is None:
            self._tape(error="there is no recording yet")
            return
        self._post(*past(given))
        self._tape()

    def _aim(self, name: str) -> None:
        strategy(name)
        self._aims()

    def _look_around(self) -> None:
        from coreml_lab.run.devices import devices  # noqa: PLC0415 - asks every engine

        self._places_found = [
            {
                "device": d.name,
                "title": legible(d.title),
                "engines": list(d.engines),
                "available": d.available,
                "reason": legible(d.reason, SENTENCE),
            }
            for d in devices()
        ]
        self._aims()

    def _move(self, device: str) -> None:
        """Show the model on another device; the one that was given stays as it is."""
        model = self._stage.model
        if model is None:
            self._aims(error="no model is shown: cl.Dashboard(model)")
            return
        try:
            self._stage.show(model.to(device))
        except LabError as error:
            self._aims(error=_said(error))
        else:
            self._aims()

    def _compare(self) -> None:
        """The recorded model on every device, in turns, with the inputs of its recording."""
        live = self.recording.live if self.recording is not None else None
        if live is None or live[1] is None:
            self._comparing(error="record once with cl.profile: its inputs are used")
            return
        from coreml_lab.explain.comparison import compare  # noqa: PLC0415 - half a second

        self._comparing("start")
        said = ""
        try:
            compare(*live, budget=BUDGET, parts=("time",), progress=self._comparing)
        except LabError as error:
            said = _said(error)
        finally:
            self._comparing(error=said)

    def _comparing(self, stage: str = "", done: float = 0.0, *, error: str = "") -> None:
        said: Comparing = {
            "k": "comparing", "v": VERSION, "stage": legible(stage), "done": done, "error": error,
        }  # fmt: skip
        self._post(said, [])

    def _took(self, comparison: Comparison) -> None:
        from coreml_lab.widgets.compared import compared  # noqa: PLC0415 - as above

        told = compared(comparison, next(self._numbers))
        self._pairs.append(told)
        self._post(told, [])

    def _aims(self, error: str = "") -> None:
        plan = self._stage.model.plan if self._stage.model is not None else None
        said: Aims = {
            "k": "strategy",
            "v": VERSION,
            "current": current().name,
            "choices": [{"name": n, "sentence": str(s)} for n, s in STRATEGIES.items()],
            "plan": legible(plan.title, SENTENCE) if plan else "",
            "why": legible(plan.reason, SENTENCE) if plan else "",
            "device": legible(plan.device) if plan else "",
            "engine": legible(plan.engine) if plan else "",
            "places": self._places_found,
            "error": error,
        }
        self._post(said, [])

    def _tape(self, **changed: Any) -> None:
        """Tell how recording stands; an error is told once."""
        self._taping = {**self._taping, "error": "", **changed}  # type: ignore[typeddict-item]
        self._post(self._taping, [])


def _said(error: Exception) -> str:
    return legible(str(error) or type(error).__name__, SENTENCE)


def _free(folder: Path, name: str) -> Path:
    """A file that is not there yet, named after the program."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "model"
    return next(
        path
        for number in itertools.count(1)
        if not (path := folder / f"recording-{stem}-{number}.json").exists()
    )
