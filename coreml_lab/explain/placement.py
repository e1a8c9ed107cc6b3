"""placement(): where Core ML would run each operation on an Apple chip, and why not its engine.

Everything is an estimate from published findings (``explain/data``, docs/placement.md), made on
any machine; on a Mac, Core ML's own plan stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from coreml_lab.errors import LabError, ModelError, UnknownParameter
from coreml_lab.explain import draw
from coreml_lab.explain.page import Page
from coreml_lab.explain.placing import page as pages
from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.beside import Beside, beside
from coreml_lab.explain.placing.estimate import UNITS, estimate
from coreml_lab.explain.placing.estimated import Estimated, OpPlacement
from coreml_lab.explain.shown import Shown
from coreml_lab.plain import to_plain
from coreml_lab.program import description as descriptions
from coreml_lab.program import mil
from coreml_lab.program.graph import Graph
from coreml_lab.program.program import describe
from coreml_lab.records import Placement, ProgramInfo
from coreml_lab.run.model import Model

CHIP = "M4"


@dataclass(frozen=True, repr=False)
class PlacementEstimate(Shown):
    """A program on one chip; ``estimated`` holds the data, ``native`` Core ML's own plan beside.

    ``ops`` are its rows: device, supported devices, reasons, risks, time and line.
    """

    estimated: Estimated
    native: Beside

    @property
    def ops(self) -> tuple[OpPlacement, ...]:
        """One row per operation, in the program's order."""
        return self.estimated.ops

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        return pages.page(self.estimated, self.native)

    @property
    def figures(self) -> Mapping[str, draw.Drawer]:
        """A strip of every operation that runs, on the lane of its device."""
        placed, rows = self.estimated.placed, self.estimated.placements()
        notes = ["; ".join(reason.text for reason in op.reasons) for op in placed]
        chip, name = self.estimated.chip.name, f"placement on {self.estimated.chip.name}"
        title = f"{self.estimated.program} on {chip}: where each operation would run (estimated)"
        return draw.of_plan(name, rows, title, notes)

    def to_html(self) -> str:
        """The page as HTML, with a strip: each operation in its device's colour."""
        return pages.strip_html(self.estimated) + super().to_html()

    def to_json(self) -> str:
        """The page as JSON, and under ``placement`` every operation with reasons and numbers."""
        plain = {**to_plain(self.page), "placement": to_plain(self.estimated)}
        return json.dumps(plain, allow_nan=False)

    def __str__(self) -> str:
        return "\n\n".join(filter(None, (pages.strip_text(self.estimated), super().__str__())))


@dataclass(frozen=True, repr=False)
class ChipComparison(Shown):
    """A program on several chips; ``chips`` has an estimate for each."""

    chips: tuple[PlacementEstimate, ...]

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        return pages.compared([each.estimated for each in self.chips])

    @property
    def figures(self) -> Mapping[str, draw.Drawer]:
        """A strip per chip."""
        return {name: drawer for each in self.chips for name, drawer in each.figures.items()}

    def to_html(self) -> str:
        """The page as HTML, with a strip per chip."""
        strips = "".join(
            f"<p>{each.estimated.chip.name}</p>{pages.strip_html(each.estimated)}"
            for each in self.chips
        )
        return strips + super().to_html()

    def to_json(self) -> str:
        """The page as JSON, and under ``placements`` the data of each chip."""
        data = [to_plain(each.estimated) for each in self.chips]
        return json.dumps({**to_plain(self.page), "placements": data}, allow_nan=False)


@overload
def placement(
    model: Model | str | Path,
    chip: str = CHIP,
    *,
    compute_units: Any = "ALL",
    function: str | None = None,
) -> PlacementEstimate: ...


@overload
def placement(
    model: Model | str | Path,
    chip: Sequence[str],
    *,
    compute_units: Any = "ALL",
    function: str | None = None,
) -> PlacementEstimate | ChipComparison: ...


def placement(
    model: Model | str | Path,
    chip: str | Sequence[str] = CHIP,
    *,
    compute_units: Any = "ALL",
    function: str | None = None,
) -> PlacementEstimate | ChipComparison:
    """Where each operation would run on an Apple chip, what it would take, and why: an estimate.

    Args:
        model: a model, or the path of one: no engine is needed to read it.
        chip: ``M1`` to ``M6 …``, ``A12`` to ``A19 Pro``; several give a comparison.
        compute_units: what Core ML may use: ``ALL``, ``CPU_AND_NE``, ``CPU_AND_GPU``,
            ``CPU_ONLY``, or coremltools' own ``ComputeUnit``.
        function: of a file with several functions, which one.

    Returns:
        An estimate that draws itself; for several chips a comparison of them.

    Raises:
        UnknownParameter: for a chip that is not in the tables (the message lists them), or
            compute units that Core ML does not have.
        ModelError: where the file is missing, broken or no ML Program.
    """
    names = [chip] if isinstance(chip, str) else list(chip)
    if not names:
        raise LabError("placement needs a chip", hint='chip="M4"')
    chips = [tables.chip(name) for name in names]
    units = _units(compute_units)
    graph, info, native = _read(model, function)
    found = []
    for each in chips:
        estimated = estimate(graph, info, each, units)
        found.append(PlacementEstimate(estimated, beside(native, estimated)))
    return found[0] if isinstance(chip, str) else ChipComparison(tuple(found))


def _units(asked: Any) -> str:
    name = str(getattr(asked, "name", asked))
    if name not in UNITS:
        raise UnknownParameter(f"there are no compute units {name[:40]!r}", hint=" or ".join(UNITS))
    return name


def _read(
    model: Model | str | Path, function: str | None
) -> tuple[Graph, ProgramInfo, tuple[Placement, ...]]:
    """A program, its description, and what Core ML plans for it."""
    if isinstance(model, str | Path):
        return (*program_of(Path(model).expanduser(), function), ())
    if not isinstance(model, Model):
        raise LabError(
            f"placement takes a model or a path, not {type(model).__name__}",
            hint="cl.placement(cl.compile(f, x=cl.spec(1, 3)))",
        )
    if function is not None and function != model.info.function:
        raise UnknownParameter(
            f"{model.name} is open as function {model.info.function!r}",
            hint="give the file's path, or cl.load(path, function=…)",
        )
    return model.program.graph, model.info, model.plan.placements


def program_of(path: Path, function: str | None = None) -> tuple[Graph, ProgramInfo]:
    """A file's program and description; no engine has to run it.

    Raises:
        ModelError: where the file is missing, broken or no ML Program.
    """
    if mil.is_classic(mil.open_model(path)):
        raise ModelError(
            f"{path.name} is a classic neural network: what is known of placement is known of "
            "ML Programs",
            hint="cl.placement(cl.load(path)) places the ML Program that it is translated to",
        )
    graph = mil.read(path, function=function)
    info = describe(graph, name=path.stem, key="", package=path, function=function or "", size=0)
    return graph, descriptions.apply(info, mil.describe(path, function=function))
