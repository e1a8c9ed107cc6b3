"""OpenVINO on the CPU, on the same ONNX model as the portable engine: an alternative to measure.

It is asked for fp32 arithmetic. NaN is not carried through max, min, clip, relu and comparisons
(measured with 2026.4): where one hunts NaN, the portable engine is the one to take.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import (
    EngineError,
    EngineUnavailable,
    LabError,
    OutOfMemory,
    UnsupportedOp,
)
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array, Node, signature
from coreml_lab.program.program import Program
from coreml_lab.records import Run
from coreml_lab.run import laps
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.engine import Availability, Border, Options, package_version, stopped
from coreml_lab.run.loading import Begun
from coreml_lab.run.lowering.lowered import MODEL, Kernel, Origin, opened
from coreml_lab.run.openvino_refusals import refusal
from coreml_lab.run.state import State
from coreml_lab.run.traits import IN_FLOATS, saturates, traits_of

VERDICT = "refused.txt"
# What OpenVINO adds between kernels.
INSERTED = frozenset({"Reorder", "Convert"})
# Seconds between two looks at a run that is to end in time.
LOOK = 0.1
# Seconds that the end of the interpreter waits for programs that are being compiled anew: OpenVINO
# ends the process with an error where the interpreter goes meanwhile.
LAST_WAIT = 30.0
_COMPILING: weakref.WeakSet[Begun[Any]] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    limit = Limit.of(LAST_WAIT, "OpenVINO")
    for each in list(_COMPILING):
        with contextlib.suppress(Exception):
            each.within(limit)


@dataclass(frozen=True)
class OpenVINOEngine:
    """Runs what OpenVINO's ONNX reader takes; keeps what it lowers in the cache."""

    cache: Cache | None = None
    name: str = "openvino"
    devices: tuple[str, ...] = ("coreml:0",)

    def title(self, device: str) -> str:  # noqa: ARG002 - one title: it is always the CPU
        """Never "Core ML": the program is Core ML's, the work is the CPU's."""
        return "Core ML program, OpenVINO (CPU)"

    def available(self) -> Availability:
        """OpenVINO is an extra."""
        version = package_version("openvino")
        if not version:
            return Availability(
                False, "openvino is not installed: pip install 'coreml-lab[openvino]'"
            )
        return Availability(True, version=f"openvino {version}")

    def supports(self, node: Node) -> bool:
        """Whether it computes what MIL means; OpenVINO itself is asked when it loads."""
        return not refusal(node)

    def load(self, program: Program, device: str, options: Options) -> OpenVINOProgram:
        """Lower the program, or take it from the cache, and compile it for the CPU."""
        state = self.available()
        if not state.available:
            raise EngineUnavailable(state.reason, reason=state.reason, hint="engine='portable'")
        if options.faithful:
            raise UnsupportedOp(
                "OpenVINO removes the rounding to fp16",
                node="",
                engine=self.name,
                hint="precision='faithful' needs engine='portable'",
            )
        if why := self._refused(program):
            raise UnsupportedOp(why, engine=self.name, hint="engine='portable' runs it")
        return opened(
            program,
            self.cache,
            lambda folder: OpenVINOProgram(folder, device, options, exactly(program)),
            faithful=False,
        )

    def _refused(self, program: Program) -> str:
        """Why it must not run the program; kept, since a warm cache does without the graph."""
        if self.cache is None:
            return _first_refusal(program)
        key = f"{program.key}-openvino"
        known = self.cache.use(key, lambda f: (f / VERDICT).read_text(encoding="utf-8"))
        if known is not None:
            return known
        found = _first_refusal(program)
        self.cache.put(key, lambda f: _write(f, found), title=program.info.name)
        return found


def _write(folder: Path, verdict: str) -> None:
    (folder / VERDICT).write_text(verdict, encoding="utf-8")


def _first_refusal(program: Program) -> str:
    for node in (*program.graph.ops, *program.graph.nested):
        if why := refusal(node):
            return f"{signature(node)} cannot run on OpenVINO: {why}"
    return ""


def exactly(program: Program) -> Mapping[str, str]:
    """What OpenVINO is told so that 8-bit numbers are multiplied exactly."""
    return IN_FLOATS if traits_of(program.info).integers and saturates() else {}


class OpenVINOProgram:
    """A program compiled by OpenVINO."""

    # Memory that must not be written is copied, too.
    border = Border(copies_inputs=False, copies_outputs=True, writes=True)

    def __init__(self, folder: Path, device: str, options: Options, how: Mapping[str, str]) -> None:
        self._how = how
        self._origin = Origin.read(folder)
        self.weight_bytes = self._origin.bytes
        self._device = device
        self._threads = options.threads
        self.states = self._origin.state_types
        self._model = _translated(lambda: _core().read_model(str(folder / MODEL)), UnsupportedOp)
        _order_equals(self._model)
        # Compiling adds names and removes others; those of the uncompiled model are the file's.
        results = [r.get_friendly_name() for r in self._model.get_results()]
        self._names = [name.rpartition("/sink_port_")[0] for name in results]
        ports = [p.get_friendly_name() for p in self._model.get_parameters()]
        self._compiled = self._compile()
        self._request = self._compiled.create_infer_request()
        kinds = [p.get_element_type().to_dtype() for p in self._compiled.inputs]
        self._ports = tuple(zip(ports, kinds, strict=True))
        self._lock = threading.Lock()  # a request serves one call at a time
        self._flexible = _flexible(self._model)
        self._renewed: Begun[Any] | None = None

    def _compile(self, **more: Any) -> Any:
        settings: dict[str, Any] = {
            # Its own choice on newer processors is bfloat16, which leaves 19 dB of a ResNet-50.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            **self._how,
            **({"INFERENCE_NUM_THREADS": self._threads} if self._threads else {}),
            **more,
        }
        return _translated(
            lambda: _core().compile_model(self._model, "CPU", settings), UnsupportedOp
        )

    def make_state(self) -> State:
        """Zeros for every state of the program."""
        return State(self.states)

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; it changes ``state`` when it has succeeded."""
        found = self._infer(lambda feeds: _run(self._request, feeds), inputs, state)
        return self._settled(found, state)

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; after ``seconds`` OpenVINO is told to stop, which it does between kernels."""
        limit = Limit.of(seconds, "OpenVINO")

        def infer(feeds: Mapping[int, Array]) -> Any:
            # Copies would go where the last inputs are: to the memory of who gave them.
            self._request.start_async(feeds, share_inputs=True)
            while not self._request.wait_for(math.ceil(min(limit.left, LOOK) * 1000)):
                if limit.over:  # else it looked whether there is a Ctrl-C
                    raise stopped(seconds, "OpenVINO")
            return [tensor.data.copy() for tensor in self._request.output_tensors]

        return self._settled(self._infer(infer, inputs, state, limit), state)

    def _settled(self, results: dict[str, Array], state: State | None) -> dict[str, Array]:
        """The outputs; the new contents of the states go into ``state``."""
        new = {k: results.pop(name) for k, name in self._origin.changed.items()}
        if state is not None:
            for name, array in new.items():
                state.write(name, array)
        return results

    def _infer(
        self,
        infer: Callable[[Mapping[int, Array]], Any],
        inputs: Mapping[str, Array],
        state: State | None,
        limit: Limit = NO_LIMIT,
    ) -> dict[str, Array]:
        given = {**inputs, **self._origin.contents(state or self.make_state())}
        feeds = {
            i: np.asarray(given[name], kind, order="C")
            for i, (name, kind) in enumerate(self._ports)
        }
        laps.lap("convert")
        most = -1.0 if limit is NO_LIMIT else min(limit.left, threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=most):
            raise stopped(limit.seconds, "OpenVINO, which was busy with another run,")
        try:
            if self._renewed is not None:
                self._compiled = self._renewed.within(limit)
                self._request, self._renewed = self._compiled.create_infer_request(), None
            found = self._whole(infer, feeds)
            laps.lap("framework")
            return dict(zip(self._names, found, strict=True))
        finally:
            self._lock.release()

    def _whole(
        self, infer: Callable[[Mapping[int, Array]], Any], feeds: Mapping[int, Array]
    ) -> Any:
        """The results; a request that runs on would refuse the next inputs, so none does."""
        try:
            return _translated(lambda: infer(feeds))
        except BaseException:
            self._request.cancel()
            with contextlib.suppress(RuntimeError):
                self._request.wait()
            if self._flexible:
                # What did not get to its end keeps its shapes, in the next runs, too (2026.4).
                self._renewed = Begun(self._compile)
                _COMPILING.add(self._renewed)
            raise

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences that OpenVINO profiles; states begin as zeros in each of them.

        It tells how long each kernel took (resolution 1 us), not when: they are laid end to end.
        """
        request = self._compile(PERF_COUNT=True).create_infer_request()
        whole = functools.partial(_run, request)
        self._infer(whole, inputs, None)  # warms it, and is left out
        found = []
        for index in range(runs):
            start = time.monotonic_ns()
            self._infer(whole, inputs, None)
            duration = time.monotonic_ns() - start
            kernels = list(self._kernels(request.get_profiling_info(), start))
            ran = frozenset(k.label for k in kernels)
            spans = self._origin.spans(kernels, ran, "openvino", self._device)
            found.append(Run(index, start, duration, spans, instrumented=True))
        return tuple(found)

    def _kernels(self, rows: Iterable[Any], at_ns: int) -> Iterator[Kernel]:
        for row in rows:
            if str(row.status).endswith("EXECUTED"):
                spent = int(row.real_time.total_seconds() * 1e9)
                # What it inserts (a Reorder, say) is named after its neighbours, and shown apart.
                label = row.node_name if row.node_type in INSERTED else self._label(row)
                yield Kernel(label, row.node_type, at_ns, spent)
                at_ns += spent

    def _label(self, row: Any) -> str:
        return self._origin.label_of(row.node_name)


def _flexible(model: Any) -> bool:
    """Whether shapes are known only when it runs, or may be so inside loops and branches."""
    return any(
        node.get_type_name() in {"If", "Loop"}
        or any(port.get_partial_shape().is_dynamic for port in node.outputs())
        for node in model.get_ops()
    )


def _order_equals(model: Any) -> None:
    """Of equal values the first comes first, as MIL has it; its ONNX reader asks for any order."""
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "TopK":
            node.set_attribute("stable", True)
        elif kind == "If":
            _order_equals(node.get_then_body())
            _order_equals(node.get_else_body())
        elif kind == "Loop":
            _order_equals(node.get_function())


def _run(request: Any, feeds: Mapping[int, Array]) -> list[Array]:
    """Run a request to its end, on inputs where they are, and copy its results.

    The request keeps the inputs until its next run; results are overwritten then, hence the copy.
    """
    return list(request.infer(feeds, share_inputs=True).values())


def _core() -> Any:
    """One OpenVINO per process: it holds the threads."""
    global _the_core  # noqa: PLW0603 - the library's own advice
    import openvino  # noqa: PLC0415 - an extra, heavy

    if _the_core is None:
        _the_core = openvino.Core()
    return _the_core


_the_core: Any = None


def _translated(make: Callable[[], Any], kind: type[LabError] = EngineError) -> Any:
    """OpenVINO's exceptions, once and here, as ours."""
    try:
        return make()
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = lines[-1] if lines else type(error).__name__
        if isinstance(error, MemoryError) or "bad_alloc" in text:
            raise OutOfMemory(
                f"OpenVINO ran out of memory: {text}", hint="a smaller batch"
            ) from error
        raise kind(f"OpenVINO: {text}", hint="engine='portable' runs every op") from error
