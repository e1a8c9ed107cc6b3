"""Classic networks made by hand, layer by layer, and cases with what a layer is defined to do."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict

import coreml_lab as cl
from coreml_lab.program.mil.tools import proto

FLOAT32, INT32 = 65568, 131104
RANK5, EXACT = 0, 1


@dataclass(frozen=True)
class Case:
    """A layer of some kind with its parameters, what goes in, and the definition in NumPy.

    Attributes:
        kind: the layer type.
        given: its parameters, by the names of NeuralNetwork.proto.
        arrays: its inputs.
        wanted: from the inputs to the outputs.
        about: what is special about it.
        old: whether its inputs are [C] or [C, H, W] of an old network, seen with five axes.
        close: how far off it may be, relative to its largest number.
    """

    kind: str
    given: dict[str, Any]
    arrays: tuple[Any, ...]
    wanted: Callable[..., Any]
    about: str = ""
    old: bool = False
    close: float = 1e-5

    @property
    def name(self) -> str:
        """How tests call it."""
        return f"{self.kind}{'-' + self.about if self.about else ''}{'-rank5' * self.old}"


@dataclass
class Cases:
    """A table under construction: ``add`` is called once per case."""

    rows: list[Case] = field(default_factory=list)

    def add(self, kind: str, given: dict[str, Any], arrays: Any, wanted: Any, **more: Any) -> None:
        """Add a case; a single array needs no tuple."""
        arrays = arrays if isinstance(arrays, tuple) else (arrays,)
        self.rows.append(Case(kind, given, arrays, wanted, **more))


def normal(*shape: int, seed: int = 0) -> Any:
    """Standard normals in fp32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> Any:
    """Numbers from 0.5 to 2.5 in fp32."""
    return (np.random.default_rng(seed).random(shape) * 2 + 0.5).astype(np.float32)


def integers(high: int, *shape: int, seed: int = 0) -> Any:
    """Whole numbers below ``high``, as a classic network has them: in fp32."""
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.float32)


def few(*values: float) -> Any:
    """Few numbers in fp32: how a classic network has indices and shapes."""
    return np.array(values, np.float32)


def border(*sides: tuple[int, int]) -> dict[str, Any]:
    """BorderAmounts."""
    return {"borderAmounts": [{"startEdgeSize": a, "endEdgeSize": b} for a, b in sides]}


def weights(array: Any) -> dict[str, Any]:
    """WeightParams of floats."""
    return {"floatValue": np.asarray(array, np.float32).ravel().tolist()}


def array_type(described: Any, shape: Sequence[int], *, dtype: int = FLOAT32) -> None:
    """Describe a feature as an array."""
    described.type.multiArrayType.shape.extend(shape)
    described.type.multiArrayType.dataType = dtype


def add_layer(
    network: Any, kind: str, given: dict[str, Any], reads: Sequence[str], makes: Sequence[str]
) -> Any:
    """Add a layer; ``given`` are its parameters by name."""
    layer = network.layers.add(name=makes[0] if makes else kind)
    layer.input.extend(reads)
    layer.output.extend(makes)
    ParseDict(given, getattr(layer, kind))
    getattr(layer, kind).SetInParent()
    return layer


def network_of(spec: Any, *, mapping: int = EXACT, version: int = 5) -> Any:
    """A spec's empty network."""
    spec.specificationVersion = version if mapping == EXACT else 1
    spec.neuralNetwork.SetInParent()
    spec.neuralNetwork.arrayInputShapeMapping = mapping
    return spec.neuralNetwork


def single(
    layers: Sequence[tuple[str, dict[str, Any], Sequence[str], Sequence[str]]],
    inputs: dict[str, Sequence[int]],
    outputs: Sequence[str],
    *,
    mapping: int = EXACT,
) -> Any:
    """A spec of some layers: kind, parameters, names of inputs, names of outputs."""
    spec = proto.Model_pb2.Model()
    network = network_of(spec, mapping=mapping)
    for name, shape in inputs.items():
        array_type(spec.description.input.add(name=name), shape)
    for name in outputs:
        array_type(spec.description.output.add(name=name), ())
    for layer in layers:
        add_layer(network, *layer)
    return spec


def save(spec: Any, folder: Path, name: str = "net.mlmodel") -> Path:
    """Write a spec as a file."""
    (folder / name).write_bytes(spec.SerializeToString())
    return folder / name


def results(case: Case) -> tuple[Any, ...]:
    """What the definition gives, as a tuple of arrays."""
    arrays = [five(a) for a in case.arrays] if case.old else case.arrays
    made = case.wanted(*arrays)
    return tuple(np.asarray(m) for m in (made if isinstance(made, tuple) else (made,)))


def five(array: Any) -> Any:
    """[C] or [C, H, W] as an old network sees it."""
    return array.reshape(1, 1, -1, 1, 1) if array.ndim == 1 else array[None, None]


def spec_of(cases: Sequence[Case], *, old: bool) -> Any:
    """One network with a layer per case; cases do not read one another."""
    inputs, layers, outputs = {}, [], []
    for i, case in enumerate(cases):
        names = [f"c{i}_in{k}" for k in range(len(case.arrays))]
        inputs |= dict(zip(names, (a.shape for a in case.arrays), strict=True))
        made = [f"c{i}_out{k}" for k in range(len(results(case)))]
        layers.append((case.kind, case.given, names, made))
        outputs += made
    return single(layers, inputs, outputs, mapping=RANK5 if old else EXACT)


@functools.cache
def computed(cases: tuple[int, ...], table: Callable[[], Sequence[Case]], engine: str) -> Any:
    """What a network of these cases of a table gives, by name; the error where it has none."""
    rows = [table()[i] for i in cases]
    feeds = {f"c{i}_in{k}": a for i, c in enumerate(rows) for k, a in enumerate(c.arrays)}
    with tempfile.TemporaryDirectory() as folder:
        file = save(spec_of(rows, old=rows[0].old), Path(folder))
        return cl.load(file, engine=engine).predict(feeds)
