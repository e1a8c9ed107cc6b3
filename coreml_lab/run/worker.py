"""The process that drives Core ML: what crashes, hangs or holds the lock does so here.

``python -m coreml_lab.run.worker`` answers the kernel's requests one after the other until the
kernel is gone. It is started afresh, never forked: Core ML does not survive a fork.
"""

from __future__ import annotations

import contextlib
import faulthandler
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.program import frameworks
from coreml_lab.records import Placement
from coreml_lab.run import images
from coreml_lab.run.native.arena import Reader, Writer
from coreml_lab.run.native.messages import (
    Compile,
    Done,
    Failed,
    Forget,
    Load,
    LoadedModel,
    MakePlan,
    MakeState,
    Parcel,
    Planned,
    Predict,
    Predicted,
    ReadState,
    Ready,
    Reply,
    Request,
    StateSlot,
    Times,
    Unload,
    WriteState,
)

# coremltools 9.0 lets go of inputs about a second after predict, without holding the interpreter's
# lock (apple/coremltools#2827): theirs must never be the last reference.
KEPT_NS = 10_000_000_000
ELEMENTS = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}
NO_PLAN = "Core ML gives no plan for it"


@dataclass
class Held:
    """A loaded model, its interface and its states."""

    request: Load
    model: Any
    states: dict[int, Any] = field(default_factory=dict)

    def fed(self, views: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs as the binding takes them: no half floats, and images as pictures."""
        kinds = {p.name: p for p in self.request.inputs}
        fed = {}
        for name, array in views.items():
            port = kinds[name]
            if port.kind == "image":
                fed[name] = images.picture(array, port.colour)
            else:
                fed[name] = array.astype(np.float32) if array.dtype == np.float16 else array
        return fed

    def arrays(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Results as tensors: pictures as pixels, a dictionary of probabilities as a vector."""
        found = {}
        for port in self.request.outputs:
            if port.kind == "image":
                found[port.name] = images.tensor(
                    results[port.name], port.colour, np.dtype(np.float32)
                )
            elif port.kind == "dictionary":
                chances = results[port.name]
                found[port.source] = np.array([chances[k] for k in self.request.labels], np.float32)
            elif port.kind == "tensor":
                found[port.name] = np.asarray(results[port.name])
        return found


class Server:
    """Answers requests; an error of the framework is an answer like any other."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self._inputs = Reader()
        self._outputs = Writer(folder, "outputs")
        self._models: dict[int, Held] = {}
        self._kept: deque[tuple[int, Any]] = deque()

    def serve(self) -> None:
        """Until nobody asks any more."""
        while True:
            try:
                number, request = self._connection.recv()
                self._connection.send((number, self.answer(request)))
            except (EOFError, ConnectionError):
                return

    def answer(self, request: Request) -> Reply:
        """What a request comes to."""
        try:
            return _ANSWERS[type(request)](self, request)
        except Exception as error:  # noqa: BLE001 - the framework raises what it likes
            return _failed(error)

    def compile(self, request: Compile) -> Done:
        """Compile a package."""
        begin = time.perf_counter()
        _ct().models.utils.compile_model(request.package, request.destination)
        return Done(time.perf_counter() - begin)

    def plan(self, request: MakePlan) -> Planned:
        """Ask for the plan of one function; it must live while its operations are asked about."""
        ct = _ct()
        plan = ct.models.compute_plan.MLComputePlan.load_from_path(
            request.compiled, ct.ComputeUnit[request.units]
        )
        functions = plan.model_structure.program.functions
        name = request.function or ("main" if "main" in functions else min(functions))
        found = tuple(_placements(plan, functions[name].block)) if name in functions else ()
        return Planned(found, "" if found else NO_PLAN)

    def load(self, request: Load) -> LoadedModel:
        """Load a compiled model."""
        ct = _ct()
        model = ct.models.CompiledMLModel(
            request.compiled,
            ct.ComputeUnit[request.units],
            request.function or None,
            _hints(request.hints) or None,
        )
        duration = model._proxy.get_load_duration_in_nano_seconds()  # noqa: SLF001 - no public way
        states = request.states
        if states is None:
            states = _states(Path(request.source), request.function)
        self._models[request.handle] = Held(request, model)  # last: a load that fails leaves none
        return LoadedModel(states, duration)

    def forget(self, request: Forget) -> Done:
        """Drop models and states; those that are gone already are passed over."""
        for dropped in request.dropped:
            if isinstance(dropped, Unload):
                self._models.pop(dropped.handle, None)
            elif dropped.handle in self._models:
                self._models[dropped.handle].states.pop(dropped.state, None)
        return Done()

    def predict(self, request: Predict) -> Predicted | Failed:
        """Inferences on what lies in the kernel's shared file."""
        held = self._models[request.handle]
        stamps = [time.perf_counter_ns()]
        fed = [held.fed(views) for views in self._inputs.views(request.inputs)]
        stamps.append(time.perf_counter_ns())
        # The binding's wrapper changes the dictionaries that it is given.
        given = [dict(each) for each in fed]
        with self._keeping(fed):
            if len(given) == 1:
                state = None if request.state is None else held.states[request.state]
                results = [held.model.predict(given[0], state)]
            else:
                results = held.model.predict(given)
        stamps.append(time.perf_counter_ns())
        try:
            return self._predicted(held, results, stamps)
        except Exception as error:  # noqa: BLE001 - a state has changed, whatever is wrong with these
            return _failed(error, after=True)

    def _predicted(self, held: Held, results: list[Any], stamps: list[int]) -> Predicted:
        """The results where the kernel can read them; ``stamps`` say when what was done."""
        arrays = [held.arrays(each) for each in results]
        stamps.append(time.perf_counter_ns())
        parcel = self._outputs.put(arrays)
        convert, framework, again, copy = np.diff([*stamps, time.perf_counter_ns()]).tolist()
        native = held.model._proxy.get_last_predict_duration_in_nano_seconds()  # noqa: SLF001
        return Predicted(parcel, Times(convert + again, copy, framework, native))

    @contextlib.contextmanager
    def _keeping(self, fed: Any) -> Iterator[None]:
        """Keep what a call is given until Core ML has let go of it, counted from the call's end."""
        try:
            yield
        finally:
            now = time.monotonic_ns()
            while self._kept and self._kept[0][0] < now - KEPT_NS:
                self._kept.popleft()
            self._kept.append((now, fed))

    def make_state(self, request: MakeState) -> Done:
        """New contents of a model's states."""
        held = self._models[request.handle]
        held.states[request.state] = held.model.make_state()
        return Done()

    def read_state(self, request: ReadState) -> Predicted:
        """What a state holds."""
        state = self._models[request.handle].states[request.state]
        contents = np.asarray(state.read_state(request.name))
        return Predicted(self._outputs.put([{request.name: contents}]))

    def write_state(self, request: WriteState) -> Done:
        """Replace what states hold."""
        state = self._models[request.handle].states[request.state]
        for name, array in self._views(request.contents).items():
            value = array.astype(np.float32) if array.dtype == np.float16 else array
            with self._keeping(value):
                state.write_state(name, value)
        return Done()

    def _views(self, parcel: Parcel) -> dict[str, Any]:
        (views,) = self._inputs.views(parcel)
        return views


_ANSWERS: dict[type, Callable[[Server, Any], Reply]] = {
    Compile: Server.compile,
    MakePlan: Server.plan,
    Load: Server.load,
    Forget: Server.forget,
    Predict: Server.predict,
    MakeState: Server.make_state,
    ReadState: Server.read_state,
    WriteState: Server.write_state,
}


def _ct() -> Any:
    """coremltools, imported without its warnings."""
    from coreml_lab.program.mil.tools import ct  # noqa: PLC0415 - after the kernel was answered

    return ct


def _failed(error: Exception, *, after: bool = False) -> Failed:
    if isinstance(error, MemoryError):
        return Failed("memory", str(error), after)
    return Failed("engine", _text(error), after)


def _text(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _hints(given: Mapping[str, str]) -> dict[str, Any]:
    """Optimization hints as coremltools takes them."""
    ct = _ct()
    kinds = {
        "reshapeFrequency": ct.ReshapeFrequency,
        "specializationStrategy": ct.SpecializationStrategy,
    }
    return {k: kinds[k][v] if k in kinds else v == "True" for k, v in given.items()}


def _states(source: Path, function: str) -> tuple[StateSlot, ...]:
    """The states of a function, as the model's description has them."""
    from coreml_lab.program.mil.description import own_description  # noqa: PLC0415 - as above
    from coreml_lab.program.mil.reader import open_spec  # noqa: PLC0415

    spec, _ = open_spec(source)
    found = []
    for feature in own_description(spec, function or None).state:
        array = feature.type.stateType.arrayType
        found.append(StateSlot(feature.name, ELEMENTS[array.dataType], tuple(array.shape)))
    return tuple(found)


def _placements(plan: Any, block: Any) -> Iterator[Placement]:
    """Every operation of a block, and of blocks inside it, that Core ML places somewhere."""
    for op in block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
        if usage is not None and op.outputs:
            cost = plan.get_estimated_cost_for_mlprogram_operation(op)
            yield Placement(
                op.outputs[0].name,
                op.operator_name.rpartition(".")[2],
                _device(usage.preferred_compute_device),
                tuple(map(_device, usage.supported_compute_devices)),
                None if cost is None else float(cost.weight),
            )
        for inner in op.blocks:
            yield from _placements(plan, inner)


def _device(device: Any) -> str:
    kinds = _ct().models.compute_device
    names = {
        kinds.MLCPUComputeDevice: "cpu",
        kinds.MLGPUComputeDevice: "gpu",
        kinds.MLNeuralEngineComputeDevice: "ne",
    }
    return names[type(device)]


def ready() -> Ready:
    """What this process runs on, or why it cannot run Core ML."""
    try:
        ct = _ct()
    except ImportError as error:
        return Ready("", f"coremltools cannot be imported: {error}")
    version = f"coremltools {ct.__version__}"
    if ct.models.model._MLModelProxy is None:  # noqa: SLF001 - how coremltools itself asks
        return Ready(version, f"{version} has no native part for this machine")
    try:
        devices = ct.models.MLModel.get_available_compute_devices()
    except Exception:  # noqa: BLE001 - before macOS 14 it cannot tell, but still predicts
        return Ready(version)
    return Ready(version, units=tuple(map(_device, devices)))


def guarded(life: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start what ends this process and removes its folder when the kernel is gone.

    A call of Core ML that hangs holds the interpreter's lock: nothing here would notice. The guard
    ends its process group, which is this process's own: a number that nobody else is given while
    the guard is in it.
    """
    command = ["/bin/sh", "-c", 'read _; rm -rf "$0"; kill -9 0', str(folder)]
    quiet = subprocess.DEVNULL
    with open(life, "rb", 0) as line:
        return subprocess.Popen(command, stdin=line, stdout=quiet, stderr=quiet)  # noqa: S603


def main(arguments: list[str]) -> None:
    """Serve the kernel at the other end of the inherited socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupting a cell is the kernel's business
    faulthandler.enable()
    frameworks.leave_out()  # nothing is converted here
    descriptor, folder, life = int(arguments[0]), Path(arguments[1]), int(arguments[2])
    try:
        with contextlib.suppress(OSError):  # it is a precaution: without it Core ML runs, too
            _guard = guarded(life, folder)
        with Connection(descriptor) as connection, contextlib.suppress(ConnectionError):
            connection.send((0, ready()))
            Server(connection, folder).serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
