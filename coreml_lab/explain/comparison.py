"""compare(): models and devices against a baseline, in turns: time, memory, size and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from coreml_lab.errors import LabError
from coreml_lab.explain import comparison_more, comparison_stages
from coreml_lab.explain.comparison_arms import Absent, Candidate, Models, Movable, resolved
from coreml_lab.explain.comparison_ops import OpGroup
from coreml_lab.explain.comparison_page import agreement_rows
from coreml_lab.explain.comparison_result import Arm, Comparison, built
from coreml_lab.explain.comparison_rows import Row, quantity, seconds, verdict
from coreml_lab.explain.comparison_study import BATCHES, Progress, Study, Tools, silent
from coreml_lab.run.activity import ACTIVITY

__all__ = [
    "Absent",
    "Arm",
    "Comparison",
    "Movable",
    "OpGroup",
    "Row",
    "agreement_rows",
    "compare",
    "quantity",
    "seconds",
    "verdict",
]

# What one comparison may take, in seconds.
BUDGET = 60.0
STAGES: Mapping[str, Callable[[Study], None]] = {
    "numbers": comparison_stages.numbers,
    "time": comparison_stages.timing,
    "operations": comparison_stages.operations,
    "batches": comparison_more.batches,
    "memory": comparison_more.memory,
    "energy": comparison_more.energy,
}
PARTS = tuple(STAGES)


def compare(
    models: Models,
    inputs: Mapping[str, Any],
    devices: Sequence[str] | str = (),
    *,
    baseline: str | None = None,
    pairs: int = 20,
    data: Iterable[Mapping[str, Any]] = (),
    batches: Sequence[int] = BATCHES,
    budget: float = BUDGET,
    parts: Sequence[str] = PARTS,
    progress: Progress | None = None,
) -> Comparison:
    """Run models on devices in turns and compare time, memory, size and results.

    One model on several devices, several models on one (before and after), or both. An arm that
    is not here stands in the result with the reason. An interrupt leaves what was measured so far
    on the exception, as ``error.comparison``.

    Args:
        models: what to run: a model, a list of them, or name -> model.
        inputs: name -> array.
        devices: where; "gpu" is the first of cuda, metal and opencl. Default: coreml, gpu and cpu
            for one model; where it is already for each of several.
        baseline: the name of the arm that the others are divided by. Default: the first of several
            models, the last of several devices.
        pairs: how many rounds, in which each arm has a turn; fewer where the time is up.
        data: more inputs, on which results are compared, too.
        batches: how many examples at once throughput is measured with, where shapes allow it.
        budget: seconds that all of it may take; what comes last is left out first.
        parts: what to measure: some of numbers, time, operations, batches, memory and energy.
        progress: told what is being done and how much is done, from 0 to 1.

    Raises:
        LabError: for fewer than two arms, or an unknown part or baseline.
        EngineUnavailable: where none of the arms is here.
    """
    found = measure(
        models,
        inputs,
        devices,
        baseline=baseline,
        pairs=pairs,
        tools=Tools(),
        data=data,
        batches=batches,
        budget=budget,
        parts=parts,
        progress=progress,
    )
    ACTIVITY.compared(found)
    return found


def measure(
    models: Models,
    inputs: Mapping[str, Any],
    devices: Sequence[str] | str,
    *,
    baseline: str | None,
    pairs: int,
    tools: Tools,
    data: Iterable[Mapping[str, Any]] = (),
    batches: Sequence[int] = BATCHES,
    budget: float = BUDGET,
    parts: Sequence[str] = PARTS,
    progress: Progress | None = None,
) -> Comparison:
    """``compare`` with what measures handed in."""
    _check(pairs, budget, parts)
    start_ns = tools.clock.now_ns()
    here, absent = resolved(models, devices)
    study = Study(list(here), list(absent), inputs, budget, tools, start_ns)
    study.base = _base(here, absent, baseline, several=not hasattr(models, "predict"))
    study.pairs, study.data, study.progress = pairs, data, progress or silent
    study.sizes = tuple(sorted({int(size) for size in batches}))
    try:
        study.measure({k: v for k, v in STAGES.items() if k in parts or k == "numbers"})
    except BaseException as error:
        if study.rounds:
            error.comparison = built(study)  # type: ignore[attr-defined]
            error.add_note(
                f"{len(study.rounds)} rounds were made before this: sys.last_value.comparison"
            )
        raise
    return built(study)


def _check(pairs: int, budget: float, parts: Sequence[str]) -> None:
    if pairs < 1 or budget <= 0:
        raise LabError(f"pairs={pairs}, budget={budget}: nothing to measure", hint="pairs=20")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise LabError(f"compare has no part {unknown[0]!r}", hint="some of " + ", ".join(PARTS))


def _base(
    here: Sequence[Candidate], absent: Sequence[Absent], asked: str | None, *, several: bool
) -> int:
    """Which arm is the baseline: the one asked for, if it is here."""
    if asked is not None:
        for place, arm in enumerate(here):
            if asked in {arm.name, arm.device, arm.label}:
                return place
        if not any(asked in {a.name, a.device} for a in absent):
            names = ", ".join([a.name for a in here] + [a.name for a in absent])
            raise LabError(f"there is no arm {asked!r} to be the baseline", hint=f"one of {names}")
    return 0 if several else len(here) - 1
