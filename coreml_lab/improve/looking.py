"""What the advisor is shown of a model: its facts, its operations, where a chip would run them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_lab.errors import LabError, UnknownParameter
from coreml_lab.explain.facts import facts
from coreml_lab.explain.placement import CHIP, program_of
from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.estimate import estimate
from coreml_lab.explain.suggestion import ANY, CORRECT, ENERGY, GPU, LATENCY, MEMORY, NE, SIZE, Seen
from coreml_lab.explain.units import show
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program.graph import Graph
from coreml_lab.records import ProgramInfo, Recording

GOALS = (LATENCY, SIZE, MEMORY, ENERGY, CORRECT)
TARGETS = {"ane": NE, "ne": NE, "gpu": GPU, "cpu": ANY}


@dataclass(frozen=True)
class Wish:
    """What is asked for: a goal, processors, and the chip whose Neural Engine is meant."""

    goal: str | None = None
    target: str | None = None
    chip: str = CHIP


ANYTHING = Wish()


def wished(target: str | None, goal: str | None) -> Wish:
    """What the user asks for.

    Raises:
        UnknownParameter: for a goal or chip there is not.
    """
    if goal is not None and goal not in GOALS:
        raise UnknownParameter(f"goal={goal!r}", hint="one of " + ", ".join(GOALS))
    if target is None:
        return Wish(goal)
    if target.lower() in TARGETS:
        return Wish(goal, TARGETS[target.lower()])
    return Wish(goal, NE, tables.chip(target).name)


def look(recording: Recording, wish: Wish) -> Seen:
    """Everything that is at hand about a recorded program."""
    found = facts(recording)
    graph = _graph(recording)
    if graph is None:
        return Seen(found, recording=recording)
    placed = estimate(graph, recording.program, tables.chip(wish.chip), "ALL")
    return Seen(found, graph, placed, recording)


def looked_at(seen: Seen) -> str:
    """What rules could not look at, if anything."""
    if seen.graph is None:
        return (
            "The model's file is not here: rules about its operations and about the Neural "
            "Engine were not asked."
        )
    assert seen.placed is not None  # noqa: S101 - for the type checker: they come together
    return f"Placement is an estimate for {seen.placed.chip.name}: cl.placement(model) shows it."


def foreseen(before: Any, after: Any, chip: str) -> tuple[str, ...]:
    """What the estimate of a chip says of a model and its changed copy."""
    try:
        times = [_time(model, chip) for model in (before, after)]
    except LabError as error:
        return (f"The changed program's placement cannot be estimated: {error.message}",)
    told = " instead of ".join(
        show(Quantity(t, "s", Provenance.ESTIMATED)) for t in reversed(times)
    )
    return (f"On {chip} it is estimated to take {told}.",)


def _time(model: Any, chip: str) -> float:
    graph, info = _program(model)
    return estimate(graph, info, tables.chip(chip), "ALL").time.value


def _program(model: Any) -> tuple[Graph, ProgramInfo]:
    if hasattr(model, "program"):
        return model.program.graph, model.info
    return program_of(Path(model.info.package))


def _graph(recording: Recording) -> Graph | None:
    """The operations of the living model, or of the file that the recording names."""
    live: Any = recording.live[0] if recording.live is not None else None
    if hasattr(live, "program"):
        graph: Graph = live.program.graph
        return graph
    package = Path(recording.program.package)
    if not recording.program.package or not package.exists():
        return None
    try:
        return program_of(package, recording.program.function or None)[0]
    except LabError:
        return None
