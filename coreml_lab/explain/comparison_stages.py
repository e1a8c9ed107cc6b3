"""The stages of a comparison that every arm goes through: numbers, time in turns, operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coreml_lab.errors import EngineUnavailable, LabError, NumericalError
from coreml_lab.explain.agreement import Tally
from coreml_lab.explain.comparison_arms import Absent
from coreml_lab.explain.comparison_study import Study
from coreml_lab.measure.blocks import Block, sized
from coreml_lab.measure.rounds import rounds

TRACED = 5


def numbers(study: Study) -> None:
    """Every arm's results against the baseline's; an arm that cannot run becomes absent."""
    first = _results(study, study.inputs, drop=True)
    if not study.arms:
        told = "; ".join(f"{a.name}: {a.reason}" for a in study.absent)
        hint = next((a.hint for a in study.absent if a.hint), "cl.devices() lists what is here")
        raise EngineUnavailable(f"nothing can be compared here: {told}", reason=told, hint=hint)
    study.numbers = {a.name: Tally() for a in study.arms if a is not study.baseline}
    _compare(study, first)
    for count, example in enumerate(study.data):
        if study.late:
            break
        _compare(study, _results(study, example))
        study.tell("numbers", 1 - 1 / (count + 2))


def _results(
    study: Study, inputs: Mapping[str, Any], *, drop: bool = False
) -> dict[str, Mapping[str, Any]]:
    found = {}
    base = study.baseline if study.arms else None
    for arm in tuple(study.arms):
        try:
            found[arm.name] = arm.work(inputs)()
        except LabError as error:
            if not drop or isinstance(error, KeyboardInterrupt):
                raise
            study.arms.remove(arm)
            study.absent.append(Absent(arm.name, arm.device, error.message, error.hint))
    study.base = study.arms.index(base) if base in study.arms else max(0, len(study.arms) - 1)
    return found


def _compare(study: Study, found: Mapping[str, Mapping[str, Any]]) -> None:
    for name, tally in study.numbers.items():
        if isinstance(tally, Tally):
            try:
                tally.add(found[name], found[study.baseline.name])
            except NumericalError as error:
                study.numbers[name] = error.message


def timing(study: Study) -> None:
    """All arms in turns, as often as was asked for and the budget allows."""
    works = [arm.work(study.inputs) for arm in study.arms]
    block = _block(works, study)
    start = study.clock.now_ns()
    for found in rounds(works, block, clock=study.clock, cpu=study.tools.cpu):
        study.rounds.append(found)
        spent = (study.clock.now_ns() - start) / max(1, study.deadline_ns - start)
        study.tell("time", max(len(study.rounds) / study.pairs, spent))
        if len(study.rounds) >= study.pairs or study.late:
            return


def _block(works: Sequence[Callable[[], object]], study: Study) -> Block:
    """Blocks as long as helps, but so short that the rounds fit into their time."""
    block = sized(works, study.clock)
    begin = study.clock.now_ns()
    for work in works:
        work()
    once = max(1, study.clock.now_ns() - begin)
    left = max(0.0, study.deadline_ns - study.clock.now_ns())
    fits = left / study.pairs / once
    if block.settle + block.repeats <= fits:
        return block
    repeats = max(1, math.floor(fits * block.repeats / (block.settle + block.repeats)))
    return Block(max(0, min(block.settle, math.floor(fits) - repeats)), repeats)


def operations(study: Study) -> None:
    """A few instrumented runs of each arm."""
    for place, arm in enumerate(study.arms):
        if study.late:
            study.traces[arm.name] = study.spent
            continue
        try:
            study.traces[arm.name] = arm.model.trace(study.inputs, runs=TRACED)
        except LabError as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            study.traces[arm.name] = error.message
        study.tell("operations", (place + 1) / len(study.arms))
