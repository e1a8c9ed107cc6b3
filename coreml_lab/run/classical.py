"""Classical models as any other model: predicted, profiled, compared; in NumPy, on the CPU."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import EngineUnavailable, InputError, ModelError
from coreml_lab.metrics import Provenance
from coreml_lab.program.cache import size_files
from coreml_lab.program.classical import stages as reading
from coreml_lab.program.classical.features import FeatureType, Misfit, fitted, port
from coreml_lab.program.classical.pipelines import Runs
from coreml_lab.program.classical.stages import Stage
from coreml_lab.program.graph import Node, TensorType
from coreml_lab.program.program import Program
from coreml_lab.records import OpInfo, OpSpan, PlanInfo, ProgramInfo, Run
from coreml_lab.run import laps, stages
from coreml_lab.run.engine import Availability, Border, Engine, Options
from coreml_lab.run.executor import Executor
from coreml_lab.run.ledger import LEDGER
from coreml_lab.run.model import Model
from coreml_lab.run.state import State

NAME, CPU = "classical", "cpu"
TITLE = "Core ML model, classical engine (NumPy, CPU)"
# What the device names that run them mean here: the CPU, where Core ML's own name is asked, too.
HERE = frozenset({CPU, "coreml:0"})


def is_classical(spec: Any) -> bool:
    """Whether a model is one of those that run here."""
    return reading.is_classical(spec.WhichOneof("Type") or "")


class ClassicalInterface:
    """Checks what crosses the border of a classical model, by its description."""

    def __init__(
        self, name: str, inputs: Mapping[str, FeatureType], outputs: Mapping[str, FeatureType]
    ) -> None:
        self.name = name
        self._kinds = inputs
        self.inputs: Mapping[str, TensorType] = inputs
        self.outputs: Mapping[str, TensorType] = outputs

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The values the model is fed; optional ones that were left out stay so.

        Raises:
            InputError: for a missing or unknown input, or a value of another type.
        """
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"{self.name}: inputs are a dictionary by name, not {type(inputs).__name__}",
                hint=self._example(),
            )
        given = {n: v for n, v in inputs.items() if v is not None}
        missing = [n for n, k in self._kinds.items() if n not in given and not k.optional]
        unknown = [str(n) for n in given if n not in self._kinds]
        if missing or unknown:
            told = [f"missing: {', '.join(missing)}"] * bool(missing)
            told += [f"unknown: {', '.join(unknown)}"] * bool(unknown)
            raise InputError(f"{self.name}: wrong inputs ({'; '.join(told)})", hint=self._example())
        return {n: self._fitted(n, v) for n, v in given.items()}

    def _fitted(self, name: str, value: Any) -> Any:
        try:
            return fitted(value, self._kinds[name])
        except Misfit as error:
            raise InputError(
                f"{self.name}: input {name!r} {error}", hint=f"give {self._kinds[name]}"
            ) from error

    def results(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """What ``predict`` returns: the declared outputs, which the stages made so."""
        return outputs

    def _example(self) -> str:
        return f"predict({{{', '.join(f'{n!r}: {t}' for n, t in self.inputs.items())}}})"


@dataclass(frozen=True)
class ClassicalEngine:
    """Runs stages in Python and NumPy, in doubles."""

    stages: tuple[Stage, ...]
    outputs: tuple[str, ...]
    name: str = NAME
    devices: tuple[str, ...] = (CPU,)

    def title(self, device: str) -> str:  # noqa: ARG002 - one title
        """What arms and panels call it."""
        return TITLE

    def available(self) -> Availability:
        """NumPy is always here."""
        return Availability(True, version=f"numpy {np.__version__}")

    def supports(self, node: Node) -> bool:  # noqa: ARG002 - it has models, no operations
        """No operation of a program: its models are read as they are."""
        return False

    def load(self, program: Program, device: str, options: Options) -> ClassicalProgram:  # noqa: ARG002 - they are read
        """The stages, ready as they are."""
        return ClassicalProgram(self.stages, self.outputs)


class ClassicalProgram:
    """Stages that run one after the other, each on what those before it gave."""

    # Values stay where they are: nothing crosses to another device.
    border = Border(copies_inputs=False, copies_outputs=False, counts=True)
    states: Mapping[str, TensorType] = {}

    def __init__(self, steps: tuple[Stage, ...], outputs: tuple[str, ...]) -> None:
        self._stages = steps
        self._outputs = outputs

    @property
    def weight_bytes(self) -> int:
        """Bytes of all stages' numbers."""
        return sum(stage.model.weight_bytes for stage in self._stages)

    def run(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """One inference; there are no states."""
        del state
        outputs = self._walk(inputs, None)
        laps.lap("framework")
        return outputs

    def make_state(self) -> State:
        """Nothing to remember."""
        return State(self.states)

    def trace(self, inputs: Mapping[str, Any], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences with a span per stage."""
        found = []
        for index in range(runs):
            spans: list[OpSpan] = []
            start = time.monotonic_ns()
            self._walk(inputs, spans)
            took = time.monotonic_ns() - start
            found.append(Run(index, start, took, tuple(spans), instrumented=True))
        return tuple(found)

    def _walk(self, inputs: Mapping[str, Any], spans: list[OpSpan] | None) -> dict[str, Any]:
        known = dict(inputs)
        for stage in self._stages:
            start = time.monotonic_ns()
            known |= stage.run(known)
            if spans is not None:
                took = time.monotonic_ns() - start
                spans.append(
                    OpSpan(stage.name, stage.kind, NAME, CPU, start, took, 0, Provenance.MEASURED)
                )
        return {name: known[name] for name in self._outputs}


@stages.collecting
def model(
    package: Path,
    spec: Any,
    key: str,
    options: Options,
    *,
    device: str,
    engine: str | Engine | None,
) -> Model:
    """A classical model, ready to predict.

    Raises:
        ModelError: where it cannot be run or makes no sense; it names the kind.
        EngineUnavailable: for a device or engine that has none of them.
    """
    check_place(package.stem, device, engine)
    with stages.step("reading"):
        stage = reading.read(package.name, spec)
    return _made(_info(package, key, (stage,)), (stage,), options)


def _made(info: ProgramInfo, steps: tuple[Stage, ...], options: Options) -> Model:
    border = ClassicalInterface(info.name, steps[0].inputs, steps[-1].outputs)
    runner = ClassicalEngine(steps, tuple(border.outputs))
    program = Program(info, Path(info.package))
    executor = Executor(
        info.name, runner.load(program, CPU, options), account=LEDGER.account(CPU), fixed=True
    )

    def move(device: str, **how: Any) -> Model:
        check_place(info.name, device, how.get("engine"))
        return _made(info, steps, dataclasses.replace(options, debug=False))

    plan = PlanInfo(NAME, CPU, TITLE, "classical models are evaluated by their definition")
    return Model(program, plan, executor, move, options, engine=runner, interface=border)


def check_function(name: str, function: str | None) -> None:
    """Raise ModelError where a function is asked for: these have none."""
    if function:
        raise ModelError(
            f"{name} has no function {function!r}: it is no program", hint="cl.load(path) alone"
        )


def check_place(name: str, device: str, engine: str | Engine | None) -> None:
    """Raise EngineUnavailable for a device or engine that runs no classical models."""
    named = engine if isinstance(engine, str) or engine is None else "an engine of your own"
    # The portable engine is what runs off a Mac, and for these that is this one.
    if device not in HERE or named not in {None, NAME, "portable"}:
        where = device if device not in HERE else f"engine {named}"
        raise EngineUnavailable(
            f"{name}: classical models run in NumPy on the CPU, not on {where}",
            reason="they are no tensor programs",
            hint="cl.load(path) without device and engine",
        )


def _info(package: Path, key: str, steps: tuple[Stage, ...]) -> ProgramInfo:
    return ProgramInfo(
        name=package.stem,
        key=key,
        package=str(package.absolute()),
        precision="fp64",
        inputs=tuple(port(n, k) for n, k in steps[0].inputs.items()),
        outputs=tuple(port(n, k) for n, k in steps[-1].outputs.items()),
        ops=tuple(row(stage) for stage in steps),
        size_bytes=size_files(package),
    )


def row(stage: Runs) -> OpInfo:
    """A stage as listings show it."""
    name, kind = next(iter(stage.outputs.items()), ("", FeatureType((), np.dtype(object))))
    shown = port(name, kind)
    return OpInfo(stage.name, stage.kind, shown.shape, shown.dtype, stage.model.weight_bytes)
