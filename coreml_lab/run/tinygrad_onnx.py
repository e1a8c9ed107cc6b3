"""tinygrad on OpenCL (and on Metal where PyTorch is absent), on the portable engine's ONNX model.

tinygrad compiles kernels when a program first runs, which takes from seconds to minutes, and keeps
them on disk; from the third run of an input shape on, the captured kernels are replayed without
Python in between. States pass through NumPy.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from coreml_lab.errors import EngineError, EngineUnavailable, LabError, OutOfMemory, UnsupportedOp
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array, Node
from coreml_lab.program.program import Program
from coreml_lab.records import Run
from coreml_lab.run import laps, tinygrad_store
from coreml_lab.run.engine import Availability, Border, Options, package_version
from coreml_lab.run.lowering.lowered import MODEL, Kernel, Origin, opened, supports
from coreml_lab.run.state import State

OPENCL = "CL"
METAL = "METAL"
# How many captured runs a program keeps, each for inputs of other shapes.
REPLAYS = 8
# tinygrad keeps counters and caches of its own in globals: one thread at a time.
_LOCK = threading.RLock()


@functools.cache
def opencl_devices() -> tuple[str, ...]:
    """The names of the OpenCL devices that tinygrad finds; nothing where there is none."""
    if not package_version("tinygrad"):
        return ()
    from tinygrad.device import Device  # noqa: PLC0415 - an extra, heavy

    try:
        found: Any = [Device[f"{OPENCL}:{i}"] for i in range(Device[OPENCL].count())]
        return tuple(str(d.device_name) for d in found)
    except Exception:  # noqa: BLE001 - a missing library, driver or device: each raises its own
        return ()


@dataclass(frozen=True)
class TinygradEngine:
    """Drives OpenCL devices, and Apple's GPU where PyTorch is not installed."""

    cache: Cache | None = None
    name: str = "tinygrad"
    kinds: tuple[str, ...] = ("opencl", "metal")

    @property
    def devices(self) -> tuple[str, ...]:
        """Every OpenCL device; the Apple GPU of a Mac without PyTorch."""
        metal = sys.platform == "darwin" and not package_version("torch")
        found = tuple(f"opencl:{i}" for i in range(len(opencl_devices())))
        return (*found, *(("metal:0",) if metal else ()))

    def title(self, device: str) -> str:
        """The name of the device as its driver gives it."""
        kind, _, number = device.partition(":")
        name = "Apple GPU, Metal" if kind == "metal" else f"{opencl_devices()[int(number)]}, OpenCL"
        return f"Core ML program, tinygrad ({name})"

    def available(self) -> Availability:
        """It is an extra, and needs a device that has a driver."""
        version = package_version("tinygrad")
        if not version:
            return Availability(
                False, "tinygrad is not installed: pip install 'coreml-lab[opencl]'"
            )
        if not self.devices:
            return Availability(
                False,
                "no OpenCL device has a driver here (on Debian, pocl-opencl-icd makes the CPU one)",
            )
        return Availability(True, version=f"tinygrad {version}")

    def supports(self, node: Node) -> bool:
        """Whether its op has an ONNX lowering; tinygrad itself is asked when it loads."""
        return supports(node)

    def load(self, program: Program, device: str, options: Options) -> TinygradProgram:
        """Lower the program, or take it from the cache, and copy its weights to the device."""
        state = self.available()
        if not state.available:
            raise EngineUnavailable(state.reason, reason=state.reason, hint="engine='portable'")
        read = functools.partial(TinygradProgram, device=device)
        return opened(program, self.cache, read, faithful=options.faithful)


class TinygradProgram:
    """A program whose weights are on the device."""

    border = Border(copies_inputs=True, copies_outputs=True)
    per_shape = True

    def __init__(self, folder: Path, device: str) -> None:
        kind, _, number = device.partition(":")
        self._device = device
        self._backend = METAL if kind == "metal" else f"{OPENCL}:{number}".removesuffix(":0")
        self._origin = Origin.read(folder)
        self.states = self._origin.state_types
        with self._using():
            self._runner = _runner(folder / MODEL, self._backend)
        self._numbers = _numbers(self._runner)
        self._varying = _data_dependent(self._runner)
        self._realized = _realizing(self._runner)
        self._replays: OrderedDict[Any, tuple[Callable[..., Any], Any, Any]] = OrderedDict()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """The device as tinygrad's default: its operators make constants there."""
        from tinygrad.helpers import Context  # noqa: PLC0415

        using: Any = Context
        with _LOCK, _translating(), using(DEV=self._backend):
            tinygrad_store.open_for_all_threads()
            yield

    def make_state(self) -> State:
        """Zeros for every state of the program."""
        return State(self.states)

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; it changes ``state`` when it has succeeded."""
        held = self._origin.contents(state or self.make_state())
        with self._using():
            tensors = self._tensors({**self._origin.fed(inputs), **held})
            laps.lap("copy")
            names, computed = self._runner.graph_outputs, self._compute(tensors)
            if laps.on:
                laps.lap("launch")
                self._wait()
                laps.lap("framework")
            found = [t.numpy() for t in computed]
            laps.lap("copy")
            results = dict(zip(names, found, strict=True))
        new = {k: results.pop(name) for k, name in self._origin.changed.items()}
        if state is not None:
            for name, array in new.items():
                state.write(name, array)
        return results

    def _wait(self) -> None:
        """Until the device has done all that was asked of it."""
        from tinygrad.device import Device  # noqa: PLC0415

        device: Any = Device[self._backend]
        device.synchronize()

    def _tensors(self, arrays: Mapping[str, Array]) -> dict[str, Any]:
        from tinygrad.tensor import Tensor  # noqa: PLC0415

        found = {}
        for name, array in arrays.items():
            if name in self._runner.graph_inputs:
                # It takes no address of memory that must not be written, as that of a tensor is.
                held = np.require(array, requirements=("C", "W"))
                tensor = Tensor(held, device=self._backend)
                # A number would become part of the kernels.
                found[name] = (tensor if array.ndim else tensor.clone()).realize()
        return found

    def _compute(self, tensors: Mapping[str, Any]) -> list[Any]:
        if self._varying:
            # Sizes that depend on the data differ from run to run: nothing can be replayed.
            self._knows({}, {})
            return self._realized(**tensors)
        key = tuple((k, t.shape) for k, t in tensors.items())
        if key not in self._replays:
            from tinygrad.engine.jit import TinyJit  # noqa: PLC0415

            self._replays[key] = (TinyJit(self._realized), {}, {})
            if len(self._replays) > REPLAYS:
                self._replays.popitem(last=False)
        self._replays.move_to_end(key)
        replay, sizes, constants = self._replays[key]
        self._knows(sizes, constants)
        found: list[Any] = replay(**tensors)
        return found

    def _knows(self, sizes: dict[str, int], constants: dict[str, Any]) -> None:
        """Set what the runner knows, which belongs to one input shape."""
        self._runner.variable_dims = sizes
        constants.update(self._numbers)
        self._runner._python_const_cache = constants  # noqa: SLF001 - it has no other door

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences node by node: nothing is fused, so the whole takes longer than a run.

        A span is the device's own time for the node's kernels, as its events tell; they are laid
        end to end. States begin as zeros in each run.
        """
        zeros = self._origin.contents(self.make_state())
        found = []
        with self._using():
            tensors = self._tensors({**self._origin.fed(inputs), **zeros})
            for index in range(runs + 1):
                start = time.monotonic_ns()
                kernels = self._stepped(tensors, start, report=index > 0)  # the first compiles
                duration = time.monotonic_ns() - start
                ran = frozenset(k.label for k in kernels)
                spans = self._origin.spans(kernels, ran, "tinygrad", self._device)
                found.append(Run(index - 1, start, duration, spans, instrumented=True))
        return tuple(found[1:])

    def _stepped(self, tensors: Mapping[str, Any], start: int, *, report: bool) -> list[Kernel]:
        kernels: list[Kernel] = []
        nodes = iter(self._runner.graph_nodes)
        known, at = self._runner.onnx_ops, start

        def timed(implementation: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal at
                node = next(nodes)
                work = functools.partial(implementation, *args, **kwargs)
                result, spent = _device_time(work, report=report)
                label = self._origin.label_of(node.outputs[0])
                if label in self._origin.nodes:
                    kernels.append(Kernel(label, node.op, at, spent))
                at += spent
                return result

            return call

        self._runner.onnx_ops = _Wrapped(known, timed)
        try:
            self._knows({}, {})
            self._realized(**tensors)
        finally:
            self._runner.onnx_ops = known
        return kernels


class _Wrapped(dict[str, Any]):
    """The operators of a runner, each wrapped when it is looked up."""

    def __init__(self, known: Mapping[str, Any], wrap: Callable[[Any], Any]) -> None:
        super().__init__(known)
        self._wrap = wrap

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, FunctionType):
            return self._wrap(found)
        return {version: self._wrap(f) for version, f in found.items()}


def _device_time(compute: Callable[[], Any], *, report: bool) -> tuple[Any, int]:
    """The result, realized, and the nanoseconds that the device's own events count for it."""
    from tinygrad.helpers import Context, GlobalCounters  # noqa: PLC0415
    from tinygrad.tensor import Tensor  # noqa: PLC0415

    before = GlobalCounters.time_sum_s
    # Events are read only while it reports them, which it does on standard output.
    reporting: Any = Context
    with reporting(DEBUG=2 if report else 0), contextlib.redirect_stdout(io.StringIO()):
        result = compute()
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                tensor.realize()
    return result, int((GlobalCounters.time_sum_s - before) * 1e9)


def _runner(model: Path, backend: str) -> Any:
    from tinygrad.nn.onnx import OnnxRunner  # noqa: PLC0415
    from tinygrad.tensor import Tensor  # noqa: PLC0415

    runner = OnnxRunner(model).to(backend)
    # The weights are copied now: their file may not stay.
    for value in runner.graph_values.values():
        if isinstance(value, Tensor):
            value.realize()
    runner.onnx_ops = {**runner.onnx_ops, **_corrected()}
    missing = sorted({n.op for n in runner.graph_nodes} - set(runner.onnx_ops))
    if missing:
        raise UnsupportedOp(
            f"tinygrad has no ONNX operator {', '.join(missing)}",
            engine="tinygrad",
            hint="engine='portable' runs every op",
        )
    return runner


def _corrected() -> dict[str, Any]:
    """Operators that tinygrad's ONNX reader (0.14) lacks, or computes otherwise than ONNX asks."""

    def axes_of(x: Any, axes: Any, noop_with_empty_axes: int) -> Any:
        return axes or ([] if noop_with_empty_axes else tuple(range(x.ndim)))

    def mean(x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        found = x.mean(axes_of(x, axes, noop_with_empty_axes), keepdim=bool(keepdims))
        return found.cast(x.dtype)  # of whole numbers, it has a fraction there

    def log_sum_exp(
        x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Any:
        # Without the largest value subtracted, exp overflows.
        return x.logsumexp(axes_of(x, axes, noop_with_empty_axes), keepdim=bool(keepdims))

    def shift(x: Any, by: Any, *, direction: str) -> Any:
        factor = by.float().exp2().cast(x.dtype)
        return x // factor if direction == "RIGHT" else x * factor

    return {"ReduceMean": mean, "ReduceLogSumExp": log_sum_exp, "BitShift": shift}


def _realizing(runner: Any) -> Callable[..., list[Any]]:
    """What runs it; a captured run that held the program would keep it past its last reference.

    tinygrad forgets its tensors only where they go at once, not where the collector finds them.
    """
    from tinygrad.tensor import Tensor  # noqa: PLC0415
    from tinygrad.uop import Ops  # noqa: PLC0415

    def buffers(values: Iterable[Any]) -> set[Any]:
        bases = {v.uop.base for v in values if isinstance(v, Tensor)}
        return {b for b in bases if b.op is Ops.BUFFER}

    weights = buffers(runner.graph_values.values())

    def realized(**tensors: Any) -> list[Any]:
        given = weights | buffers(tensors.values())
        made = [t.contiguous().realize() for t in runner(tensors).values()]
        # A replay would hand back the captured run's input where a result only looks at it.
        return [t if given.isdisjoint(t.uop.toposort()) else t.clone().realize() for t in made]

    return realized


def _numbers(runner: Any) -> dict[str, Any]:
    """Single numbers that operators want as Python's: tinygrad would compile code to read them."""
    from tinygrad.nn.onnx import required_input_python_consts as needed  # noqa: PLC0415
    from tinygrad.uop import Ops  # noqa: PLC0415

    wanted = {
        node.inputs[i]
        for node in runner.graph_nodes
        for i in needed.get(node.op, ())
        if i < len(node.inputs)
    }
    known = {name: runner.graph_values.get(name) for name in wanted}
    return {k: t.uop.arg for k, t in known.items() if t is not None and t.uop.op is Ops.CONST}


def _data_dependent(runner: Any) -> frozenset[str]:
    """Values that tinygrad needs as Python numbers although they depend on the inputs' data."""
    from tinygrad.nn.onnx import required_input_python_consts as needed  # noqa: PLC0415

    computed, found = set(runner.graph_inputs), set()
    for node in runner.graph_nodes:
        wanted = {node.inputs[i] for i in needed.get(node.op, ()) if i < len(node.inputs)}
        found |= wanted & computed
        if node.op == "If" and node.inputs[0] in computed:
            found.add(node.inputs[0])
        if node.op not in {"Shape", "Size"} and computed & set(node.inputs):
            computed |= set(node.outputs)
    return frozenset(found)


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    """Exceptions of tinygrad, once and here, as ours."""
    try:
        yield
    except LabError:
        raise
    except NotImplementedError as error:
        raise UnsupportedOp(
            f"tinygrad: {error}", engine="tinygrad", hint="engine='portable' runs every op"
        ) from error
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, MemoryError) or "OUT_OF_RESOURCES" in text or "ALLOCATION" in text:
            raise OutOfMemory(
                f"the device ran out of memory: {text}", hint="a smaller batch"
            ) from error
        raise EngineError(
            f"tinygrad: {type(error).__name__}: {text}",
            hint="model.to('coreml') runs it on the CPU",
        ) from error
