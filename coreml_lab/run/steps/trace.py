"""Instrumented runs on PyTorch: on the CPU by its clock, on CUDA by events on the device.

On CUDA, Python is slower than the kernels it launches: a device that starts at once would wait
between them, and the waiting would be counted. So it is made to sleep until all are queued.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from coreml_lab.errors import EngineError
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Array
from coreml_lab.records import OpSpan, Run
from coreml_lab.run.steps.account import account
from coreml_lab.run.steps.border import Made, Types, queued
from coreml_lab.run.steps.step import Plan, Slots, Step

TO_DEVICE, FROM_DEVICE = "[ToDevice]", "[FromDevice]"
# Cycles of sleep per op: about 60 us each at 2 GHz, more than Python needs to launch one.
CYCLES = 120_000


def trace(
    plan: Plan, types: Types, inputs: Mapping[str, Array], runs: int, device: str
) -> tuple[Run, ...]:
    """``runs`` inferences with a span per op; a first one, which tells the memory, is left out."""
    kind = plan.space.device.type
    tracer = _OnCuda if kind == "cuda" else _OnClock
    held = _held(plan, types, inputs)
    found = [tracer(plan, types, device).run(inputs, index - 1) for index in range(runs + 1)]
    return tuple(
        replace(run, spans=tuple(replace(s, memory=held.get(s.node)) for s in run.spans))
        for run in found[1:]
    )


def _held(plan: Plan, types: Types, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Operation -> bytes in use while it ran; nothing where PyTorch does not tell."""
    try:
        return {op.node: op.live for op in account(plan, types, inputs).ops}
    except EngineError:
        return {}


class _Tracer(ABC):
    """One instrumented run: spans are made of what ``mark`` gives before and after each op."""

    def __init__(self, plan: Plan, types: Types, device: str) -> None:
        self.plan, self.types, self.device = plan, types, device
        self.marks: list[tuple[str, str, Any, Any, int]] = []
        self.fused = {s.node.name: s.fused for s in plan.steps if s.fused}

    @abstractmethod
    def mark(self) -> Any:
        """A moment."""

    def pause(self) -> None:  # noqa: B027 - most need none
        """What comes between the copies to the device and the first op."""

    def timed(self, node: str, op: str, work: Callable[[], Any], size: Callable[[], int]) -> Any:
        """Do a piece of work between two moments."""
        start = self.mark()
        result = work()
        self.marks.append((node, op, start, self.mark(), size()))
        return result

    def each(self, step: Step, slots: Slots) -> None:
        """Run a step and note when; what it read and wrote counts as moved."""
        read = sum(_bytes(slots[i]) for i in step.reads)
        self.plan.space.node = step.node
        self.timed(
            step.node.name,
            step.node.op,
            lambda: step.run(slots),
            lambda: read + sum(_bytes(slots[i]) for i in step.writes),
        )

    def inference(self, inputs: Mapping[str, Array]) -> Made:
        """Everything between arrays and arrays."""
        space = self.plan.space
        away = space.device.type != "cpu"

        def enter() -> dict[str, Any]:
            return {k: space.entered(np.asarray(inputs[k])) for k in self.plan.inputs}

        def leave() -> list[Any]:
            return [v.cpu() for v in made.outputs.values()]

        size = sum(np.asarray(inputs[k]).nbytes for k in self.plan.inputs)
        given = self.timed("inputs", TO_DEVICE, enter, lambda: size) if away else enter()
        states = {k: space.zeros(t.sizes, t.dtype) for k, t in self.types.states.items()}
        self.pause()
        made = queued(self.plan, given, states, self.types, self.each)
        if away:
            moved = sum(_bytes(v) for v in made.outputs.values())
            self.timed("outputs", FROM_DEVICE, leave, lambda: moved)
        return made

    def spans(self, at: Callable[[Any], int]) -> tuple[OpSpan, ...]:
        """The spans, once every moment has a time."""
        return tuple(
            OpSpan(
                node=node,
                op=op,
                engine="pytorch",
                device=self.device,
                start_ns=at(start),
                duration_ns=at(end) - at(start),
                bytes=size,
                provenance=Provenance.MEASURED,
                fused=self.fused.get(node, ()),
            )
            for node, op, start, end, size in self.marks
        )


class _OnClock(_Tracer):
    """Moments are the clock's, after the device is done with what was queued."""

    def mark(self) -> int:
        if self.plan.space.device.type == "mps":
            self.plan.space.torch.mps.synchronize()
        return time.monotonic_ns()

    def run(self, inputs: Mapping[str, Array], index: int) -> Run:
        """One inference."""
        start = time.monotonic_ns()
        self.inference(inputs)
        duration = time.monotonic_ns() - start
        return Run(index, start, duration, self.spans(lambda t: t), instrumented=True)


class _OnCuda(_Tracer):
    """Moments are events on the device: (how many pauses came before, event)."""

    def __init__(self, plan: Plan, types: Types, device: str) -> None:
        super().__init__(plan, types, device)
        self.starts: list[Any] = []

    def mark(self) -> tuple[int, Any]:
        event = self.plan.space.torch.cuda.Event(enable_timing=True)
        event.record()
        return len(self.starts), event

    def pause(self) -> None:
        """The device sleeps; a copy from ordinary memory would wait for it, so it comes after."""
        self.plan.space.torch.cuda._sleep(CYCLES * len(self.plan.steps))  # noqa: SLF001 - as PyTorch's own tests do
        self.starts.append(self.mark()[1])

    def run(self, inputs: Mapping[str, Array], index: int) -> Run:
        """One inference; its time is the device's, from the first to the last, less sleep."""
        start = time.monotonic_ns()
        self.inference(inputs)
        self.plan.space.torch.cuda.synchronize(self.plan.space.device)
        entered = [(first, last) for _, _, first, last, _ in self.marks if first[0] == 0]
        before = _between(entered[0][0], entered[-1][1]) if entered else 0

        def at(moment: tuple[int, Any]) -> int:
            if moment[0] == 0:
                return start + _between(entered[0][0], moment)
            return start + before + _between((1, self.starts[0]), moment)

        spans = self.spans(at)
        duration = max(s.start_ns + s.duration_ns for s in spans) - start
        return Run(index, start, duration, spans, instrumented=True)


def _between(first: tuple[int, Any], second: tuple[int, Any]) -> int:
    return int(first[1].elapsed_time(second[1]) * 1e6)


def _bytes(tensor: Any) -> int:
    return 0 if tensor is None else int(tensor.numel() * tensor.element_size())
