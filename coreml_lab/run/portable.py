"""The portable engine: ONNX Runtime on the CPU, and its profiler."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import EngineError, EngineUnavailable, LabError, OutOfMemory
from coreml_lab.metrics import Provenance
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import CONTROL_FLOW, LEAVES, Array, Graph, Node, TensorType
from coreml_lab.program.ops import OPS
from coreml_lab.program.program import Program
from coreml_lab.records import OpSpan, Run
from coreml_lab.run.engine import Availability, Options
from coreml_lab.run.fusion import absorbed, leader
from coreml_lab.run.state import State

MODEL = "portable.onnx"
ORIGIN = "origin.json"
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
        return node.op in LEAVES | CONTROL_FLOW or (
            node.op in OPS and OPS[node.op].onnx is not None
        )

    def load(self, program: Program, device: str, options: Options) -> PortableProgram:
        """Lower the program, or take it from the cache, and create a session."""
        state = self.available()
        if not state.available:
            raise EngineUnavailable(
                "the portable engine is not here: " + state.reason,
                reason=state.reason,
                hint="pip install onnxruntime",
            )
        if self.cache is None:
            with tempfile.TemporaryDirectory() as temporary:
                _lower_into(Path(temporary), program.graph, faithful=options.faithful)
                return PortableProgram.open(Path(temporary), device, options, in_memory=True)
        key = f"{program.key}-portable" + ("-faithful" if options.faithful else "")
        folder = self.cache.get(key) or self.cache.put(
            key, lambda f: _lower_into(f, program.graph, faithful=options.faithful)
        )
        return PortableProgram.open(folder, device, options)


def _lower_into(folder: Path, graph: Graph, *, faithful: bool) -> None:
    from coreml_lab.run.onnx_graph import lower  # noqa: PLC0415 - a warm cache does without onnx

    lowered = lower(graph, faithful=faithful)
    try:
        (folder / MODEL).write_bytes(lowered.model.SerializeToString())
    except ValueError as error:  # protobuf's limit
        raise EngineError(
            f"the program is larger than the 2 GB an ONNX file can hold: {error}",
            hint="compress its weights",
        ) from error
    parents = {
        n.name: next((v.node.name for v in n.operands() if v.node.op not in LEAVES), "")
        for n in graph.ops
    }
    data = {
        "origin": dict(lowered.origin),
        "ops": {n.name: n.op for n in graph.ops},
        "parents": parents,
        "nested": lowered.nested,
        "states": {
            name: (lowered.states[name], node.type.sizes, node.type.dtype.name)
            for name, node in graph.states.items()
        },
    }
    (folder / ORIGIN).write_text(json.dumps(data), encoding="utf-8")


class PortableProgram:
    """A program in an ONNX Runtime session."""

    def __init__(
        self, make: Callable[[Any], Any], origin: Mapping[str, Any], device: str, options: Options
    ) -> None:
        self._make = make
        self._origin = origin
        self._device = device
        self._options = options
        self.session = _translated(lambda: make(self._settings()))
        rows = origin.get("states", {})
        self.states = {k: TensorType(tuple(n), np.dtype(d)) for k, (_, n, d) in rows.items()}
        self._changed = {k: new for k, (new, *_) in rows.items() if new}
        new = set(self._changed.values())
        self._names = [o.name for o in self.session.get_outputs() if o.name not in new]

    @staticmethod
    def open(
        folder: Path, device: str, options: Options, *, in_memory: bool = False
    ) -> PortableProgram:
        """A session on the model in ``folder`` (read now if the folder will not stay)."""
        import onnxruntime as ort  # noqa: PLC0415 - heavy, loaded when it is used

        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        source: Any = (folder / MODEL).read_bytes() if in_memory else str(folder / MODEL)
        return PortableProgram(
            lambda s: ort.InferenceSession(source, s, providers=["CPUExecutionProvider"]),
            origin,
            device,
            options,
        )

    def _settings(self) -> Any:
        import onnxruntime as ort  # noqa: PLC0415

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        settings.log_severity_level = 3
        return settings

    def make_state(self) -> PortableState:
        """Buffers, all zero, that ONNX Runtime reads and writes without copies between runs."""
        return PortableState(self.states)

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; it changes ``state`` when it has succeeded."""
        if state is not None:
            return self._step(inputs, state)
        try:
            return dict(zip(self._names, self.session.run(self._names, inputs), strict=True))
        except Exception as error:
            raise _translate(error) from error

    def _step(self, inputs: Mapping[str, Array], state: State) -> dict[str, Array]:
        """A run whose states stay with ONNX Runtime: it reads one buffer and fills the other."""
        mine = state if isinstance(state, PortableState) else self.make_state()
        if mine is not state:
            mine.assign(state)
        binding = self.session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._names:
            binding.bind_output(name)
        for name in self.states:
            binding.bind_ortvalue_input(name, mine.current[name])
        for name, new in self._changed.items():
            binding.bind_ortvalue_output(new, mine.spare[name])
        _translated(lambda: self.session.run_with_iobinding(binding))
        results = dict(zip(self._names, binding.get_outputs(), strict=False))
        mine.swap(self._changed)
        if mine is not state:
            state.assign(mine)
        return {name: value.numpy() for name, value in results.items()}

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences in a session that ONNX Runtime profiles (resolution 1 us).

        States begin as zeros in each of them.
        """
        with tempfile.TemporaryDirectory() as folder:
            settings = self._settings()
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder) / "trace")
            session = _translated(lambda: self._make(settings))
            zeros = {k: np.zeros(t.sizes, t.dtype) for k, t in self.states.items()}
            names, feeds = [o.name for o in session.get_outputs()], {**inputs, **zeros}
            # A first run warms the arena and is left out of the result.
            stamps = [_timed(lambda: session.run(names, feeds)) for _ in range(runs + 1)]
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return self._runs(events, stamps)[1:]

    def _runs(self, events: list[dict[str, Any]], stamps: list[tuple[int, int]]) -> tuple[Run, ...]:
        """One Run per ``model_run`` event; the moment of the call moves its clock onto ours."""
        whole = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])
        # What runs inside a loop or branch is part of that operation's own span.
        nested = set(self._origin.get("nested", ()))
        kernels = sorted(
            (
                e
                for e in events
                if e.get("cat") == "Node"
                and e["name"].endswith(KERNEL)
                and self._label_of(e["name"]) not in nested
            ),
            key=lambda e: e["ts"],
        )
        ran = {self._op_of(e["name"]) for e in kernels}
        fused = absorbed(self._origin["ops"], self._origin["parents"], ran)
        runs = []
        for index, (event, (start, duration)) in enumerate(zip(whole, stamps, strict=True)):
            inside = [e for e in kernels if event["ts"] <= e["ts"] < event["ts"] + event["dur"] + 1]
            spans = tuple(self._span(e, start - event["ts"] * 1000, fused) for e in inside)
            runs.append(Run(index, start, duration, spans, instrumented=True))
        return tuple(runs)

    def _span(
        self, event: Mapping[str, Any], offset_ns: int, fused: Mapping[str, tuple[str, ...]]
    ) -> OpSpan:
        name, args, ops = self._op_of(event["name"]), event["args"], self._origin["ops"]
        group = (name, *fused.get(name, ()))
        node = leader(name, group[1:], ops)
        return OpSpan(
            node=node,
            op=ops.get(node, f"[{args['op_name']}]"),
            engine="portable",
            device=self._device,
            start_ns=event["ts"] * 1000 + offset_ns,
            duration_ns=event["dur"] * 1000,
            bytes=sum(int(args.get(f"{k}_size", 0)) for k in ("activation", "parameter", "output")),
            provenance=Provenance.MEASURED,
            fused=tuple(n for n in group if n != node),
        )

    def _op_of(self, event: str) -> str:
        """The MIL op behind a kernel, or the kernel's own name."""
        label = self._label_of(event)
        return str(self._origin["origin"].get(label, label))

    def _label_of(self, event: str) -> str:
        """The node a kernel was named after: its name is built on a node's or a value's."""
        name, origin = event.removesuffix(KERNEL), self._origin["origin"]
        label = name.removeprefix("fused ")
        while label not in origin:
            # Values are called "node:0"; rewrites append "_nchwc", "_bn_nchwc", "/MatMulAddFusion"…
            shorter = re.sub(r":\d+$", "", label)
            shorter = re.sub(r"[_/][^_/]*$", "", label) if shorter == label else shorter
            if shorter == label:
                return name
            label = shorter
        return label


class PortableState(State):
    """States in two buffers each: a run reads the one and fills the other, then they swap."""

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        import onnxruntime as ort  # noqa: PLC0415 - heavy, loaded when it is used

        self.types = dict(types)
        zeros = {k: np.zeros(t.sizes, t.dtype) for k, t in self.types.items()}
        make = ort.OrtValue.ortvalue_from_numpy
        self.current = {k: make(a) for k, a in zeros.items()}
        self.spare = {k: make(a.copy()) for k, a in zeros.items()}

    def read(self, name: str) -> Array:
        """A copy of what it holds."""
        self.check(name)
        return np.array(self.current[name].numpy())

    def write(self, name: str, array: Array) -> None:
        """Replace what it holds."""
        self.current[name].update_inplace(np.ascontiguousarray(self.fitted(name, array)))

    def swap(self, names: Iterable[str]) -> None:
        """Make the filled buffers the ones to read."""
        for name in names:
            self.current[name], self.spare[name] = self.spare[name], self.current[name]


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
