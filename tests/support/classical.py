"""Classical models made by hand, and cases with what a model is defined to give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict

import coreml_lab as cl
from coreml_lab.program.mil.tools import proto

DOUBLE = 65600
# How a description's types are named here; what is a tuple is an array of doubles of that shape.
TYPES: dict[str, dict[str, Any]] = {
    "double": {"doubleType": {}},
    "int64": {"int64Type": {}},
    "string": {"stringType": {}},
    "dictionary[string]": {"dictionaryType": {"stringKeyType": {}}},
    "dictionary[int64]": {"dictionaryType": {"int64KeyType": {}}},
    "sequence[string]": {"sequenceType": {"stringType": {}}},
    "sequence[int64]": {"sequenceType": {"int64Type": {}}},
}
Types = Mapping[str, str | tuple[int, ...]]


def model(
    kind: str,
    part: dict[str, Any],
    inputs: Types,
    outputs: Types,
    *,
    optional: bool = False,
    predicted: str = "",
    probabilities: str = "",
) -> Any:
    """The message of a model: ``part`` by the names of its proto, features by name and type."""
    spec = proto.Model_pb2.Model(specificationVersion=4)
    for side, features in ((spec.description.input, inputs), (spec.description.output, outputs)):
        for name, kind_ in features.items():
            ParseDict(_type(kind_), side.add(name=name).type)
    for feature in spec.description.input if optional else ():
        feature.type.isOptional = True
    spec.description.predictedFeatureName = predicted
    spec.description.predictedProbabilitiesName = probabilities
    getattr(spec, kind).SetInParent()
    ParseDict(part, getattr(spec, kind))
    return spec


def _type(kind: str | tuple[int, ...]) -> dict[str, Any]:
    if isinstance(kind, tuple):
        return {"multiArrayType": {"shape": list(kind), "dataType": DOUBLE}}
    return TYPES[kind]


@dataclass(frozen=True)
class ModelCase:
    """A model, what goes in, and its definition.

    Attributes:
        spec: the model's message.
        examples: inputs by name.
        wanted: from the inputs, by keyword, to every output by name.
        about: what is special about it.
        close: how far off numbers may be, relative to themselves.
    """

    spec: Any
    examples: tuple[dict[str, Any], ...]
    wanted: Callable[..., dict[str, Any]]
    about: str = ""
    close: float = 1e-12

    @property
    def kind(self) -> str:
        """Its type in Model.proto."""
        return str(self.spec.WhichOneof("Type"))

    @property
    def name(self) -> str:
        """How tests call it."""
        return f"{self.kind}{'-' + self.about if self.about else ''}"


@dataclass
class ModelCases:
    """A table under construction: ``add`` is called once per case."""

    rows: list[ModelCase] = field(default_factory=list)

    def add(self, spec: Any, examples: Any, wanted: Any, about: str = "", **more: Any) -> None:
        """Add a case; a single example needs no tuple."""
        examples = (examples,) if isinstance(examples, dict) else tuple(examples)
        self.rows.append(ModelCase(spec, examples, wanted, about, **more))


def save(spec: Any, folder: Path, name: str = "model") -> Path:
    """Write a model's file."""
    file = folder / f"{name}.mlmodel"
    file.write_bytes(spec.SerializeToString())
    return file


def load(spec: Any, folder: Path) -> cl.Model:
    """A model of a message."""
    return cl.load(save(spec, folder))


def assert_same(got: Mapping[str, Any], want: Mapping[str, Any], close: float = 1e-12) -> None:
    """Compare outputs by name: texts and whole numbers exactly, other numbers nearly."""
    assert list(got) == list(want)
    for name, value in want.items():
        if isinstance(value, dict):
            assert list(got[name]) == list(value), name
            held = [np.array(list(d.values()), float) for d in (got[name], value)]
            np.testing.assert_allclose(*held, rtol=close, atol=close, err_msg=name)
        elif isinstance(value, float | np.ndarray):
            assert isinstance(got[name], float | np.ndarray), name
            assert np.shape(got[name]) == np.shape(value), name
            np.testing.assert_allclose(got[name], value, rtol=close, atol=close, err_msg=name)
        else:
            assert got[name] == value, name
            assert type(got[name]) is type(value), name
