"""Memory of each operation on PyTorch: the allocator's count on a GPU, its events on the CPU."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from coreml_lab.errors import EngineError
from coreml_lab.program.graph import Array
from coreml_lab.run.op_memory import HINT, MemoryTrace, OpMemory
from coreml_lab.run.steps.border import Types, queued
from coreml_lab.run.steps.step import Plan, Slots, Step

LABEL = "coreml_lab step "
MEMORY = "[memory]"
# PyTorch's profiler otherwise tells the terminal of every start and stop.
QUIET = "99"


def account(plan: Plan, types: Types, inputs: Mapping[str, Array]) -> MemoryTrace:
    """One inference, step by step.

    Raises:
        EngineError: on a device whose allocator keeps no record.
    """
    kind = plan.space.device.type
    if kind == "cuda":
        return _on_cuda(plan, types, inputs)
    if kind == "cpu":
        return _on_cpu(plan, types, inputs)
    raise EngineError(f"PyTorch keeps no record of what it holds on {kind}", hint=HINT)


def _inference(plan: Plan, types: Types, inputs: Mapping[str, Array], each: Any) -> None:
    space = plan.space
    given = {k: space.entered(np.asarray(inputs[k])) for k in plan.inputs}
    states = {k: space.zeros(t.sizes, t.dtype) for k, t in types.states.items()}
    queued(plan, given, states, types, each)


def _row(step: Step, live: int, made: int) -> OpMemory:
    return OpMemory(step.node.name, step.node.op, step.fused, live, made)


def _on_cuda(plan: Plan, types: Types, inputs: Mapping[str, Array]) -> MemoryTrace:
    """The allocator counts on the host, as kernels are launched: nothing waits for the device."""
    cuda, device = plan.space.torch.cuda, plan.space.device
    rows: list[OpMemory] = []
    held = 0

    def each(step: Step, slots: Slots) -> None:
        nonlocal held
        before = cuda.memory_allocated(device)
        held = before if not rows else held
        cuda.reset_peak_memory_stats(device)
        plan.space.node = step.node
        step.run(slots)
        after = cuda.memory_allocated(device)
        rows.append(_row(step, cuda.max_memory_allocated(device) - held, after - before))

    _inference(plan, types, inputs, each)
    return MemoryTrace(tuple(rows), held, "PyTorch's allocator, at most while each ran")


def _on_cpu(plan: Plan, types: Types, inputs: Mapping[str, Array]) -> MemoryTrace:
    """The profiler's memory events, by the step in whose time they lie."""
    torch = plan.space.torch
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET)
    steps: list[Step] = []

    def each(step: Step, slots: Slots) -> None:
        steps.append(step)
        plan.space.node = step.node
        with torch.profiler.record_function(f"{LABEL}{len(steps) - 1}"):
            step.run(slots)

    activity = torch.profiler.ProfilerActivity.CPU
    with (
        warnings.catch_warnings(action="ignore", category=UserWarning),  # there is one cycle only
        torch.profiler.profile(activities=[activity], profile_memory=True) as profile,
    ):
        _inference(plan, types, inputs, each)
    try:
        events = profile.profiler.kineto_results.events()
    except AttributeError as error:
        raise EngineError(
            f"this PyTorch ({torch.__version__}) gives no memory events", hint=HINT
        ) from error
    return _counted(steps, [(e.name(), e.start_ns(), e.duration_ns(), e.nbytes()) for e in events])


def _counted(steps: list[Step], events: list[tuple[str, int, int, int]]) -> MemoryTrace:
    """Steps with the highest level of what was allocated since the first of them began."""
    windows = {
        int(name.removeprefix(LABEL)): (start, start + duration)
        for name, start, duration, _ in events
        if name.startswith(LABEL)
    }
    begin = windows[0][0] if windows else 0
    changes = sorted((t, size) for name, t, _, size in events if name == MEMORY and t >= begin)
    times = [t for t, _ in changes]
    level = [0, *accumulate(size for _, size in changes)]
    rows = []
    for index, step in enumerate(steps):
        first, last = (bisect_left(times, t) for t in windows[index])
        rows.append(_row(step, max(level[first : last + 1]), level[last] - level[first]))
    return MemoryTrace(tuple(rows), 0, "PyTorch's memory events, at most while each ran")
