"""How a program is run on a processor from its second run on: the fastest way, as a tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.program.graph import Array
from coreml_lab.run.steps.graphs import alike
from coreml_lab.run.steps.step import Plan, Short, StepFailed
from coreml_lab.run.steps.tape import taped
from coreml_lab.run.steps.ways import Change, Way

# Each way has so many turns, fewer where they are long; how much faster another must be. With four
# turns and a twentieth it was chance what became of a network that gains 4 %.
TURNS, TRIAL_NS, CLEARLY = 12, 1_500_000_000, 0.985
# Python's part of a run that takes longer is not worth a tape.
LONG_NS = 100_000_000

Run = Callable[[Plan], Mapping[str, Array]]


def fastest(
    plan: Plan,
    changes: Sequence[Change],
    planned: Callable[[Way], Plan],
    run: Run,
    clock: Clock = SYSTEM,
) -> Plan:
    """The plan, or the first of its changes that is clearly faster.

    Args:
        plan: how it runs now.
        changes: how else it may, what promises most first.
        planned: makes the plan of a way.
        run: runs a plan on the inputs of a caller.
        clock: tells the time.

    Raises:
        StepFailed: when the plan itself fails on these inputs.
    """
    if changes:
        run(plan)
    for change in changes:
        with suppress(RuntimeError, MemoryError, StepFailed):
            other = planned(replace(plan.way, **change))
            if faster(plan, other, run, clock):
                return other
    return plan


def faster(plan: Plan, other: Plan, run: Run, clock: Clock = SYSTEM) -> bool:
    """Whether another plan gives the same in clearly less time: in turns, the least of each."""
    plans, begin = (plan, other), clock.now_ns()
    results: list[Mapping[str, Array]] = []
    times: tuple[list[int], list[int]] = ([], [])
    for turn in range(2 * TURNS):
        start = clock.now_ns()
        if turn > 1 and turn % 2 == 0 and start - begin > TRIAL_NS:
            break
        results[2:] = [run(plans[turn % 2])]
        times[turn % 2].append(clock.now_ns() - start)
    return min(times[1]) < CLEARLY * min(times[0]) and alike(results[0], results[1])


def shortened(
    plan: Plan, entered: Callable[[], Mapping[int, Any]], clock: Clock = SYSTEM
) -> Short | None:
    """The plan as a tape, where it can be one and Python's part of a run is worth one.

    Args:
        plan: how it runs.
        entered: what it is given, in tensors of their own.
        clock: tells the time.

    Raises:
        StepFailed: when the plan fails on these inputs.
    """
    if not plan.static or not plan.fixed:
        return None
    own, start = entered(), clock.now_ns()
    plan.run(own)
    if clock.now_ns() - start >= LONG_NS:
        return None
    with suppress(RuntimeError, MemoryError):  # there may be no room for another run's results
        tape = taped(plan, own)
        return None if tape is None else tape.run
    return None
