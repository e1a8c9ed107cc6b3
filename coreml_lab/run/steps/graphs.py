"""CUDA graphs: a static program as one launch.

Launching its kernels one by one from Python takes longer than a small network's arithmetic. A graph
is captured for the shapes of its inputs when they come a second time. Its kernels read and write
tensors of their own. Small arrays are copied to and from pinned memory either as part of it, which
saves calls, or beside it; large inputs straight into the graph's tensors, piece by piece while more
of them is copied, or as a whole through other memory of the device. Which way is quickest depends
on driver and sizes, and is found by trying. Large results are copied to pinned memory of their own,
which the caller gets as it is. Where a program cannot be captured (it waits for the device to
decide something), it stays eager.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from statistics import median
from typing import Any

import numpy as np

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.program.graph import Array
from coreml_lab.run import laps
from coreml_lab.run.steps.border import Made, Types, complain, complaints, queued
from coreml_lab.run.steps.pinned import Border, Pinned, large, pinned
from coreml_lab.run.steps.space import exact
from coreml_lab.run.steps.state import TorchState
from coreml_lab.run.steps.step import Plan

WARMUP, TIMED, ROUNDS = 2, 12, 3
# Trying ways in turns ends after so long, but not before each had so many runs.
TRIAL_NS, LEAST = 200_000_000, 5
# How far two ways to run a program may be apart, relative to the largest value.
SINGLE, HALF = 1e-4, 2e-2


@dataclass
class Captured:
    """A program for inputs of certain shapes as one CUDA graph.

    Attributes:
        beside: whether small arrays are copied beside the graph, not as part of it.
        through: whether large inputs come through other memory of the device.
        owner: the state whose contents the graph's own state tensors hold.
        meanwhile: what the host does while the device works; after it, it would come on top.
    """

    graph: Any
    plan: Plan
    types: Types
    inputs: Mapping[str, Border]
    states: Mapping[str, Any]
    outputs: Mapping[str, Border]
    updates: Mapping[str, Any]
    bounds: Border | None
    suspects: tuple[tuple[Any, int], ...]
    asked: tuple[tuple[Any, str, int], ...]
    beside: bool = False
    through: bool = False
    owner: Any = field(default=lambda: None)
    meanwhile: Callable[[], None] = field(default=lambda: None)

    @property
    def results(self) -> tuple[int, int]:
        """How many arrays a run gives, and their bytes."""
        kinds = self.types.outputs
        return len(kinds), sum(
            b.host.size * kinds[k].dtype.itemsize for k, b in self.outputs.items()
        )

    def run(self, arrays: Mapping[str, Array], state: TorchState | None) -> dict[str, Array]:
        """One inference; what it makes of ``state`` is kept once nothing can fail any more.

        Raises:
            IndexError: where indices were out of range; the message names the op.
        """
        for name, border in self.inputs.items():
            border.enter(arrays[name], through=self.through)
            if self.beside and not border.pieces:
                border.fill()
        if state is not None:
            self._adopt(state)
        laps.lap("copy")
        self.graph.replay()
        given, last = self._leaving()
        wrong = complaints(self.asked, arrays) if self.asked else ()
        self.meanwhile()
        laps.lap("launch")
        # To wait for a copy takes 10 us less than to ask for the stream and to wait for that.
        if last is not None:
            last.fetch(wait=True)
        else:
            self.plan.space.torch.cuda.current_stream().synchronize()
        laps.lap("framework")
        if wrong:
            raise IndexError(wrong[0])
        if self.bounds is not None:
            complain(self.suspects, self.bounds.host)
        for name, new in self.updates.items():
            self.states[name].copy_(new)
        results = {
            k: given[k].numpy().astype(self.types.outputs[k].dtype, copy=False)
            if k in given
            else np.array(b.host, self.types.outputs[k].dtype)
            for k, b in self.outputs.items()
        }
        laps.lap("copy")
        return results

    def _leaving(self) -> tuple[dict[str, Any], Border | None]:
        """Queue the copies of results: the large ones' memory, which the caller gets, and one left.

        That one is the last small result, to be fetched when there is nothing to do but wait.
        """
        given, last = {}, self.bounds if self.beside else None
        for name, border in self.outputs.items():
            if border.large:
                given[name] = Pinned.result(self.plan.space.torch, border.inside)
                given[name].copy_(border.inside, non_blocking=True)
            elif self.beside:
                if last is not None:
                    last.fetch()
                last = border
        return given, last

    @property
    def small(self) -> bool:
        """Whether there is anything to copy that could be part of the graph."""
        return any(not b.large for b in (*self.inputs.values(), *self.outputs.values()))

    @property
    def ways(self) -> tuple[Captured, ...]:
        """The same graph with each way for large inputs to come in, where there are any."""
        if any(b.large for b in self.inputs.values()):
            return self, replace(self, through=True)
        return (self,)

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
        """Milliseconds that one run takes on the device: the least of several rounds."""
        torch, found = self.plan.space.torch, inf
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.graph.replay()
        for _ in range(ROUNDS):
            start.record()
            for _ in range(TIMED // ROUNDS):
                self.graph.replay()
            end.record()
            end.synchronize()
            found = min(found, float(start.elapsed_time(end)))
        return found / (TIMED // ROUNDS)


def agree(first: Captured, second: Captured, inputs: Mapping[str, Array]) -> bool:
    """Whether two ways to run a program give the same on ``inputs``, but for rounding."""
    ours, theirs = (way.run(inputs, None) for way in (first, second))
    return alike(ours, theirs, HALF if first.plan.space.native else SINGLE)


def alike(ours: Mapping[str, Array], theirs: Mapping[str, Array], share: float = SINGLE) -> bool:
    """Whether results are the same, but for that share of the largest."""
    for name, first_result in ours.items():
        a, b = (np.asarray(r, np.float64) for r in (first_result, theirs[name]))
        exact_kind = first_result.dtype.kind != "f"
        scale = 0.0 if exact_kind else share * float(np.abs(a[np.isfinite(a)]).max(initial=0))
        if not np.allclose(a, b, rtol=0, atol=scale, equal_nan=True):
            return False
    return True


def quickest(
    ways: Sequence[Captured], inputs: Mapping[str, Array], clock: Clock = SYSTEM
) -> Captured:
    """The one whose whole runs take least time, in turns; states keep nothing of it."""
    if len(ways) == 1:
        return ways[0]
    times: list[list[int]] = [[] for _ in ways]
    end = clock.now_ns() + TRIAL_NS
    while len(times[0]) < WARMUP + TIMED and (len(times[0]) < LEAST or clock.now_ns() < end):
        for way, kept in zip(ways, times, strict=True):
            start = clock.now_ns()
            way.run(inputs, None)
            kept.append(clock.now_ns() - start)
    middles = [median(kept[WARMUP:]) for kept in times]
    return ways[middles.index(min(middles))]


@contextmanager
def workspaces_of_its_own(torch: Any) -> Iterator[None]:
    """What cuBLAS computes in while a graph is captured belongs to that graph, and lives as long.

    PyTorch keeps such memory per stream, and a graph reads and writes it at the address it was
    captured with. torch.compile lets go of all of it whenever it captures a graph, and PyTorch of a
    stream's whenever a graph that was captured on that stream goes, though there are 32 streams in
    all, given out in turns: a graph that had borrowed it ends the process with an illegal memory
    access (PyTorch issue 193402). Without such memory when a capture begins, it comes from the
    graph's own; without it afterwards, no other work uses the graph's. Graphs that callers captured
    by hand before lose theirs, as they do to torch.compile: docs/troubleshooting.md says so.
    """
    # There is no public name; a PyTorch without this one has other workspaces.
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)  # noqa: SLF001
    clear()
    try:
        yield
    finally:
        clear()


def capture(
    plan: Plan, shapes: Mapping[str, tuple[int, ...]], types: Types, *, beside: bool
) -> Captured:
    """Capture a program whose constants have all been made by an earlier run.

    Its tensors are ordinary ones, though nothing is recorded for gradients: a run writes to them
    without PyTorch's inference mode, which takes 20 us to enter when caches are cold.

    Args:
        plan: the program.
        shapes: those of its inputs.
        types: those of its border.
        beside: leave the copies of small arrays out of the graph.

    Raises:
        RuntimeError: where a kernel's launch waits for the device, and from CUDA.
    """
    space, torch, device = plan.space, plan.space.torch, plan.space.device
    with torch.inference_mode(mode=False), torch.no_grad(), exact(torch):
        inputs = {
            name: Border.of(torch, space.zeros(shape, types.inputs[name].dtype))
            for name, shape in shapes.items()
        }
        states = {name: space.zeros(t.sizes, t.dtype) for name, t in types.states.items()}
        stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream(device))

        def once() -> Made:
            made = queued(plan, {k: b.inside for k, b in inputs.items()}, states, types)
            return replace(made, updates=_apart(made.updates, states))

        with torch.cuda.stream(stream):
            hosts, said = _warmed(torch, once)
            stream.synchronize()
            how = {"stream": stream, "capture_error_mode": "thread_local"}
            with workspaces_of_its_own(torch), torch.cuda.graph(graph, **how):
                for border in inputs.values():
                    if not (border.pieces or beside):
                        border.fill()
                made = once()
                outputs = {k: Border.between(torch, v, hosts[k]) for k, v in made.outputs.items()}
                bounds = None if said is None else Border.between(torch, made.bounds, said)
                for border in (*outputs.values(), *([bounds] if bounds else [])):
                    if not (border.large or beside):
                        border.fetch()
        torch.cuda.current_stream(device).wait_stream(stream)
    checks = (bounds, made.suspects, made.asked)
    return Captured(graph, plan, types, inputs, states, outputs, made.updates, *checks, beside)


def _apart(updates: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of what is in a state's memory: states are written one after another."""
    held = {t.untyped_storage().data_ptr() for t in states.values()}
    return {
        k: v.clone() if v.untyped_storage().data_ptr() in held else v for k, v in updates.items()
    }


def _warmed(torch: Any, once: Callable[[], Made]) -> tuple[dict[str, Any], Any]:
    """Run as often as kernels need to be chosen; pinned memory for results and for checks.

    It cannot be allocated while a graph is captured.
    """
    mode = torch.cuda.get_sync_debug_mode()
    made = once()
    hosts = {k: torch.empty(0) if large(v) else pinned(torch, v) for k, v in made.outputs.items()}
    said = None if made.bounds is None else pinned(torch, made.bounds)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(WARMUP):
            once()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return hosts, said
