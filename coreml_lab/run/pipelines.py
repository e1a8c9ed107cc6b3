"""Pipelines as models: networks on their engines, everything else in NumPy, features by name."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import LabError, ModelError
from coreml_lab.metrics import Provenance
from coreml_lab.program import mil
from coreml_lab.program.cache import Cache, size_files
from coreml_lab.program.classical import pipelines
from coreml_lab.program.classical import stages as reading
from coreml_lab.program.classical.features import FeatureType, Misfit, given, port
from coreml_lab.program.classical.pipelines import Pipeline, Runs
from coreml_lab.program.program import Program
from coreml_lab.records import OpInfo, OpSpan, PlanInfo, ProgramInfo
from coreml_lab.run import classical, stages
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.engine import Engine, Options
from coreml_lab.run.executor import Executor
from coreml_lab.run.ledger import LEDGER
from coreml_lab.run.model import Model
from coreml_lab.run.state import State

is_pipeline = pipelines.is_pipeline
# What opens the file of a network on a device, with an engine.
Opens = Callable[[str, str | Engine | None, Path], Model]
Opened = Callable[[Path], Model]
KEPT = "stage"
# Of the run that this thread is in: a stage is handed its features, and nothing else.
_LIMIT = contextvars.ContextVar("limit", default=NO_LIMIT)


@dataclass(frozen=True)
class NetworkStage:
    """A network or ML Program among the stages of a pipeline."""

    name: str
    kind: str
    inputs: Mapping[str, FeatureType]
    outputs: Mapping[str, FeatureType]
    model: Model

    def run(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """One inference, in what is left of the time; arrays get the shape and type it declares."""
        fed = {n: self._fed(n, v) for n, v in features.items() if n in self.model.inputs}
        left = _left(_LIMIT.get())
        return self.model.predict(fed, deadline=0.0 if left == math.inf else left)

    def _fed(self, name: str, value: Any) -> Any:
        wanted = self.model.inputs[name]
        if not isinstance(value, np.ndarray | float | int) or self.inputs[name].kind == "image":
            return value
        array = np.asarray(value)
        if wanted.static and array.size == math.prod(wanted.sizes):
            array = array.reshape(wanted.sizes)
        return array.astype(wanted.dtype, copy=False)


class PipelineProgram(classical.ClassicalProgram):
    """Steps that run one after the other; each sees the wires that it reads."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        super().__init__((), tuple(pipeline.results))
        self._pipeline, self._name = pipeline, name

    @property
    def weight_bytes(self) -> int:
        """Bytes of all stages' numbers."""
        return sum(step.stage.model.weight_bytes for step in self._pipeline.steps)

    def run_within(
        self, seconds: float, inputs: Mapping[str, Any], state: State | None = None
    ) -> dict[str, Any]:
        """``run``; networks get what is left of the time, which is looked at before each stage."""
        token = _LIMIT.set(Limit.of(seconds, self._name))
        try:
            return self.run(inputs, state)
        finally:
            _LIMIT.reset(token)

    def _walk(self, inputs: Mapping[str, Any], spans: list[OpSpan] | None) -> dict[str, Any]:
        known, limit = dict(inputs), _LIMIT.get()
        for step in self._pipeline.steps:
            _left(limit)
            start = time.monotonic_ns()
            known |= step.run(known)
            if spans is not None:
                spans.append(_span(step, start, time.monotonic_ns() - start))
        return {n: self._given(n, known) for n in self._pipeline.results}

    def _given(self, name: str, known: Mapping[str, Any]) -> Any:
        """A result as the pipeline's description declares it."""
        wire = self._pipeline.results[name]
        try:
            return given(known[wire], self._pipeline.interface.outputs[name])
        except KeyError as error:
            raise ModelError(f"no stage gave the output {name!r}", hint=reading.MISFIT) from error
        except Misfit as error:
            raise ModelError(f"the output {name!r} {error}", hint=reading.MISFIT) from error


@dataclass(frozen=True)
class PipelineEngine(classical.ClassicalEngine):
    """Runs a pipeline; its networks have engines of their own."""

    pipeline: Pipeline | None = None

    def load(self, program: Program, device: str, options: Options) -> PipelineProgram:  # noqa: ARG002 - they are read
        """The steps, ready as they are."""
        assert self.pipeline is not None  # noqa: S101 - made with one
        return PipelineProgram(self.pipeline, program.info.name)


def _left(limit: Limit) -> float:
    """The seconds that are left, never 0: that would mean no limit.

    Raises:
        Timeout: where none are.
    """
    left = limit.left
    if not left:
        raise limit.stopped()
    return left


def _span(step: pipelines.Step, start: int, took: int) -> OpSpan:
    inner = step.stage.model
    plan = inner.plan if isinstance(inner, Model) else None
    engine, device = (plan.engine, plan.device) if plan else (classical.NAME, classical.CPU)
    return OpSpan(step.name, step.stage.kind, engine, device, start, took, 0, Provenance.MEASURED)


@stages.collecting
def model(
    package: Path,
    spec: Any,
    key: str,
    options: Options,
    *,
    opens: Opens,
    device: str,
    engine: str | Engine | None,
    cache: Cache,
) -> Model:
    """A pipeline, ready to predict.

    Args:
        package: its file.
        spec: its message.
        key: the key of its content.
        options: what engines are told.
        opens: what opens a network's file.
        device: where networks run.
        engine: their engine.
        cache: keeps the files of its ML Programs.

    Raises:
        ModelError: where it makes no sense, or a stage of it cannot be run.
        EngineUnavailable: for a pipeline without networks on another device than the CPU.
    """
    by = None if engine == classical.NAME else engine
    made = _Stages(package, key, functools.partial(opens, device, by), cache)
    found = pipelines.read(package.name, spec, made.make)
    networks = [s.stage.model for s in found.steps if isinstance(s.stage.model, Model)]
    if not networks:
        classical.check_place(package.stem, device, engine)
    info = _info(package, key, found)
    border = classical.ClassicalInterface(
        info.name, found.interface.inputs, found.interface.outputs
    )
    runner = PipelineEngine((), tuple(border.outputs), pipeline=found)
    program = Program(info, package)
    loaded = runner.load(program, device, options)
    executor = Executor(info.name, loaded, account=LEDGER.account(classical.CPU), fixed=True)

    def move(to: str, **how: Any) -> Model:
        asked = how.get("engine") or engine
        kept = dataclasses.replace(options, debug=False)
        return model(package, spec, key, kept, opens=opens, device=to, engine=asked, cache=cache)

    return Model(program, _plan(networks), executor, move, options, engine=runner, interface=border)


def _plan(networks: list[Model]) -> PlanInfo:
    if not networks:
        why = "a pipeline of classical models is evaluated by their definition"
        return PlanInfo(classical.NAME, classical.CPU, classical.TITLE, why)
    first = networks[0].plan
    title = f"{first.title}; other stages in NumPy (CPU)"
    return PlanInfo(first.engine, first.device, title, "the stages of a pipeline run in turn")


@dataclass(frozen=True)
class _Stages:
    """Makes the models of the pipeline at ``package``, whose content has that ``key``."""

    package: Path
    key: str
    opens: Opened
    cache: Cache

    def make(self, name: str, spec: Any) -> Runs:
        """A model of that name."""
        where = f"{self.package.name}: stage {name}"
        if reading.is_classical(spec.WhichOneof("Type") or "unknown"):
            return dataclasses.replace(reading.read(where, spec), name=name)
        interface = reading.interface_of(where, spec.description)
        try:
            network = self._network(spec)
        except LabError as error:
            error.add_note(f"in stage {name} of {self.package.name}")
            raise
        kind = str(spec.WhichOneof("Type"))
        return NetworkStage(name, kind, interface.inputs, interface.outputs, network)

    def _network(self, spec: Any) -> Model:
        if spec.WhichOneof("Type") != "mlProgram":
            # What it becomes is kept in the cache; the file itself is not needed again.
            with tempfile.TemporaryDirectory(prefix="coreml_lab-") as folder:
                return self.opens(mil.write_stage(spec, self.package, Path(folder)))
        # The key of the whole file stands for its weights.
        content = self.key.encode() + spec.SerializeToString(deterministic=True)
        key = f"{KEPT}-{hashlib.sha256(content).hexdigest()[:32]}"

        def fill(folder: Path) -> None:
            mil.write_stage(spec, self.package, folder)

        home = self.cache.get(key) or self.cache.put(key, fill, title=self.package.stem)
        return self.opens(home / "model.mlpackage")


def _info(package: Path, key: str, found: Pipeline) -> ProgramInfo:
    return ProgramInfo(
        name=package.stem,
        key=key,
        package=str(package.absolute()),
        precision="fp32" if any(isinstance(s.stage.model, Model) for s in found.steps) else "fp64",
        inputs=tuple(port(n, k) for n, k in found.interface.inputs.items()),
        outputs=tuple(port(n, k) for n, k in found.interface.outputs.items()),
        ops=tuple(_row(step) for step in found.steps),
        size_bytes=size_files(package),
    )


def _row(step: pipelines.Step) -> OpInfo:
    row = classical.row(step.stage)
    return OpInfo(step.name, row.op, row.shape, row.dtype, row.weight_bytes)
