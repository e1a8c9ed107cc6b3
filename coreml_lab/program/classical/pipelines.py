"""Pipelines: models one after the other, which hand features on by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from coreml_lab.errors import InputError, LabError, ModelError
from coreml_lab.program.classical.features import FeatureType, Misfit, given
from coreml_lab.program.classical.registry import Interface
from coreml_lab.program.classical.stages import MISFIT, interface_of

KINDS = ("pipeline", "pipelineClassifier", "pipelineRegressor")
# More stages than anybody lines up.
MOST = 1000
AGAIN = "convert the pipeline again"


class Runs(Protocol):
    """One model of a pipeline, of whatever kind."""

    @property
    def name(self) -> str:
        """What spans and listings call it."""
        ...

    @property
    def kind(self) -> str:
        """Its type in Model.proto."""
        ...

    @property
    def inputs(self) -> Mapping[str, FeatureType]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> Mapping[str, FeatureType]:
        """What it gives."""
        ...

    @property
    def model(self) -> Any:
        """What computes, with its ``weight_bytes``."""
        ...

    def run(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Its outputs."""
        ...


@dataclass(frozen=True)
class Step:
    """A model of a pipeline with the wires that it reads and writes.

    Pipelines inside of pipelines have names of their own: a wire is a feature's name, behind those
    of the pipelines around it.

    Attributes:
        reads: the model's own name of an input -> the wire.
        makes: its own name of an output -> the wire.
    """

    stage: Runs
    name: str
    reads: Mapping[str, str]
    makes: Mapping[str, str]

    def run(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What it gives, by wire.

        Raises:
            InputError: naming the stage, where it cannot take what those before it gave.
        """
        kinds = self.stage.inputs
        try:
            taken = {n: given(known[w], kinds[n]) for n, w in self.reads.items() if w in known}
            made = self.stage.run(taken)
            return {wire: made[name] for name, wire in self.makes.items() if name in made}
        except Misfit as error:
            raise InputError(f"stage {self.name}: a feature {error}", hint=MISFIT) from error
        except LabError as error:
            error.add_note(f"in stage {self.name} of a pipeline")
            raise


@dataclass(frozen=True)
class Pipeline:
    """All steps in their order, the outer interface, and the wires of its outputs."""

    interface: Interface
    steps: tuple[Step, ...]
    results: Mapping[str, str]


def is_pipeline(spec: Any) -> bool:
    """Whether a model is a pipeline."""
    return spec.WhichOneof("Type") in KINDS


def read(file: str, spec: Any, make: Callable[[str, Any], Runs]) -> Pipeline:
    """The pipeline in a model's message.

    Args:
        file: what errors call it.
        spec: the message.
        make: a model of a name and a message that is no pipeline.

    Raises:
        ModelError: where a stage reads what nothing before it makes, or makes no sense itself.
    """
    interface = interface_of(file, spec.description)
    walk = _Walk(file, make)
    results = walk.pipeline(spec, {n: n for n in interface.inputs}, "")
    return Pipeline(_relaxed(interface, walk.steps), tuple(walk.steps), results)


@dataclass(frozen=True)
class _Walk:
    """Collects the steps of a pipeline and of those inside of it."""

    file: str
    make: Callable[[str, Any], Runs]
    steps: list[Step] = field(default_factory=list)

    def pipeline(self, spec: Any, wires: dict[str, str], prefix: str) -> dict[str, str]:
        """Add the steps of one pipeline; the wires of its described outputs, by name."""
        part = getattr(spec, spec.WhichOneof("Type"))
        part = getattr(part, "pipeline", part)
        if not part.models:
            raise ModelError(f"{self.file}: a pipeline in it has no models", hint=AGAIN)
        for name, inner in zip(_names(part), part.models, strict=True):
            if is_pipeline(inner):
                inside = interface_of(self.file, inner.description).inputs
                reached = {n: wires[n] for n in inside if n in wires}
                wires |= self.pipeline(inner, reached, f"{prefix}{name}/")
            else:
                wires |= self._stage(inner, wires, f"{prefix}{name}", prefix)
        return _described(self.file, spec, wires)

    def _stage(
        self, spec: Any, wires: Mapping[str, str], name: str, prefix: str
    ) -> Mapping[str, str]:
        """Add one step; what it writes."""
        if len(self.steps) >= MOST:
            raise ModelError(f"{self.file} has more than {MOST} stages", hint=AGAIN)
        stage = self.make(name, spec)
        reads = {n: wires[n] for n in stage.inputs if n in wires}
        missing = [n for n, k in stage.inputs.items() if n not in reads and not k.optional]
        if missing:
            raise ModelError(
                f"{self.file}: stage {name} reads {missing[0]!r}, which nothing before it makes",
                hint=AGAIN,
            )
        makes = {n: f"{prefix}{n}" for n in stage.outputs}
        self.steps.append(Step(stage, name, reads, makes))
        return makes


def _names(part: Any) -> list[str]:
    """A name for each model: its own, or its kind; with a number where it is not alone."""
    told = list(part.names) if len(part.names) == len(part.models) else []
    found: list[str] = []
    for i, model in enumerate(part.models):
        name = (told[i] if told else "") or str(model.WhichOneof("Type"))
        found.append(f"{name}_{i}" if name in found else name)
    return found


def _described(file: str, spec: Any, wires: Mapping[str, str]) -> dict[str, str]:
    outputs = [f.name for f in spec.description.output]
    lost = [n for n in outputs if n not in wires]
    if lost:
        raise ModelError(f"{file}: no stage gives its output {lost[0]!r}", hint=AGAIN)
    return {n: wires[n] for n in outputs}


def _relaxed(interface: Interface, steps: list[Step]) -> Interface:
    """Inputs that only optional inputs of stages read may be left out, whatever is described."""
    needed = {
        wire
        for step in steps
        for name, wire in step.reads.items()
        if not step.stage.inputs[name].optional
    }
    read = {wire for step in steps for wire in step.reads.values()}
    inputs = {
        n: dataclasses.replace(k, optional=True) if n in read and n not in needed else k
        for n, k in interface.inputs.items()
    }
    return dataclasses.replace(interface, inputs=inputs)
