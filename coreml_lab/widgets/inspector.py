"""The Inspector: the graph of a model, or of two side by side, as a picture to walk in."""

from __future__ import annotations

import functools
import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import display

from coreml_lab.explain.picture import still
from coreml_lab.explain.picture.data import Picture
from coreml_lab.explain.picture.knowing import measured
from coreml_lab.explain.picture.scene import VERSION, belongs, picture, scene
from coreml_lab.explain.placement import CHIP
from coreml_lab.plain import to_plain
from coreml_lab.records import Recording
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.model import Model
from coreml_lab.widgets.cells import shell_or_none
from coreml_lab.widgets.dashboard import bundle
from coreml_lab.widgets.lane import Lane


@functools.cache
def layouter() -> bytes:
    """ELK's layout, compressed; it is sent when an Inspector is opened, and runs in a worker."""
    return gzip.compress(bundle("layout.js").read_bytes(), mtime=0)


class Inspector(anywidget.AnyWidget):
    """The graph of a model as a zoomable picture, coloured by device, time or bits.

    Everything is sent when it opens: the page needs the kernel only for newer recordings.

    Attributes:
        pictures: what is drawn, as plain data: one picture, or two.
    """

    _esm = bundle("inspector.js")
    _css = bundle("inspector.css")

    scene = traitlets.Bytes().tag(sync=True)
    layouter = traitlets.Bytes().tag(sync=True)
    timed: Any = traitlets.Dict().tag(sync=True)
    still = traitlets.Unicode().tag(sync=True)
    version = traitlets.Int(VERSION).tag(sync=True)

    # None until it is open: one that was refused is closed, too.
    _lane: Lane | None = None

    def __init__(
        self,
        model: Model | str | Path,
        other: Model | str | Path | None = None,
        *,
        recording: Recording | None = None,
        chip: str = CHIP,
    ) -> None:
        """Draw a model, or two side by side.

        Args:
            model: a model, or the path of one: no engine is needed to read it.
            other: a second one, such as what ``cl.edit`` or ``cl.optimize`` made of the first.
            recording: where times come from; without one, the newest recording of each model.
            chip: the Apple chip of the placement estimate.

        Raises:
            LabError: for a recording of another program, or what is neither model nor path.
            ModelError: where a file is missing, broken or no ML Program.
            UnknownParameter: for a chip that is not in the tables.
        """
        models = (model,) if other is None else (model, other)
        self._infos = [each.info if isinstance(each, Model) else None for each in models]
        last = ACTIVITY.last()
        given = [self._recording(i, recording, last) for i in range(len(models))]
        if recording is not None and recording not in given:
            given[0] = recording  # says what is wrong with it
        self.pictures: tuple[Picture, ...] = tuple(
            picture(each, chip, found) for each, found in zip(models, given, strict=True)
        )
        super().__init__(
            scene=gzip.compress(_json(scene(self.pictures)), mtime=0),
            layouter=layouter(),
            # Unlike any in a notebook that was saved before: its still pictures stay.
            still=f"cml-still-{uuid.uuid4().hex[:12]}",
        )
        self._lane = Lane("coreml_lab inspector", lambda _: None)
        ACTIVITY.recorders.append(self._recorded)

    def _recording(
        self, number: int, asked: Recording | None, last: Recording | None
    ) -> Recording | None:
        """The recording whose times a model shows: what was asked for, else the newest of it."""
        info = self._infos[number]
        for each in (asked, last):
            if each is not None and (
                belongs(info, each) if info is not None else each is asked and number == 0
            ):
                return each
        return None

    def _recorded(self, recording: Recording) -> None:
        """A recording is finished; on the thread that made it, so it only leaves a note."""
        ours = any(info is not None and belongs(info, recording) for info in self._infos)
        if ours and self._lane is not None:
            self._lane.put(lambda: self._retime(recording))

    def _retime(self, recording: Recording) -> None:
        told = dict(self.timed)
        for number, info in enumerate(self._infos):
            if info is not None and belongs(info, recording):
                told[str(number)] = to_plain(measured(self.pictures[number].nodes, recording))
        self.timed = told

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until every recording so far is shown; False where that takes longer."""
        return self._lane is None or self._lane.drain(timeout)

    def close(self) -> None:
        """Take the views away and listen no longer."""
        lane, self._lane = self._lane, None
        if lane is not None:
            ACTIVITY.recorders.remove(self._recorded)
            lane.close()
        super().close()

    def summary(self) -> str:
        """What the picture shows, as text."""
        return still.to_text(self.pictures)

    def to_svg(self) -> str:
        """A plain picture of the first model's graph; the page's own export has its layout."""
        return still.to_svg(self.pictures[0])

    def _html(self, css_class: str = "") -> str:
        return still.to_html(self.pictures, css_class)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, and for viewers without one a still picture and a table."""
        made = super()._repr_mimebundle_(**kwargs)
        data, metadata = made if isinstance(made, tuple) else ({}, {})
        return {**data, "text/plain": self.summary(), "text/html": self._html()}, metadata

    def _ipython_display_(self) -> None:
        """Show the view, and a still picture for viewers without a kernel, hidden beside it."""
        shell = shell_or_none()
        if shell is None or not hasattr(shell, "kernel"):
            print(self.summary())  # noqa: T201 - this is what showing means in a terminal
            return
        data, metadata = self._repr_mimebundle_()
        data["text/html"] = "<p>The live view needs a running kernel; a still picture follows.</p>"
        show: Any = display
        show(data, metadata=metadata, raw=True)
        show({"text/html": self._html(self.still)}, raw=True)


def _json(made: Any) -> bytes:
    return json.dumps(to_plain(made), allow_nan=False, separators=(",", ":")).encode()
