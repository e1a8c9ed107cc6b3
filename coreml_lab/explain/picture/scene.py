"""A model, or two, as a scene that a page can draw: data only."""

from __future__ import annotations

from pathlib import Path

from coreml_lab.errors import LabError, UnknownParameter
from coreml_lab.explain.picture.data import Pair, Picture, Placing, Scene, Timed
from coreml_lab.explain.picture.drawing import Drawn, drawn
from coreml_lab.explain.picture.knowing import estimated, measured, planned
from coreml_lab.explain.picture.pairing import paired
from coreml_lab.explain.placement import placement, program_of
from coreml_lab.explain.units import bare, round_digits
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.program.graph import Graph
from coreml_lab.records import ProgramInfo, Recording
from coreml_lab.run.model import Model

VERSION = 1
# Share of the operations' names that a file's recording must have.
MOST_SHARED = 0.9
NO_RECORDING = "not recorded: run cl.profile(model, inputs)"


def scene(pictures: tuple[Picture, ...]) -> Scene:
    """One picture as it is; two with what belongs together in them."""
    pairs: tuple[Pair, ...] = ()
    if len(pictures) == 2:  # noqa: PLR2004 - a side and another
        pairs = paired(pictures[0].nodes, pictures[1].nodes)
    return Scene(VERSION, pictures, pairs)


def picture(model: Model | str | Path, chip: str, recording: Recording | None = None) -> Picture:
    """A model, or the file of one, with an estimate of its placement and measured times.

    Args:
        model: a model, or its file: no engine is needed to read it.
        chip: the Apple chip of the estimate.
        recording: where times come from; its program must be this one.

    Raises:
        LabError: where the recording is another program's.
        ModelError: where the file is missing, broken or no ML Program.
        UnknownParameter: for a chip that is not in the tables.
    """
    graph, info = _read(model)
    _check(info, recording)
    found = drawn(graph, {op.name: op.where for op in info.ops})
    plan = model.plan if isinstance(model, Model) else None
    return Picture(
        name=legible(info.name),
        detail=_detail(info),
        nodes=found.nodes,
        groups=found.groups,
        ran=legible(plan.title) if plan else "",
        device=_kind(plan.device) if plan else "",
        folded=found.folded,
        placing=_placing(found, model, chip),
        timed=measured(found.nodes, recording) if recording else Timed("", 0, {}, NO_RECORDING),
    )


def belongs(info: ProgramInfo, recording: Recording) -> bool:
    """Whether a recording is of this program; a file has no key until it is loaded."""
    if info.key:
        return recording.program.key == info.key
    ours = {op.name for op in info.ops}
    theirs = {op.name for op in recording.program.ops}
    return bool(ours) and len(ours & theirs) > MOST_SHARED * max(len(ours), len(theirs))


def _check(info: ProgramInfo, recording: Recording | None) -> None:
    if recording is not None and not belongs(info, recording):
        raise LabError(
            f"the recording is of {legible(recording.program.name)}, not of {legible(info.name)}",
            hint="cl.Inspector(model, recording=cl.profile(model, inputs))",
        )


def _read(model: Model | str | Path) -> tuple[Graph, ProgramInfo]:
    if isinstance(model, Model):
        return model.program.graph, model.info
    if isinstance(model, str | Path):
        return program_of(Path(model).expanduser())
    raise LabError(
        f"the Inspector takes a model or a path, not {type(model).__name__}",
        hint="cl.Inspector(cl.compile(f, x=cl.spec(1, 3)))",
    )


def _detail(info: ProgramInfo) -> str:
    count = len(info.ops)
    size = bare(round_digits(info.size_bytes), "By") if info.size_bytes else ""
    facts = (info.precision, f"{count} op{'' if count == 1 else 's'}", size)
    return legible(" · ".join(fact for fact in facts if fact))


def _placing(found: Drawn, model: Model | str | Path, chip: str) -> Placing:
    """Core ML's own plan where it tells one; else an estimate, or why there is none."""
    try:
        estimate = estimated(found.nodes, placement(model, chip).estimated)
    except UnknownParameter:
        raise
    except LabError as error:
        return Placing(chip, missing=legible(str(error), SENTENCE))
    if isinstance(model, Model) and model.plan.placements:
        return planned(found.nodes, model.plan.placements, estimate)
    return estimate


def _kind(device: str) -> str:
    return "gpu" if device.startswith(("cuda", "metal", "opencl")) else "cpu"
