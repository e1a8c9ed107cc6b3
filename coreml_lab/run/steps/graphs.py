"""CUDA graphs: a static program as one launch.

Launching its kernels one by one from Python takes longer than a small network's arithmetic. A graph
is captured for the shapes of its inputs when they come a second time. Its kernels read and write
tensors of their own; the copies to and from pinned memory are part of it. Large results are copied
to pinned memory of their own, which the caller gets as it is. Where a program cannot be captured
(it waits for the device to decide something), it stays eager.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.run.steps.border import Made, Types, complain, queued
from coreml_lab.run.steps.space import exact
from coreml_lab.run.steps.state import TorchState
from coreml_lab.run.steps.step import Plan

WARMUP, TIMED = 2, 10
# How far two ways to run a program may be apart, relative to the largest value.
SINGLE, HALF = 1e-4, 2e-2
# Results of more bytes are not copied once more on the host.
LARGE = 1 << 18
# Pinned memory cannot be swapped out: so much of it may be with callers, then results are copied.
GIVEN_AWAY = 1 << 30


@dataclass
class Border:
    """A tensor on the device and the pinned memory that it is filled from or copied to.

    ``host`` is that memory as an array.
    """

    inside: Any
    outside: Any
    host: Array

    @staticmethod
    def of(torch: Any, inside: Any) -> Border:
        """With pinned memory of the same shape and type."""
        return Border.between(inside, _pinned(torch, inside))

    @staticmethod
    def between(inside: Any, outside: Any) -> Border:
        """With the pinned memory given."""
        return Border(inside, outside, outside.numpy())

    @property
    def large(self) -> bool:
        """Whether each result gets memory of its own; there is none in common then."""
        return bool(self.inside.nbytes > LARGE)

    def fill(self) -> None:
        """Copy to the device, in the stream's order."""
        self.inside.copy_(self.outside, non_blocking=True)

    def fetch(self) -> None:
        """Copy from the device, in the stream's order."""
        self.outside.copy_(self.inside, non_blocking=True)


class Pinned:
    """Pinned memory that callers hold as results; PyTorch keeps what they let go of for reuse."""

    held = 0

    @staticmethod
    def result(torch: Any, inside: Any) -> Any:
        """A tensor of its own to copy a result to; pinned while not too much of it is out."""
        size = inside.nbytes
        pin = Pinned.held + size <= GIVEN_AWAY
        tensor = torch.empty(inside.shape, dtype=inside.dtype, pin_memory=pin)
        if pin:
            Pinned.held += size
            weakref.finalize(tensor, Pinned._back, size)
        return tensor

    @staticmethod
    def _back(size: int) -> None:
        Pinned.held -= size


@dataclass
class Captured:
    """A program for inputs of certain shapes as one CUDA graph.

    Attributes:
        owner: the state whose contents the graph's own state tensors hold.
    """

    graph: Any
    plan: Plan
    types: Types
    inputs: Mapping[str, Border]
    states: Mapping[str, Any]
    outputs: Mapping[str, Border]
    updates: Mapping[str, Any]
    flags: Border | None
    suspects: tuple[Any, ...]
    owner: Any = field(default=lambda: None)

    def run(self, arrays: Mapping[str, Array], state: TorchState | None) -> dict[str, Array]:
        """One inference; what it makes of ``state`` is kept once nothing can fail any more.

        Raises:
            IndexError: where indices were out of range; the message names the op.
        """
        torch = self.plan.space.torch
        for name, border in self.inputs.items():
            border.host[...] = arrays[name]
        if state is not None:
            self._adopt(state)
        self.graph.replay()
        given = {}
        for name, border in self.outputs.items():
            if border.large:
                given[name] = Pinned.result(torch, border.inside)
                given[name].copy_(border.inside, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        if self.flags is not None:
            complain(self.suspects, self.flags.host)
        for name, new in self.updates.items():
            self.states[name].copy_(new)
        return {
            k: given[k].numpy().astype(self.types.outputs[k].dtype, copy=False)
            if k in given
            else np.array(b.host, self.types.outputs[k].dtype)
            for k, b in self.outputs.items()
        }

    def _adopt(self, state: TorchState) -> None:
        """Make the graph's own tensors hold ``state``; it is them until another comes."""
        before = self.owner()
        for name, mine in self.states.items():
            if state.tensors[name] is mine:
                continue
            if before is not None and before is not state and before.tensors[name] is mine:
                before.tensors[name] = mine.clone()
            mine.copy_(state.tensors[name])
            state.tensors[name] = mine
        self.owner = weakref.ref(state)

    def time(self) -> float:
        """Milliseconds that one run takes on the device."""
        torch = self.plan.space.torch
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.graph.replay()
        start.record()
        for _ in range(TIMED):
            self.graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / TIMED


def agree(first: Captured, second: Captured, inputs: Mapping[str, Array]) -> bool:
    """Whether two ways to run a program give the same on ``inputs``, but for rounding."""
    ours, theirs = (way.run(inputs, None) for way in (first, second))
    share = HALF if first.plan.space.native else SINGLE
    for name, first_result in ours.items():
        a, b = (np.asarray(r, np.float64) for r in (first_result, theirs[name]))
        exact_kind = first_result.dtype.kind != "f"
        scale = 0.0 if exact_kind else share * float(np.abs(a[np.isfinite(a)]).max(initial=0))
        if not np.allclose(a, b, rtol=0, atol=scale, equal_nan=True):
            return False
    return True


def capture(plan: Plan, shapes: Mapping[str, tuple[int, ...]], types: Types) -> Captured:
    """Capture a program whose constants have all been made by an earlier run.

    Raises:
        RuntimeError: where a kernel's launch waits for the device, and from CUDA.
    """
    space, torch, device = plan.space, plan.space.torch, plan.space.device
    inputs = {
        name: Border.of(torch, space.zeros(shape, types.inputs[name].dtype))
        for name, shape in shapes.items()
    }
    states = {name: space.zeros(t.sizes, t.dtype) for name, t in types.states.items()}
    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(device))

    def once() -> Made:
        return queued(plan, {k: b.inside for k, b in inputs.items()}, states, types)

    with exact(torch), torch.cuda.stream(stream):
        mode = torch.cuda.get_sync_debug_mode()
        made = once()
        # Pinned memory cannot be allocated while a graph is captured.
        outside = {
            k: torch.empty(0) if v.nbytes > LARGE else _pinned(torch, v)
            for k, v in made.outputs.items()
        }
        said = None if made.flags is None else _pinned(torch, made.flags)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(WARMUP):
                once()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for border in inputs.values():
                border.fill()
            made = once()
            outputs = {
                k: Border(v, outside[k], outside[k].numpy()) for k, v in made.outputs.items()
            }
            flags = None if said is None else Border(made.flags, said, said.numpy())
            for border in (*outputs.values(), *([flags] if flags else [])):
                if not border.large:
                    border.fetch()
    torch.cuda.current_stream(device).wait_stream(stream)
    return Captured(graph, plan, types, inputs, states, outputs, made.updates, flags, made.suspects)


def _pinned(torch: Any, inside: Any) -> Any:
    return torch.empty(inside.shape, dtype=inside.dtype, pin_memory=True)
