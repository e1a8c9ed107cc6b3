"""The portable engine: ONNX Runtime on the CPU, and its profiler."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import TIMEOUT_MAX, Timer
from typing import Any

import numpy as np

from coreml_lab.errors import EngineError, EngineUnavailable, LabError, OutOfMemory
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array, Node, TensorType
from coreml_lab.program.program import Program
from coreml_lab.records import Run
from coreml_lab.run import laps
from coreml_lab.run.engine import Availability, Border, Options, stopped
from coreml_lab.run.lowering.lowered import MODEL, Kernel, Origin, opened, supports
from coreml_lab.run.op_memory import MemoryTrace, OpMemory, levels, mark
from coreml_lab.run.state import State
from coreml_lab.run.traits import PLAIN, QUIET, Traits, opened_exactly, traits_of

KERNEL = "_kernel_time"


@dataclass(frozen=True)
class PortableEngine:
    """Runs any program on ONNX Runtime's CPU kernels; keeps what it lowers in the cache."""

    cache: Cache | None = None
    name: str = "portable"
    devices: tuple[str, ...] = ("coreml:0",)

    def title(self, device: str) -> str:  # noqa: ARG002 - one title: it is always the CPU
        """Never "Core ML": the program is Core ML's, the work is the CPU's."""
        return "Core ML program, portable engine (CPU)"

    def available(self) -> Availability:
        """ONNX Runtime is a core dependency; its absence is an installation fault."""
        try:
            import onnxruntime  # noqa: PLC0415 - heavy, loaded when it is used
        except ImportError as error:
            return Availability(False, f"onnxruntime cannot be imported: {error}")
        return Availability(True, version=f"onnxruntime {onnxruntime.__version__}")

    def supports(self, node: Node) -> bool:
        """Whether its op has an ONNX lowering."""
        return supports(node)

    def load(self, program: Program, device: str, options: Options) -> PortableProgram:
        """Lower the program, or take it from the cache, and create a session."""
        state = self.available()
        if not state.available:
            raise EngineUnavailable(
                "the portable engine is not here: " + state.reason,
                reason=state.reason,
                hint="pip install onnxruntime",
            )

        def read(folder: Path) -> PortableProgram:
            how = traits_of(program.info)
            in_memory = self.cache is None
            return PortableProgram.open(folder, device, options, how, in_memory=in_memory)

        return opened(program, self.cache, read, faithful=options.faithful, keep=options.packed)


class PortableProgram:
    """A program in an ONNX Runtime session."""

    # Inputs are read where they are; results are given out in the memory they were computed in.
    border = Border(copies_inputs=False, copies_outputs=False)

    def __init__(
        self,
        make: Callable[[Any], Any],
        origin: Origin,
        device: str,
        options: Options,
        traits: Traits = PLAIN,
    ) -> None:
        self._make = make
        self._lean, self._told = traits.lean, list[tuple[str, str]]()
        self._origin = origin
        self._device = device
        self._options = options
        self.session = _translated(lambda: self._opened(exactly=traits.integers))
        self.weight_bytes = origin.bytes
        self.states, self._changed = origin.state_types, origin.changed
        new = set(self._changed.values())
        self._names = [o.name for o in self.session.get_outputs() if o.name not in new]

    @staticmethod
    def open(
        folder: Path,
        device: str,
        options: Options,
        traits: Traits = PLAIN,
        *,
        in_memory: bool = False,
    ) -> PortableProgram:
        """A session on the model in ``folder`` (read now if the folder will not stay)."""
        import onnxruntime as ort  # noqa: PLC0415 - heavy, loaded when it is used

        source: Any = (folder / MODEL).read_bytes() if in_memory else str(folder / MODEL)
        return PortableProgram(
            lambda s: ort.InferenceSession(source, s, providers=["CPUExecutionProvider"]),
            Origin.read(folder),
            device,
            options,
            traits,
        )

    def _opened(self, *, exactly: bool) -> Any:
        if not exactly:
            return self._make(self._settings())
        session, told = opened_exactly(lambda entry: self._make(self._settings(entry)))
        self._told.append(told)
        return session

    def _settings(self, *told: tuple[str, str]) -> Any:
        import onnxruntime as ort  # noqa: PLC0415

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        settings.enable_mem_pattern = not self._lean
        settings.log_severity_level = QUIET
        for entry in (*self._told, *told):
            settings.add_session_config_entry(*entry)
        return settings

    def make_state(self) -> PortableState:
        """Buffers, all zero, that ONNX Runtime reads and writes without copies between runs."""
        return PortableState(self.states, self._origin.kept_types, self._changed)

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; it changes ``state`` when it has succeeded."""
        if state is not None:
            return self._step(inputs, state)
        try:
            feeds = self._origin.fed(inputs)
            laps.lap("convert")
            results = self.session.run(self._names, feeds)
            laps.lap("framework")
            return dict(zip(self._names, results, strict=True))
        except Exception as error:
            raise _translate(error) from error

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``; after ``seconds`` ONNX Runtime is told to stop: between kernels, it does."""
        import onnxruntime as ort  # noqa: PLC0415 - heavy, loaded when it is used

        how = ort.RunOptions()
        bell = Timer(min(seconds, TIMEOUT_MAX), setattr, (how, "terminate", True))
        bell.start()
        try:
            if state is not None:
                return self._step(inputs, state, how)
            results = self.session.run(self._names, self._origin.fed(inputs), how)
            return dict(zip(self._names, results, strict=True))
        except Exception as error:
            if how.terminate:
                raise stopped(seconds, "ONNX Runtime") from error
            raise _translate(error) from error
        finally:
            bell.cancel()

    def _step(self, inputs: Mapping[str, Array], state: State, how: Any = None) -> dict[str, Array]:
        """A run whose states stay with ONNX Runtime: it reads one buffer and fills the other."""
        mine = state if isinstance(state, PortableState) else self.make_state()
        if mine is not state:
            mine.assign(state)
        binding = mine.binding(self)
        for name, array in self._origin.fed(inputs).items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._names:
            binding.bind_output(name)  # anew each time: the last results were given away
        laps.lap("convert")
        _translated(lambda: self.session.run_with_iobinding(binding, how))
        laps.lap("framework")
        found = binding.get_outputs_as_ortvaluevector()
        results = {name: found[i].numpy() for i, name in enumerate(self._names)}
        mine.swap(self._changed)
        if mine is not state:
            state.assign(mine)
        return results

    def bind(self, state: PortableState) -> Any:
        """A binding that reads the state's one buffers and fills the others."""
        binding = self.session.io_binding()
        for name in self._names:
            binding.bind_output(name)  # they come first, also where they are bound again
        for name in self.states:
            binding.bind_ortvalue_input(name, state.current[name])
        for name, new in self._changed.items():
            binding.bind_ortvalue_output(new, state.spare(name))
        return binding

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences in a session that ONNX Runtime profiles (resolution 1 us).

        States begin as zeros in each of them.
        """
        # A first run warms the arena and is left out of the result.
        return self._runs(*self._profiled(inputs, runs + 1))[1:]

    def account(self, inputs: Mapping[str, Array]) -> MemoryTrace:
        """What the arena holds as each kernel ends, in a first run: later ones get one block.

        Raises:
            EngineError: where this version of ONNX Runtime does not write it down.
        """
        events, _ = self._profiled(inputs, 1)
        labelled, seen = self._kernels(events)
        found, held = levels([mark(e) for e, _ in labelled], [mark(e) for e in seen])
        kernels = [_kernel(e, label, 0) for e, label in labelled]
        ran = frozenset(label for _, label in labelled)
        spans = self._origin.spans(kernels, ran, "portable", self._device)
        rows = [OpMemory(s.node, s.op, s.fused, *f) for s, f in zip(spans, found, strict=True)]
        return MemoryTrace(tuple(rows), held, "ONNX Runtime's arena, as each kernel ended")

    def _profiled(
        self, inputs: Mapping[str, Array], runs: int
    ) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
        """ONNX Runtime's events of some runs, and when each began and how long it took."""
        with tempfile.TemporaryDirectory() as folder:
            settings = self._settings()
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder) / "trace")
            session = _translated(lambda: self._make(settings))
            zeros = self._origin.contents(State(self.states))
            names, feeds = [o.name for o in session.get_outputs()], {**inputs, **zeros}
            stamps = [
                _timed(lambda fed=fed: session.run(names, fed))  # type: ignore[misc]
                for fed in (self._origin.fed(feeds) for _ in range(runs))
            ]
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return events, stamps

    def _runs(self, events: list[dict[str, Any]], stamps: list[tuple[int, int]]) -> tuple[Run, ...]:
        """One Run per ``model_run`` event; the moment of the call moves its clock onto ours."""
        whole = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])
        labelled, seen = self._kernels(events)
        ran = frozenset(label for _, label in labelled)
        live = _in_use(labelled, seen, whole[0])
        runs = []
        for index, (event, (start, duration)) in enumerate(zip(whole, stamps, strict=True)):
            inside = [(e, label) for e, label in labelled if _within(e, event)]
            kernels = [_kernel(e, label, start - event["ts"] * 1000) for e, label in inside]
            spans = self._origin.spans(kernels, ran, "portable", self._device)
            held = [
                replace(s, memory=live.get(k.label)) for s, k in zip(spans, kernels, strict=True)
            ]
            runs.append(Run(index, start, duration, tuple(held), instrumented=True))
        return tuple(runs)

    def _kernels(
        self, events: list[dict[str, Any]]
    ) -> tuple[list[tuple[dict[str, Any], str]], list[dict[str, Any]]]:
        """The kernels of the program's own operations with their labels, and all kernels.

        What runs inside a loop or branch is part of that operation's own kernel.
        """
        nested = self._origin.nested
        seen = sorted((e for e in events if _is_kernel(e)), key=lambda e: e["ts"])
        return [(e, label) for e in seen if (label := self._label(e)) not in nested], seen

    def _label(self, event: Mapping[str, Any]) -> str:
        return self._origin.label_of(event["name"].removesuffix(KERNEL).removeprefix("fused "))


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and event["name"].endswith(KERNEL)


def _within(event: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    return bool(run["ts"] <= event["ts"] < run["ts"] + run["dur"] + 1)


def _in_use(
    labelled: list[tuple[dict[str, Any], str]], seen: list[dict[str, Any]], run: dict[str, Any]
) -> dict[str, int]:
    """Label -> what the arena had in use as its kernel ended; nothing where it is not recorded."""
    first = [(e, label) for e, label in labelled if _within(e, run)]
    try:
        found, _ = levels([mark(e) for e, _ in first], [mark(e) for e in seen if _within(e, run)])
    except EngineError:
        return {}
    return {label: live for (_, label), (live, _) in zip(first, found, strict=True)}


def _kernel(event: Mapping[str, Any], label: str, offset_ns: int) -> Kernel:
    args = event["args"]
    return Kernel(
        label,
        args["op_name"],
        event["ts"] * 1000 + offset_ns,
        event["dur"] * 1000,
        sum(int(args.get(f"{k}_size", 0)) for k in ("activation", "parameter", "output")),
    )


class PortableState(State):
    """States in two buffers each: a run reads the one and fills the other, then they swap."""

    def __init__(
        self,
        types: Mapping[str, TensorType],
        kept: Mapping[str, TensorType],
        changed: Iterable[str],
    ) -> None:
        import onnxruntime as ort  # noqa: PLC0415 - heavy, loaded when it is used

        self.types = dict(types)
        self._kept = dict(kept)
        self._changed = tuple(changed)
        self._make = ort.OrtValue.ortvalue_from_numpy
        self.current = {name: self._zeros(name) for name in self.types}
        self._spare = {name: self._zeros(name) for name in self._changed}
        # How often the buffers of each state were exchanged, and the bindings for that.
        self._turns = dict.fromkeys(self.types, 0)
        self._bindings: dict[tuple[int, ...], tuple[PortableProgram, Any]] = {}

    def _zeros(self, name: str) -> Any:
        kind = self._kept[name]
        return self._make(np.zeros(kind.sizes, kind.dtype))

    def spare(self, name: str) -> Any:
        """The buffer that the next run fills; also of what the state's maker never changes."""
        if name not in self._spare:
            self._spare[name] = self._zeros(name)
        return self._spare[name]

    def binding(self, program: PortableProgram) -> Any:
        """The program's binding to the buffers as they lie now; made once for either side."""
        key = (id(program), *self._turns.values())
        if key not in self._bindings:
            self._bindings[key] = (program, program.bind(self))
        return self._bindings[key][1]

    @property
    def bytes_per_step(self) -> int:
        """What a step reads and writes to carry over what it does not change: each changed state.

        From the sizes: an update reads the state's one buffer and writes the other (fp16 states
        are kept as fp32, 4 bytes a number). Nothing of it goes through NumPy.
        """
        kept = (self._kept[name] for name in self._changed)
        return sum(2 * math.prod(t.sizes) * t.dtype.itemsize for t in kept)

    def read(self, name: str) -> Array:
        """A copy of what it holds."""
        kind = self.check(name)
        return np.array(self.current[name].numpy(), kind.dtype)

    def write(self, name: str, array: Array) -> None:
        """Replace what it holds."""
        fitted = self.fitted(name, array).astype(self._kept[name].dtype)
        self.current[name].update_inplace(np.ascontiguousarray(fitted))

    def swap(self, names: Iterable[str]) -> None:
        """Make the filled buffers the ones to read."""
        for name in names:
            self.current[name], self._spare[name] = self._spare[name], self.current[name]
            self._turns[name] ^= 1


def _timed(call: Callable[[], Any]) -> tuple[int, int]:
    start = time.monotonic_ns()
    call()
    return start, time.monotonic_ns() - start


def _translated(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except LabError:
        raise
    except Exception as error:
        raise _translate(error) from error


def _translate(error: Exception) -> EngineError:
    """ONNX Runtime's exceptions, once and here, as ours."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, MemoryError) or "Failed to allocate memory" in text or "bad_alloc" in text:
        return OutOfMemory(
            f"ONNX Runtime ran out of memory: {text}", hint="a smaller batch, or compressed weights"
        )
    return EngineError(
        f"ONNX Runtime: {text}", hint="model.to('cpu') runs it on the reference engine"
    )
