"""How figures look: colours by role on both grounds, one frame, one way to say "no data"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Label, Title
from bokeh.plotting import figure

from coreml_lab.legible import legible
from coreml_lab.metrics import Provenance

FONT = "system-ui, sans-serif"
Columns = dict[str, list[Any]]
NAME = 28
HEIGHT = 260


@dataclass(frozen=True)
class Look:
    """Colours of the ground's text and lines, and of what is drawn, by role (Okabe and Ito)."""

    ink: str
    faint: str
    line: str
    cpu: str
    gpu: str
    neural: str
    transfer: str
    incident: str
    other: str

    def device(self, name: str) -> str:
        """The colour of a device by its name: ``coreml:0``, ``cuda:0``, ``ne``."""
        kind = name.partition(":")[0]
        roles = {"ne": self.neural, "neural engine": self.neural}
        gpus = dict.fromkeys(("gpu", "cuda", "metal", "opencl", "mps"), self.gpu)
        return {**roles, **gpus}.get(kind.lower(), self.cpu)

    @property
    def series(self) -> tuple[str, ...]:
        """Colours of lines that have no role."""
        return (self.cpu, self.transfer, self.gpu, self.neural, self.incident, self.other)


LIGHT = Look(
    ink="#1f1f1f",
    faint="#5f5f5f",
    line="#e0e0e0",
    cpu="#0072B2",
    gpu="#009E73",
    neural="#CC79A7",
    transfer="#E69F00",
    incident="#D55E00",
    other="#767676",
)
DARK = Look(
    ink="#e8e8e8",
    faint="#ababab",
    line="#3c3c3c",
    cpu="#56B4E9",
    gpu="#1FC298",
    neural="#DB9BBF",
    transfer="#F0AE1E",
    incident="#F0742A",
    other="#9a9a9a",
)
DASHES = ("solid", "dashed", "dotted", "dashdot", "dotdash", "solid")
HATCHES = {
    Provenance.MEASURED: " ",
    Provenance.APPORTIONED: ".",
    Provenance.ESTIMATED: "/",
    Provenance.SIMULATED: "x",
    Provenance.UNAVAILABLE: " ",
}


def look(dark: bool) -> Look:
    """The colours for a dark or light ground."""
    return DARK if dark else LIGHT


def plain(text: str, most: int = 120) -> str:
    r"""Text that the canvas draws as it stands: ``$$``, ``\[`` and ``\(`` would start a formula."""
    told = legible(text, most)
    for opening in ("$$", "\\[", "\\("):
        told = told.replace(opening, f"{opening[0]} {opening[1]}")
    return told


def short(text: str) -> str:
    """A name for an axis, its middle left out where it is long."""
    told = plain(text)
    return told if len(told) <= NAME else f"{told[: NAME - 12]}…{told[-11:]}"


def unique(names: Sequence[str]) -> list[str]:
    """The names as an axis needs them: short, and every one different."""
    seen: dict[str, int] = {}
    found = []
    for name in map(short, names):
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def frame(
    title: str, colours: Look, *, height: int = HEIGHT, x: str = "", y: str = "", **more: Any
) -> figure:
    """An empty plot as wide as its place, without ground or tools."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        min_width=240,
        title=Title(
            text=plain(title), text_color=colours.ink, text_font=FONT, text_font_size="13px"
        ),
        x_axis_label=x,
        y_axis_label=y,
        toolbar_location=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        tools="",
        **more,
    )
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = colours.faint
        axis.minor_tick_line_color = None
        axis.axis_label_text_color = axis.major_label_text_color = colours.faint
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
    plot.grid.grid_line_color = colours.line
    return plot


def nothing(title: str, why: str, colours: Look) -> figure:
    """The figure of no data: its title, and the reason in its place."""
    plot = frame(title, colours, height=90, x_range=(0, 1), y_range=(0, 1))
    plot.axis.visible = plot.grid.visible = False
    told = Label(
        x=0.01, y=0.5, text=f"unavailable: {plain(why)}", text_color=colours.faint, text_font=FONT,
        text_font_size="12px",
    )  # fmt: skip
    plot.add_layout(told)
    return plot


def told(plot: figure, renderers: Sequence[Any], rows: Sequence[tuple[str, str]]) -> None:
    """A tooltip; ``@column`` is escaped by Bokeh, so columns may hold anyone's names."""
    plot.add_tools(HoverTool(renderers=list(renderers), tooltips=list(rows)))


def source(columns: Mapping[str, Sequence[Any]]) -> ColumnDataSource:
    """Columns of a figure; texts among them as they may be shown."""
    return ColumnDataSource(
        {n: [plain(v) if isinstance(v, str) else v for v in rows] for n, rows in columns.items()}
    )


def legend(plot: figure, colours: Look) -> None:
    """Names of the series under the plot, where they cover nothing."""
    box = plot.legend[0]
    plot.add_layout(box, "below")
    box.location = "bottom_left"
    box.background_fill_color = box.border_line_color = None
    box.label_text_color = colours.ink
    box.label_text_font = FONT
    box.label_text_font_size = "12px"
    box.update(spacing=4, padding=2)
