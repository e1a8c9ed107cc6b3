"""A program in the Core ML worker: predictions, batches, states, and where the time goes."""

from __future__ import annotations

import contextlib
import functools
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coreml_lab.errors import LabError, Timeout
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import NUMPY_NAME, Array, TensorType
from coreml_lab.records import OpInfo, OpSpan, PortInfo, ProgramInfo, Run
from coreml_lab.run import laps, memory
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.engine import Border
from coreml_lab.run.native.link import Link, Watch
from coreml_lab.run.native.messages import (
    Failed,
    Load,
    LoadedModel,
    Planned,
    Predict,
    StateSlot,
    Times,
    Unload,
)
from coreml_lab.run.native.process import Worker
from coreml_lab.run.native.state import CoreMLState
from coreml_lab.run.state import State

# What crosses Core ML's border as it is; everything else does so as int32.
CROSSING = frozenset({"float32", "float16", "int32"})


class Home(Protocol):
    """Where the compiled form of a program comes from."""

    def compiled(self, link: Link, limit: Limit = NO_LIMIT) -> Path:
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
        self._name = info.name
        # Shared with the finalizer: the generation of the worker that has it, and its handle.
        self._place: list[int] = []
        self._crossing = {p.source or p.name: _dtype(p) for p in info.outputs if p.kind != "label"}
        self._shapes = {p.name: _fixed(p) for p in info.outputs if p.kind == "tensor"}
        self._ops = {op.name: op for op in info.ops}
        with process.session() as link:
            self.loaded(link)
        memory.held_by(device, process.memory)
        weakref.finalize(self, _forget, process, self._place)

    def loaded(self, link: Link, limit: Limit = NO_LIMIT) -> int:
        """The handle of the model, which is loaded where this worker has not loaded it yet."""
        if self._place[:1] != [link.generation]:
            compiled = str(self._home.compiled(link, limit))
            self._request = replace(self._request, compiled=compiled)
            done = functools.partial(self._came, link.generation)
            link.ask(self._request, self.watch("loading"), limit, done)
        return self._request.handle

    def _came(self, generation: int, reply: LoadedModel) -> None:
        self.load_ns = reply.load_ns
        self.states = {s.name: TensorType(s.shape, np.dtype(s.dtype)) for s in reply.states}
        # They stay what they are, wherever the package is when the next worker loads it.
        self._request = replace(self._request, states=reply.states)
        self._place[:] = [generation, self._request.handle]

    @property
    def slots(self) -> tuple[StateSlot, ...]:
        """The states as the worker knows them."""
        return self._request.states or ()

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; ``state`` stays in the worker between runs."""
        return self._run(inputs, state, NO_LIMIT)

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; a worker that predicts after ``seconds`` is ended: the next run starts another.

        What it needs before it can predict is not: that goes on, and the next run finds it done.
        """
        return self._run(inputs, state, Limit.of(seconds, self._name))

    def _run(
        self, inputs: Mapping[str, Array], state: State | None, limit: Limit
    ) -> dict[str, Array]:
        if state is None:
            return self._predict([inputs], None, limit)[0]
        if isinstance(state, CoreMLState) and state.is_of(self._process):
            state.check_held()  # before anything is started for it
            return self._predict([inputs], state, limit)[0]
        mine = self.make_state(limit)
        mine.take({name: state.read(name) for name in state.types})
        (outputs,) = self._predict([inputs], mine, limit)
        with self._process.session(limit) as link:
            after = mine.contents(link, limit)
        for name, array in after.items():
            state.write(name, array)
        return outputs

    def run_batch(self, batch: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Inferences that Core ML is given together."""
        return self._predict(batch, None, NO_LIMIT) if batch else []

    def _predict(
        self, batch: Sequence[Mapping[str, Array]], state: CoreMLState | None, limit: Limit
    ) -> list[dict[str, Array]]:
        return self._timed(batch, state, limit)[0]

    def _timed(
        self, batch: Sequence[Mapping[str, Array]], state: CoreMLState | None, limit: Limit
    ) -> tuple[list[dict[str, Array]], Times]:
        with _step(state) as begins:
            with self._process.session(limit) as link:
                handle = self.loaded(link, limit)
                number = None if state is None else state.number_in(self, link, limit)
                begin = time.perf_counter_ns()
                request = Predict(handle, link.put(batch), number)
                copied = time.perf_counter_ns() - begin
                begins()
                refused = functools.partial(_refused, state)
                reply = link.ask(request, self.watch("predicting"), limit, refused=refused)
                begin = time.perf_counter_ns()
                found = [_copied(views) for views in link.views(reply.outputs)]
                copied += time.perf_counter_ns() - begin
            self._counted(batch, found)
            begin = time.perf_counter_ns()
            results = [self._converted(each) for each in found]
            times: Times = reply.times.plus(convert=time.perf_counter_ns() - begin, copy=copied)
        self.times = times
        laps.told(_parts(times), rest="process")
        return results, times

    def _counted(
        self, batch: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]
    ) -> None:
        crossed = sum(len(arrays) for arrays in (*batch, *found))
        memory.copied(self._device, sent=_size(batch), received=_size(found), arrays=crossed)

    def _converted(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Results in their declared types: Core ML's binding gives half floats as float32."""
        for name, array in arrays.items():
            shape = self._shapes.get(name)
            fits = shape is not None and shape != array.shape and math.prod(shape) == array.size
            shaped = array.reshape(shape) if fits and shape is not None else array
            arrays[name] = shaped.astype(self._crossing[name], copy=False)
        return arrays

    def make_state(self, limit: Limit = NO_LIMIT) -> CoreMLState:
        """New contents, all zero, held by the worker."""
        with self._process.session(limit) as link:
            self.loaded(link, limit)
            return CoreMLState(self, self._process, link, limit)

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences, Core ML's own time spread over the operations as it plans them.

        States begin as zeros in each of them.
        """
        found = []
        for index in range(runs + 1):
            state = self.make_state() if self.states else None
            start = time.monotonic_ns()
            (outputs,), times = self._timed([inputs], state, NO_LIMIT)
            duration = time.monotonic_ns() - start
            moved = _size([inputs, outputs])
            spans = self._spans(start, duration, moved, times)
            found.append(Run(index - 1, start, duration, spans, instrumented=True))
        return tuple(found[1:])

    def _spans(self, start: int, duration: int, moved: int, times: Times) -> tuple[OpSpan, ...]:
        """The parts of a prediction one after the other: they add up to its duration."""
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


def _copied(views: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in views.items()}


@contextlib.contextmanager
def _step(state: CoreMLState | None) -> Iterator[Callable[[], None]]:
    """A step of a state: once it has begun, its results are given, or it is not known any more.

    What a caller that saw no results would run again has changed the state already.
    """
    begun = []
    try:
        yield lambda: begun.append(True)
    except LabError as error:
        # Core ML changes nothing where it refuses (else ``_refused`` is told), and a worker that is
        # gone tells itself.
        if state is not None and begun and isinstance(error, Timeout):
            state.forget("a prediction that changes it went on after its deadline")
        raise
    except BaseException:
        if state is not None and begun:
            state.forget("a prediction that changes it was interrupted")
        raise


def _refused(state: CoreMLState | None, failed: Failed) -> None:
    """Take a state for lost that a prediction has changed whose results nobody saw."""
    if state is not None and failed.after:
        state.forget("the results of a prediction that changed it were lost")


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
