"""A program on a device of PyTorch's: eager on the CPU and on Metal, as a CUDA graph on CUDA."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np

from coreml_lab.errors import DeviceLost, EngineError, LabError, OutOfMemory
from coreml_lab.program.graph import Array, Graph, Node, signature
from coreml_lab.records import Run
from coreml_lab.run import laps, memory
from coreml_lab.run.engine import Border, Options
from coreml_lab.run.op_memory import MemoryTrace
from coreml_lab.run.state import State
from coreml_lab.run.steps.account import account
from coreml_lab.run.steps.border import Made, Types, complain, complaints, given, queued
from coreml_lab.run.steps.graphs import Captured, agree, capture, quickest
from coreml_lab.run.steps.pinned import room
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.space import Space, exact, uncast
from coreml_lab.run.steps.state import TorchState
from coreml_lab.run.steps.step import Plan, StepFailed
from coreml_lab.run.steps.trace import trace
from coreml_lab.run.steps.trial import fastest, shortened
from coreml_lab.run.steps.ways import Change, Way, on_cpu, on_gpu

RESTART = "restart the kernel: CUDA cannot be used again in this process; nothing on disk is lost"
# How many captured graphs a program keeps, each for inputs of other shapes.
GRAPHS = 8
# How much faster another way must be on a GPU: what chance decides, results would depend on.
SURELY = 0.99
# So many runs try how else a program may run on the CPU, where the inputs of one fail.
TRIALS = 3
# A result may keep so many bytes of an intermediate: less is not worth a copy.
ROOM = 1 << 16
TORCH_DEVICE = {"cpu": "cpu", "metal:0": "mps"}
FATAL = ("illegal memory access", "device-side assert", "launch failure", "ECC error", "misaligned")


class PyTorchProgram:
    """A program on a device of PyTorch's."""

    def __init__(self, graph: Graph, device: str, options: Options, torch: Any) -> None:
        self.device = device
        self._graph = graph
        self._torch = torch
        self._options = options
        self._native = options.faithful and device != "cpu"
        self._plan = self._planned(Way())
        self.space = self._plan.space
        self.states = {name: node.type for name, node in graph.states.items()}
        self._stateless = TorchState({}, self.space)
        self._types = Types(
            {k: n.type for k, n in graph.inputs.items()},
            self.states,
            {k: v.type for k, v in graph.outputs.items()},
        )
        # A device runs one thing at a time, and what checks of indices found belongs to one run.
        self._lock = threading.Lock()
        # Entered with the lock held only. Streams and events are of the GPU that is selected; where
        # there is one, it is.
        self._several = device.startswith("cuda") and torch.cuda.device_count() > 1
        where = torch.cuda.device(self.space.device) if self._several else nullcontext()
        self._selected: Any = where
        self._graphs: OrderedDict[Any, Captured | None] = OrderedDict()
        self._warm, self._trials = False, TRIALS
        self._variants = self._ways()
        self.eager_because = "" if device.startswith("cuda") else "only CUDA has graphs"

    def _ways(self) -> list[Change]:
        """How else it may run, what promises most first; tried once, on the inputs of a caller."""
        rounded = self._options.faithful and not self._native
        if self.device == "cpu":
            return on_cpu(self._graph, self._torch, rounded=rounded)
        return on_gpu(self._graph, native=self._native, weights=self.weight_bytes)

    def _planned(self, way: Way) -> Plan:
        where = TORCH_DEVICE.get(self.device, self.device)
        space = Space(self._torch, where, native=self._native)
        with self._torch.inference_mode():
            rounded = self._options.faithful and not self._native
            return plan(self._graph, space, way, rounded=rounded)

    @property
    def border(self) -> Border:
        """On the CPU both sides work in the same memory; a GPU's copies are counted here.

        PyTorch has no read-only tensors: of what must not be written to it reads a copy.
        """
        gpu = self.device != "cpu"
        return Border(copies_inputs=gpu, copies_outputs=gpu, counts=gpu, writes=not gpu)

    @property
    def per_shape(self) -> bool:
        """Graphs are captured for the shapes of their inputs."""
        return self._plan.static and not self.eager_because

    @property
    def weight_bytes(self) -> int:
        """What its constants take, as tensors."""
        held: int = sum(t.nbytes for t in self._plan.template if t is not None)
        return held + self._plan.attributes

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        """For a GPU pinned memory, which it fetches inputs from by itself."""
        return room(self._torch, shape, dtype) if self.device.startswith("cuda") else None

    def make_state(self) -> TorchState:
        """Zeros for every state of the program, on the device."""
        return TorchState(self.states, self.space)

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; it changes ``state`` when it has succeeded."""
        try:
            if self.device == "cpu":
                with self._torch.inference_mode(), uncast(self._torch, "cpu"):
                    mine = self._mine(state)
                    if self._trials:
                        self._settle(inputs, mine)
                    outputs = self._on_cpu(self._plan, inputs, mine)
                    self._hand_back(state, mine)
                return outputs
            with self._lock:
                if not self._several:
                    return self._on_device(inputs, state)
                with self._selected:
                    return self._on_device(inputs, state)
        except Exception as error:  # noqa: BLE001 - every one of PyTorch's
            # ``Translated`` does the same; to enter it takes a percent of a small network's time.
            raise_ours(self._torch, error, self._forget)

    def _mine(self, state: State | None) -> TorchState:
        """``state``, or a copy of it on this device."""
        if state is None and not self.states:
            return self._stateless
        if isinstance(state, TorchState) and state.space.device == self.space.device:
            return state
        mine = self.make_state()
        if state is not None:
            mine.assign(state)
        return mine

    @staticmethod
    def _hand_back(state: State | None, mine: TorchState) -> None:
        """What the caller's state holds from now on, where a copy was worked on."""
        if state is not None and mine is not state:
            state.assign(mine)

    def _settle(self, inputs: Mapping[str, Array], state: TorchState) -> None:
        """From the second run on: keep the fastest way to run it, in as few calls as it can.

        Where these inputs fail, or memory, or the caller has had enough, a later run may do.
        """
        with self._lock:
            left, self._trials = self._trials, 0 if self._warm else self._trials
            if not self._warm or not left:
                self._warm = True
                return

        def run(plan: Plan) -> Mapping[str, Array]:
            return self._on_cpu(plan, inputs, state.aside())

        try:
            chosen = fastest(self._plan, self._variants, self._planned, run)
            chosen.short = shortened(chosen, partial(self._entered, chosen, inputs, state))
        except Exception:  # noqa: BLE001 - whatever it is, the run itself will tell
            self._trials = left - 1
        except BaseException:
            self._trials = left
            raise
        else:
            self._plan, self.space, self._variants = chosen, chosen.space, []

    def _entered(
        self, plan: Plan, inputs: Mapping[str, Array], state: TorchState
    ) -> dict[int, Any]:
        """What a plan is given."""
        own = {k: plan.space.entered(np.asarray(inputs[k])) for k in plan.inputs}
        return given(plan, own, state.tensors, self._types)

    def _on_cpu(
        self, plan: Plan, inputs: Mapping[str, Array], state: TorchState
    ) -> dict[str, Array]:
        """Inputs are read where they are; results and states must not be where others are."""
        own = {k: plan.space.entered(np.asarray(inputs[k])) for k in plan.inputs}
        laps.lap("convert")
        made = queued(plan, own, state.tensors, self._types)
        laps.lap("framework")
        taken = {_place(t) for t in (*own.values(), *plan.template) if t is not None}
        for name, new in made.updates.items():
            state.tensors[name] = _alone(new, taken)
        taken |= {_place(t) for t in state.tensors.values()}
        outputs = {}
        for name, tensor in made.outputs.items():
            own = _alone(tensor.contiguous(), taken)
            outputs[name] = own.numpy().astype(self._types.outputs[name].dtype, copy=False)
        laps.lap("copy")
        return outputs

    def _on_device(self, inputs: Mapping[str, Array], state: State | None) -> dict[str, Array]:
        key = tuple(np.asarray(inputs[k]).shape for k in self._plan.inputs)
        captured = self._graphs.get(key) or self._prepared(key, inputs)
        if captured is not None:
            if len(self._graphs) > 1:
                self._graphs.move_to_end(key)
            if not self.states:
                return captured.run(inputs, None)
        with self._torch.inference_mode():
            mine = self._mine(state)
            outputs = (
                self._counted(inputs, mine) if captured is None else captured.run(inputs, mine)
            )
            self._hand_back(state, mine)
        return outputs

    def _counted(self, inputs: Mapping[str, Array], state: TorchState) -> dict[str, Array]:
        outputs = self._eager(inputs, state)
        self._counting(inputs, len(outputs), sum(a.nbytes for a in outputs.values()))()
        return outputs

    def _counting(
        self, inputs: Mapping[str, Array], results: int, received: int
    ) -> Callable[[], None]:
        """What counts the copies of a run: of such inputs, and of results and their bytes."""
        sent = sum(np.asarray(inputs[k]).nbytes for k in self._plan.inputs)
        arrays = len(self._plan.inputs) + results
        return partial(memory.copied, self.device, sent=sent, received=received, arrays=arrays)

    def _prepared(
        self, key: tuple[tuple[int, ...], ...], inputs: Mapping[str, Array]
    ) -> Captured | None:
        """The graph for inputs of these shapes, when they come a second time and it can be had."""
        if self._plan.static and not self.eager_because and key in self._graphs:
            shapes = dict(zip(self._plan.inputs, key, strict=True))
            self._graphs[key] = found = self._captured(shapes, inputs)
            if found is not None:
                found.meanwhile = self._counting(inputs, *found.results)
            return found
        self._graphs[key] = None
        while len(self._graphs) > GRAPHS:
            self._graphs.popitem(last=False)
        return None

    def _captured(
        self, shapes: Mapping[str, tuple[int, ...]], inputs: Mapping[str, Array]
    ) -> Captured | None:
        """The fastest of the graphs that can be captured, or None, and why for the curious."""
        try:
            found = capture(self._plan, shapes, self._types, beside=True)
        except (RuntimeError, StepFailed) as error:
            reason = error.__cause__ or error
            self.eager_because = str(reason).splitlines()[0]
            return None
        while self._variants:
            other = self._variant(shapes, self._variants.pop(0))
            if other is None or not agree(found, other, inputs):
                continue
            if other.time() < SURELY * found.time():
                found = other
                self._plan, self.space = found.plan, found.plan.space
        other = self._variant(shapes) if found.small else None
        return quickest((*found.ways, *(other.ways if other else ())), inputs)

    def _variant(
        self, shapes: Mapping[str, tuple[int, ...]], change: Change | None = None
    ) -> Captured | None:
        """Another way to run the program, or None where PyTorch or the memory refuses it.

        Planned with that change; without one as planned, small arrays copied as part of the graph.
        """
        try:
            way = None if change is None else replace(self._plan.way, **change)
            other = self._plan if way is None else self._planned(way)
            return capture(other, shapes, self._types, beside=way is not None)
        except (RuntimeError, StepFailed):
            return None

    def _eager(self, inputs: Mapping[str, Array], state: TorchState) -> dict[str, Array]:
        with exact(self._torch):
            own = {k: self.space.entered(np.asarray(inputs[k])) for k in self._plan.inputs}
            laps.lap("copy")
            made = queued(self._plan, own, state.tensors, self._types)
            laps.lap("launch")
        wrong = complaints(made.asked, inputs)
        if laps.on:
            self.space.settle()
            laps.lap("framework")
        outputs = self._fetched(made)
        laps.lap("copy")
        if wrong:
            raise IndexError(wrong[0])
        state.tensors.update(made.updates)
        return outputs

    def _fetched(self, made: Made) -> dict[str, Array]:
        if made.bounds is not None:
            complain(made.suspects, made.bounds.cpu().numpy())
        return {
            k: np.array(v.cpu().numpy(), self._types.outputs[k].dtype)
            for k, v in made.outputs.items()
        }

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences with a span per op, and one for each copy to and from the device.

        States begin as zeros in each of them.
        """
        with (
            Translated(self._torch),
            self._torch.inference_mode(),
            self._lock,
            self._selected,
            exact(self._torch),
        ):
            return trace(self._plan, self._types, inputs, runs, self.device)

    def account(self, inputs: Mapping[str, Array]) -> MemoryTrace:
        """What PyTorch's allocator held, operation by operation, in one inference."""
        with (
            Translated(self._torch),
            self._torch.inference_mode(),
            self._lock,
            self._selected,
            exact(self._torch),
        ):
            return account(self._plan, self._types, inputs)

    def _forget(self) -> None:
        """Give back what is only kept for speed: memory has run out."""
        self._graphs.clear()
        if self.device.startswith("cuda"):
            self._torch.cuda.empty_cache()


def _place(tensor: Any) -> int:
    """Where the elements of a tensor on the CPU are; a tensor without any shares nothing."""
    return int(tensor.untyped_storage().data_ptr()) if tensor.numel() else -id(tensor)


def _alone(tensor: Any, taken: set[int]) -> Any:
    """The tensor, or a copy where its memory is ``taken`` or it is a small part of what it keeps.

    Where it is, is taken from then on.
    """
    whole, place = tensor.untyped_storage().nbytes(), _place(tensor)
    if place in taken or (whole > ROOM and whole > 2 * tensor.nbytes):
        tensor = tensor.clone()
        place = _place(tensor)
    taken.add(place)
    return tensor


class Translated:
    """PyTorch's exceptions, once and here, as ours; ``forget`` is called when memory runs out."""

    def __init__(self, torch: Any, forget: Any = None) -> None:
        self._torch, self._forget = torch, forget

    def __enter__(self) -> None:
        """Nothing is to be prepared: every run passes here."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise what our callers expect in place of what is none of ours."""
        if isinstance(error, Exception):
            raise_ours(self._torch, error, self._forget)


def raise_ours(torch: Any, error: Exception, forget: Any = None) -> NoReturn:
    """Raise an error of ours as it is, and one of PyTorch's as ours."""
    if isinstance(error, LabError):
        raise error
    node = error.node if isinstance(error, StepFailed) else None
    cause = (error.__cause__ if node is not None else None) or error
    if isinstance(cause, LabError):
        raise cause from error
    raise _ours(torch, cause, node, forget) from cause


def _ours(torch: Any, error: BaseException, node: Node | None, forget: Any) -> EngineError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    at = f"{signature(node)} at {node.name}: " if node is not None else ""
    no_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if no_memory or "out of memory" in text or "can't allocate memory" in text:
        if forget is not None:
            forget()
        return OutOfMemory(
            f"PyTorch ran out of memory: {at}{text}", hint="a smaller batch, or compressed weights"
        )
    if any(sign in text for sign in FATAL):
        return DeviceLost(f"{at}{text}", hint=RESTART)
    return EngineError(
        f"PyTorch: {at}{text}", hint="cl.load(path, engine='reference') computes it with NumPy"
    )
