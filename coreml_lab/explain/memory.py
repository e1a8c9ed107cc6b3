"""Memory for people: what a block held at most, and whether anything grows from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coreml_lab.explain.facts import Facts
from coreml_lab.explain.page import Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.explain.units import bare, missing, show
from coreml_lab.measure import leaks as leaking
from coreml_lab.measure import memory
from coreml_lab.measure.given import runnable
from coreml_lab.measure.leaks import RUNS, WINDOWS, Found, Growth
from coreml_lab.measure.memory import MemoryUse
from coreml_lab.measure.recorder import Subject
from coreml_lab.metrics import Provenance, Quantity

# Told what is being done, and how much of it is done, from 0 to 1.
Progress = Callable[[str, float], None]
WINDOWED = (
    "A leak shows in every window, what is kept once does not: so it is called a leak where each "
    "window grows by more than its tolerance."
)


class Peak(memory.Peak):
    """Watches this process's memory; prints as a sentence once its block has ended."""

    def __repr__(self) -> str:
        return "Peak(running)" if self._use is None else sentence(self._use)


def peak() -> Peak:
    """Watch what this process holds at most: ``with cl.peak() as p: …``, then ``p`` or ``p.use``.

    It is the kernel's own mark, set back when the block begins: nothing is sampled, and nothing
    between two samples is missed. Blocks may lie inside one another.
    """
    return Peak()


def sentence(use: MemoryUse) -> str:
    """A stretch of code in one line, for the summary of a cell."""
    if missing(use.after):
        return f"memory: unavailable ({use.after.note})"
    peaked = f"at most {show(use.peak)}, {show(use.above)} above the start"
    if missing(use.peak):
        peaked = f"peak unavailable ({use.peak.note})"
    grown = use.grown.value
    change = "as before" if not grown else "more" if grown > 0 else "less"
    size = "" if not grown else f"{bare(float(f'{abs(grown):.3g}'), 'By')} "
    neural = "" if missing(use.neural) else f"; Neural Engine: at most {show(use.neural)}"
    return f"memory: {peaked}; {show(use.after)} now, {size}{change}{neural}"


@dataclass(frozen=True, repr=False)
class Leaks(Shown):
    """What grew over windows of runs; true where something leaks for sure."""

    title: str
    found: Found

    def __bool__(self) -> bool:
        return bool(self.found.leaks)

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.found.leaks:
            return "no leak shown"
        return "leaks: " + ", ".join(
            f"{g.name} ({_per(g.per_run, g.unit)})" for g in self.found.leaks
        )

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        windows = max((len(g.windows) for g in self.found.growths), default=0)
        rows = tuple(_row(growth) for growth in self.found.growths)
        columns = ("what", "growth per run", "smallest window", "largest window", "verdict")
        tables = [Table(f"Growth over {windows} windows of {self.found.runs} runs", columns, rows)]
        if self.found.places:
            lines = tuple((line, _quantity(size, "By")) for line, size in self.found.places)
            tables.append(Table("Where it was allocated", ("line", "per run"), lines))
        return Page(f"{self.title}: {self.verdict}", tuple(tables), (WINDOWED,))


def operations(found: Facts, top: int = 20) -> Table:
    """What the engine's allocator had in use while each operation ran, the most first.

    No rows where the engine does not tell; ``cl.footprint`` then estimates it.
    """
    told = [op for op in (*found.ops, *found.own_work) if not missing(op.memory)]
    told.sort(key=lambda op: -op.memory.value)
    most = max((op.memory.value for op in told), default=0.0)
    rows = tuple(
        (
            op.node,
            op.op,
            op.memory,
            Quantity(op.memory.value / most, "1", op.memory.provenance),
            op.where,
        )
        for op in told[:top]
        if most
    )
    columns = ("operation", "type", "in use", "of the most", "written in")
    return Table("Memory per operation, besides weights (by the engine's allocator)", columns, rows)


def leaks(
    model: Subject,
    inputs: Mapping[str, Any],
    *,
    runs: int = RUNS,
    windows: int = WINDOWS,
    progress: Progress | None = None,
) -> Leaks:
    """Run a model again and again and see whether memory, objects, threads or files grow.

    Args:
        model: what to run.
        inputs: name -> array.
        runs: how many make a window; more of them show smaller leaks.
        windows: how many windows; a verdict needs six.
        progress: told how much is done, from 0 to 1.

    Raises:
        LabError: for fewer windows than a verdict needs.
    """
    runnable(model, "leaks")

    def heard(done: int, of: int, /) -> None:
        if progress is not None:
            progress("leaks", done / of)

    found = leaking.of_model(model, inputs, runs=runs, windows=windows, progress=heard)
    return Leaks(f"{model.info.name} on {model.plan.title}", found)


def _row(growth: Growth) -> tuple[str | Quantity, ...]:
    if not growth.known:
        gone = Quantity.unavailable(growth.unit, "this system does not tell it")
        return (growth.name, gone, gone, gone, "")
    least = f"less than {_per(growth.bound, growth.unit)}" if growth.bound else "none at all"
    told = "leaks" if growth.leaks else f"not shown: {least}"
    sizes = (growth.per_run, growth.low, growth.high)
    return (growth.name, *(_quantity(size, growth.unit) for size in sizes), told)


def _quantity(size: float, unit: str) -> Quantity:
    return Quantity(size, unit, Provenance.MEASURED)


def _per(size: float, unit: str) -> str:
    """``12.3 kB per run``."""
    number = bare(float(f"{size:.3g}"), unit)
    return f"{number.replace('{', '').replace('}', '')} per run"
