"""The live dashboard: a thin widget over the feed. The page draws; nothing is remembered here."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import anywidget
import traitlets
from IPython.display import display

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.config import current
from coreml_lab.errors import LabError
from coreml_lab.measure.sampler import shared
from coreml_lab.metrics import Provenance
from coreml_lab.records import Incident, Recording
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.capabilities import is_apple_hardware
from coreml_lab.widgets import about as describe
from coreml_lab.widgets import snapshot
from coreml_lab.widgets.cells import CELLS, Cells, shell_or_none
from coreml_lab.widgets.desk import Desk
from coreml_lab.widgets.feed import Feed
from coreml_lab.widgets.messages import VERSION, About, Chip
from coreml_lab.widgets.past import past
from coreml_lab.widgets.pump import EXECUTOR, Pump, Source

STATIC = Path(__file__).parent / "static"
MINUTE_OF_ROWS = 600
# Seconds that a cell is kept from ending for a sampler that starts.
OPENING_S = 2.0
SNAPSHOT_CLASS = "cml-snapshot"


def bundle(name: str) -> Path:
    """A file of the built front end.

    Raises:
        LabError: where it has not been built.
    """
    path = STATIC / name
    if not path.is_file():
        raise LabError(
            f"the dashboard's front end is not built: {path.name} is missing in widgets/static",
            hint="install the package again, or run `npm ci && npm run build` in js/",
        )
    return path


class Dashboard(anywidget.AnyWidget):
    """Live panels of this kernel, and its last recording: timeline, operations, suggestions.

    One per kernel: a second ``Dashboard(model)`` is the first one, showing the other model.

    Attributes:
        model: the model that is shown; after a suggestion was accepted, the changed one.
    """

    _esm = bundle("dashboard.js")
    _css = bundle("dashboard.css")

    schema: Any = traitlets.Dict().tag(sync=True)
    about: Any = traitlets.Dict().tag(sync=True)
    chips: Any = traitlets.List().tag(sync=True)
    version = traitlets.Int(VERSION).tag(sync=True)

    _one: ClassVar[Any] = None
    pump: Pump | None = None
    model: describe.Shown | None = None
    _opening: threading.Event | None = None
    _failed: LabError | None = None
    _greeted = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """The kernel's dashboard, made on first use."""
        if Dashboard._one is None:
            Dashboard._one = super().__new__(cls, *args, **kwargs)
        one: Self = Dashboard._one
        return one

    def __init__(
        self,
        model: describe.Shown | None = None,
        *,
        source: Source | None = None,
        activity: Activity = ACTIVITY,
        cells: Cells = CELLS,
        clock: Clock = SYSTEM,
    ) -> None:
        if self._opening is not None:
            self.show(model)
            return
        self._opening = threading.Event()
        self._open(activity, cells, model, clock)
        if source is not None:
            self._begin(source, activity, cells, clock)
            return
        # The sampling process takes a while to start: the page is made meanwhile.
        reader, context = shared(), contextvars.copy_context()
        begin = (self._begin, reader, activity, cells, clock)
        threading.Thread(
            target=context.run, args=begin, name="coreml_lab opening", daemon=True
        ).start()

    def show(self, model: describe.Shown | None) -> None:
        """Show another model."""
        self.model = model
        self.about, self.chips = self._facts(model)

    def replay(self, recording: Recording | str | Path) -> None:
        """Hand a recording to the page, which plays it in its own time (the view *Record*).

        Raises:
            ModelError: where the file is missing or not a recording.
        """
        given = recording if isinstance(recording, Recording) else Recording.load(recording)
        self.desk.later(lambda: self._post(*past(given)))

    def _open(
        self, activity: Activity, cells: Cells, model: describe.Shown | None, clock: Clock
    ) -> None:
        """What needs no sampler: the page is told what it shows, and makes itself ready."""
        measured = (Provenance.MEASURED, "timed around each call in this process")
        self.provenance: Mapping[str, tuple[Provenance, str]] = dict.fromkeys(EXECUTOR, measured)
        about, chips = self._facts(model)
        super().__init__(about=about, chips=chips)
        self.feed = Feed(EXECUTOR)
        self._lock = threading.Lock()
        self.model = model
        self.desk = Desk(self, self._post, clock=clock)
        self._activity, self._cells = activity, cells
        activity.recorders.append(self.desk.recorded)
        activity.comparers.append(self.desk.compared)
        if (last := activity.last()) is not None:
            self.desk.recorded(last)
        self._handle: Any = None
        cells.watch(shell_or_none())
        cells.adopt()
        cells.on_end.append(self._cell_ended)
        self.on_msg(self._heard)

    def _begin(self, source: Source, activity: Activity, cells: Cells, clock: Clock) -> None:
        """Stream, once the sampler has told its columns; the page makes its strips of them."""
        opening = self._opening or threading.Event()
        try:
            feed = Feed((*source.columns, *EXECUTOR))
            self.provenance = {**source.provenance, **self.provenance}
        except LabError as error:
            self._failed = error
            said = Incident(clock.now_ns(), type(error).__name__, str(error), "stop", "no samples")
            activity.report(said)
            opening.set()
            return
        with self._lock:
            if self._opening is None:  # closed meanwhile
                source.close()
                opening.set()
                return
            pump = Pump(source, feed, activity, cells, self._post, clock)
            self.feed, self.pump = feed, pump
        self._lock = pump.lock
        # The page reads these before any number.
        self.chips = self._facts(self.model)[1]
        self.schema = describe.schema(feed.columns, self.provenance, current().interval)
        pump.looked(wants_history=self._greeted)
        pump.start()
        opening.set()

    def _facts(self, model: describe.Shown | None) -> tuple[About, list[Chip]]:
        apple = is_apple_hardware()
        missing = "Core ML gave no plan for this model" if apple else "not an Apple chip"
        return describe.about(model), describe.chips(model, self.provenance, missing)

    def _post(self, header: Any, buffers: list[bytes]) -> None:
        self.send(header, buffers=buffers)

    def _heard(self, _: Any, content: Any, __: Any) -> None:
        """A page says hello, or that it still looks; on whatever thread that is handled."""
        if self._opening is None or not isinstance(content, dict):
            return
        kind = content.get("k")
        # Before the pump is asked for: it may just be made, and asks for this.
        self._greeted |= kind == "hello"
        pump = self.pump
        if pump is not None and kind in {"hello", "hb"}:
            pump.looked(wants_history=kind == "hello")
        if kind == "hello":
            self.desk.hello()
        elif kind == "do":
            self.desk.heard(content)

    def _cell_ended(self) -> None:
        # The next cell may hold the interpreter's lock: what it runs beside must be open by then.
        if self._opening is not None:
            self._opening.wait(OPENING_S)
        if self.pump is not None:
            self.pump.looked()
        if self._handle is not None:
            self._handle.update({"text/html": self._html()}, raw=True)

    def close(self) -> None:
        """Stop the pump, let go of the sampler, take the views away; the next one starts afresh."""
        with self._lock:
            pump, self.pump = self.pump, None
            opening, self._opening = self._opening, None
        if opening is not None:
            self._activity.recorders.remove(self.desk.recorded)
            self._activity.comparers.remove(self.desk.compared)
            self.desk.close()
            if self._cell_ended in self._cells.on_end:
                self._cells.on_end.remove(self._cell_ended)
        if pump is not None:
            pump.stop()
            pump.source.close()
        if Dashboard._one is self:
            Dashboard._one = None
        super().close()

    def summary(self) -> str:
        """The last values as text.

        Raises:
            ProbeError: where the sampling process does not start.
        """
        if self._opening is not None:
            self._opening.wait()
        if self._failed is not None:
            raise self._failed
        return self._text()

    def _text(self) -> str:
        return snapshot.to_text(self.about, self.feed.state, self._lines())

    def _html(self, css_class: str = SNAPSHOT_CLASS) -> str:
        return snapshot.to_html(self.about, self.feed.state, self._lines(), css_class=css_class)

    def _lines(self) -> Sequence[snapshot.Line]:
        with self._lock:
            rows = self.feed.rows(MINUTE_OF_ROWS)
        return tuple(snapshot.lines(self.feed.columns, self.provenance, rows))

    def __repr__(self) -> str:
        return self._text()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, and for viewers without one the last values as HTML and text."""
        made = super()._repr_mimebundle_(**kwargs)
        data, metadata = made if isinstance(made, tuple) else ({}, {})
        text = {"text/plain": self._text(), "text/html": self._html("")}
        return {**data, **text}, metadata

    def _ipython_display_(self) -> None:
        """Show the view, and a summary for viewers without a kernel, hidden beside the view."""
        shell = shell_or_none()
        if shell is None or not hasattr(shell, "kernel"):
            print(self.summary())  # noqa: T201 - this is what showing means in a terminal
            return
        if self.pump is not None:
            self.pump.looked(wants_history=True)
        data, metadata = self._repr_mimebundle_()
        data["text/html"] = "<p>The live view needs a running kernel; its last values follow.</p>"
        show: Any = display
        show(data, metadata=metadata, raw=True)
        self._handle = show({"text/html": self._html()}, raw=True, display_id=True)
