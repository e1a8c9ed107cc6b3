"""A program in the Core ML worker: predictions, batches, states, and where the time goes."""

from __future__ import annotations

import itertools
import math
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coreml_lab.errors import EngineError
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import NUMPY_NAME, Array, TensorType
from coreml_lab.records import OpInfo, OpSpan, PortInfo, ProgramInfo, Run
from coreml_lab.run import laps, memory
from coreml_lab.run.engine import Border
from coreml_lab.run.native.messages import (
    DropState,
    Load,
    LoadedModel,
    MakeState,
    Planned,
    Predict,
    Predicted,
    ReadState,
    Times,
    Unload,
    WriteState,
)
from coreml_lab.run.native.process import Link, Watch, Worker
from coreml_lab.run.state import State

# What crosses Core ML's border as it is; everything else does so as int32.
CROSSING = frozenset({"float32", "float16", "int32"})
_STATES = itertools.count(1)


class Home(Protocol):
    """Where the compiled form of a program comes from."""

    def compiled(self, link: Link) -> Path:
        """The ``.mlmodelc`` folder."""
        ...


class CoreMLProgram:
    """A program that Core ML has loaded; where its worker is gone, the next one loads it again.

    Attributes:
        placements: where Core ML plans to run the operations.
        remark: why there are none.
        load_ns: Core ML's own measure of the last loading.
        times: what the last prediction's time was spent on.
    """

    # Into the memory that both processes share, and out of it.
    border = Border(copies_inputs=True, copies_outputs=True, counts=True)

    def __init__(
        self,
        process: Worker,
        request: Load,
        planned: Planned,
        *,
        info: ProgramInfo,
        home: Home,
        watch: Callable[[str], Watch],
        device: str,
    ) -> None:
        self.placements = planned.placements
        self.remark = planned.reason
        self.load_ns: int | None = None
        self.times = Times()
        self.states: dict[str, TensorType] = {}
        self._process = process
        self._request = request
        self._home = home
        self.watch = watch
        self._device = device
        # Shared with the finalizer: the generation of the worker that has it, and its handle.
        self._place: list[int] = []
        self._crossing = {p.source or p.name: _dtype(p) for p in info.outputs if p.kind != "label"}
        self._shapes = {p.name: _fixed(p) for p in info.outputs if p.kind == "tensor"}
        self._ops = {op.name: op for op in info.ops}
        with process.session() as link:
            self.loaded(link)
        memory.held_by(device, process.memory)
        weakref.finalize(self, _forget, process, self._place)

    def loaded(self, link: Link) -> int:
        """The handle of the model, which is loaded where this worker has not loaded it yet."""
        if self._place[:1] != [link.generation]:
            compiled = str(self._home.compiled(link))
            self._request = replace(self._request, compiled=compiled)
            reply: LoadedModel = link.ask(self._request, self.watch("loading"))
            self.load_ns = reply.load_ns
            self.states = {s.name: TensorType(s.shape, np.dtype(s.dtype)) for s in reply.states}
            self._place[:] = [link.generation, self._request.handle]
        return self._request.handle

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; ``state`` stays in the worker between runs."""
        return self._run(inputs, state, self.watch("predicting"))

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; after ``seconds`` the worker is ended: the next run starts another one."""
        return self._run(inputs, state, replace(self.watch("predicting"), seconds=seconds))

    def _run(
        self, inputs: Mapping[str, Array], state: State | None, watch: Watch
    ) -> dict[str, Array]:
        if state is None or isinstance(state, CoreMLState):
            return self._predict([inputs], state, watch)[0]
        mine = self.make_state()
        mine.assign(state)
        (outputs,) = self._predict([inputs], mine, watch)
        state.assign(mine)
        return outputs

    def run_batch(self, batch: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Inferences that Core ML is given together."""
        return self._predict(batch, None, self.watch("predicting")) if batch else []

    def _predict(
        self, batch: Sequence[Mapping[str, Array]], state: CoreMLState | None, watch: Watch
    ) -> list[dict[str, Array]]:
        with self._process.session() as link:
            handle = self.loaded(link)
            number = None if state is None else state.number_in(link)
            begin = time.perf_counter_ns()
            parcel = _put(link, batch)
            copied = time.perf_counter_ns() - begin
            try:
                reply = link.ask(Predict(handle, parcel, number), watch)
            except KeyboardInterrupt:
                if state is not None:
                    state.forget("a prediction that changes it was interrupted")
                raise
            begin = time.perf_counter_ns()
            found = [
                {k: a.copy() for k, a in views.items()}
                for views in link.outputs.views(reply.outputs)
            ]
            copied += time.perf_counter_ns() - begin
        crossed = sum(len(arrays) for arrays in (*batch, *found))
        memory.copied(self._device, sent=_size(batch), received=_size(found), arrays=crossed)
        begin = time.perf_counter_ns()
        results = [self._converted(each) for each in found]
        self.times = reply.times.plus(convert=time.perf_counter_ns() - begin, copy=copied)
        laps.told(_parts(self.times), rest="process")
        return results

    def _converted(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Results in their declared types: Core ML's binding gives half floats as float32."""
        for name, array in arrays.items():
            shape = self._shapes.get(name)
            fits = shape is not None and shape != array.shape and math.prod(shape) == array.size
            shaped = array.reshape(shape) if fits and shape is not None else array
            arrays[name] = shaped.astype(self._crossing[name], copy=False)
        return arrays

    def make_state(self) -> CoreMLState:
        """New contents, all zero, held by the worker."""
        with self._process.session() as link:
            return CoreMLState(self, self._process, link, self.loaded(link))

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences, Core ML's own time spread over the operations as it plans them.

        States begin as zeros in each of them.
        """
        found = []
        for index in range(runs + 1):
            state = self.make_state() if self.states else None
            start = time.monotonic_ns()
            outputs = self._predict([inputs], state, self.watch("predicting"))[0]
            duration = time.monotonic_ns() - start
            moved = _size([inputs, outputs])
            spans = self._spans(start, duration, moved)
            found.append(Run(index - 1, start, duration, spans, instrumented=True))
        return tuple(found[1:])

    def _spans(self, start: int, duration: int, moved: int) -> tuple[OpSpan, ...]:
        """The parts of a prediction one after the other: they add up to its duration."""
        times = self.times
        native = times.framework if times.native is None else min(times.native, times.framework)
        rest = max(duration - native - times.convert - times.copy, 0)
        parts = [
            ("[copy]", "[copy]", times.copy, moved, Provenance.MEASURED, self._device),
            ("[convert]", "[convert]", times.convert, moved, Provenance.MEASURED, self._device),
            ("[framework]", "[framework]", rest, 0, Provenance.MEASURED, self._device),
            *self._shares(native, moved),
        ]
        spans = []
        for node, op, part, size, provenance, device in parts:
            spans.append(OpSpan(node, op, "coreml", device, start, part, size, provenance))
            start += part
        return tuple(spans)

    def _shares(self, native: int, moved: int) -> list[tuple[str, str, int, int, Provenance, str]]:
        """Core ML's time by its own weights; as one measured span where it gives none."""
        planned = {p.node: p for p in self.placements if p.node in self._ops}
        weights = {node: p.weight for node, p in planned.items() if p.weight is not None}
        whole = sum(weights.values())
        if not whole:
            return [("[predict]", "[predict]", native, moved, Provenance.MEASURED, self._device)]
        return [
            (
                node,
                self._ops[node].op,
                round(native * weight / whole),
                _bytes(self._ops[node]),
                Provenance.APPORTIONED,
                planned[node].device,
            )
            for node, weight in weights.items()
        ]


def _parts(times: Times) -> dict[str, int]:
    """A prediction's times by what they were spent on; Core ML's own measure is not the call's."""
    native = times.framework if times.native is None else min(times.native, times.framework)
    parts = {"convert": times.convert, "copy": times.copy, "framework": times.framework - native}
    return {**parts, "native" if times.native is not None else "framework": native}


def _size(batch: Sequence[Mapping[str, Array]]) -> int:
    return sum(a.nbytes for arrays in batch for a in arrays.values())


def _put(link: Link, batch: Sequence[Mapping[str, Array]]) -> Any:
    try:
        return link.inputs.put(batch)
    except OSError as error:
        raise EngineError(
            f"the inputs cannot be handed to the Core ML worker: {error}",
            hint="free space in the folder for temporary files",
        ) from error


def _bytes(op: OpInfo) -> int:
    """What an operation moves at least: its weights and its first result."""
    sizes = [d for d in op.shape if isinstance(d, int)]
    width = np.dtype(NUMPY_NAME.get(op.dtype, op.dtype)).itemsize
    return op.weight_bytes + (math.prod(sizes) * width if len(sizes) == len(op.shape) else 0)


def _forget(process: Worker, place: list[int]) -> None:
    generation, handle = place
    process.later(generation, Unload(handle))


def _dtype(port: PortInfo) -> np.dtype[Any]:
    name = NUMPY_NAME.get(port.dtype, port.dtype)
    return np.dtype(name if name in CROSSING else "int32")


def _fixed(port: PortInfo) -> tuple[int, ...] | None:
    """A shape without flexible dimensions."""
    sizes = tuple(d for d in port.shape if isinstance(d, int))
    return sizes if len(sizes) == len(port.shape) else None


class CoreMLState(State):
    """States inside the worker: what they hold goes with it, and reading them says so."""

    def __init__(self, program: CoreMLProgram, process: Worker, link: Link, handle: int) -> None:
        self.types = dict(program.states)
        self._program = program
        self._process = process
        self._lost: dict[str, str] = {}
        # Shared with the finalizer: the generation of the worker, the model's handle, its own.
        self._place: list[int] = []
        self._make(link, handle)
        weakref.finalize(self, _drop, process, self._place)

    def _make(self, link: Link, handle: int) -> None:
        number = next(_STATES)
        link.ask(MakeState(handle, number), self._program.watch("making a state"))
        self._place[:] = [link.generation, handle, number]

    def number_in(self, link: Link) -> int:
        """Its handle in this worker.

        Raises:
            EngineError: where its contents are lost.
        """
        self._follow(link)
        if self._lost:
            name, reason = next(iter(self._lost.items()))
            raise EngineError(
                f"what state {name!r} held is not known any more: {reason}",
                hint="begin again with model.make_state(), or write() every state",
            )
        return self._place[2]

    def _follow(self, link: Link) -> None:
        """Move to a new worker where the one it was in is gone, empty."""
        if self._place[0] != link.generation:
            self.forget("the worker process that held it is gone")
            self._make(link, self._program.loaded(link))

    def forget(self, reason: str) -> None:
        """Take its contents for lost."""
        self._lost = dict.fromkeys(self.types, reason)

    def read(self, name: str) -> Array:
        """A copy of what it holds."""
        kind = self.check(name)
        with self._process.session() as link:
            number = self.number_in(link)
            request = ReadState(self._place[1], number, name)
            reply: Predicted = link.ask(request, self._program.watch("reading a state"))
            (views,) = link.outputs.views(reply.outputs)
            return np.array(views[name], kind.dtype)

    def write(self, name: str, array: Array) -> None:
        """Replace what it holds."""
        fitted = self.fitted(name, array)
        with self._process.session() as link:
            self._follow(link)
            parcel = _put(link, [{name: fitted}])
            request = WriteState(self._place[1], self._place[2], parcel)
            link.ask(request, self._program.watch("writing a state"))
            self._lost.pop(name, None)


def _drop(process: Worker, place: list[int]) -> None:
    generation, handle, number = place
    process.later(generation, DropState(handle, number))
