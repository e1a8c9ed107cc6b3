"""A classic network's file -> a package with an ML Program, of the same interface."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import LabError, ModelError
from coreml_lab.program.mil import budget
from coreml_lab.program.mil.neural_network import (  # noqa: F401 - they declare layers
    activations,
    arithmetic,
    constants,
    control,
    convolutions,
    gathering,
    joining,
    linear,
    normalizations,
    pooling,
    recurrent,
    resizing,
    selection,
    shapes,
    slicing,
    unary,
)
from coreml_lab.program.mil.neural_network.interface import (
    INTEGRAL,
    Entry,
    entries,
    labels,
    result,
)
from coreml_lab.program.mil.neural_network.network import Network, Values, read
from coreml_lab.program.mil.neural_network.registry import LayerError
from coreml_lab.program.mil.neural_network.values import as_float
from coreml_lab.program.mil.tools import (
    Function,
    Program,
    ct,
    is_symbolic,
    mb,
    proto,
    quiet,
)

CLASSIFIER = "neuralNetworkClassifier"
IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
KINDS = ("neuralNetwork", CLASSIFIER, "neuralNetworkRegressor")
# Its operations are what layers were made of; newer ones of the same names changed.
TARGET = ct.target.iOS16
MOST = 2**31 - 1
MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")
ARRAY = proto.FeatureTypes_pb2.ArrayFeatureType


def is_classic(spec: Any) -> bool:
    """Whether a model is a classic network."""
    return spec.WhichOneof("Type") in KINDS


def translate(file: str, spec: Any, package: Path) -> None:
    """Write the model of a classic network as a package that holds an ML Program.

    Raises:
        ModelError: naming the layer or input that cannot be, and why.
    """
    with quiet(), budget.bounded(), np.errstate(all="ignore"):
        written = Translation(file, spec)
        program = Program()
        program.add_function("main", written.function())
        try:
            model = ct.convert(
                program,
                convert_to="mlprogram",
                inputs=written.flexible(),
                classifier_config=written.config(),
                minimum_deployment_target=TARGET,
                compute_precision=ct.precision.FLOAT32,
                skip_model_load=True,
            )
            model.save(str(package))
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise ModelError(
                f"{file}: coremltools refused the network as an ML Program: {error}",
                hint="convert the model again",
            ) from error
        written.describe(package / MODEL)


class Translation:
    """One network on its way to an ML Program."""

    def __init__(self, file: str, spec: Any) -> None:
        self.file, self.spec = file, spec
        self.network = getattr(spec, spec.WhichOneof("Type"))
        self.classes = labels(self.network) if spec.WhichOneof("Type") == CLASSIFIER else []
        self.entries: list[Entry] = entries(file, spec, self.network)
        self.label = spec.description.predictedFeatureName or "classLabel"
        self.chances = spec.description.predictedProbabilitiesName or f"{self.label}_probs"
        self.safe = identifiers([e.name for e in self.entries] + [*self.results, self.label])
        self.shapes: dict[str, tuple[Any, ...]] = {}

    @property
    def results(self) -> dict[str, Any]:
        """The described outputs that are values of the network, by name."""
        apart = {self.label, self.chances} if self.classes else set()
        return {d.name: d for d in self.spec.description.output if d.name not in apart}

    def function(self) -> Any:
        """The network as a function of MIL.

        Raises:
            ModelError: naming what cannot be.
        """
        net = Network(self.file)
        specs = {self.safe[e.name]: e.placeholder for e in self.entries}
        with Function(specs, opset_version=TARGET) as block:
            try:
                values = self._values(block)
                net.known(values.values())
                net.run(self.network.layers, values, frozenset(self._wanted()))
                block.set_outputs(self._outputs(values))
            except LabError:
                raise
            except Exception as error:  # coremltools raises bare Exceptions of every kind
                raise ModelError(f"{self.file}: {error}", hint="convert the model again") from error
        return block

    def _wanted(self) -> list[str]:
        return [*self.results, *([self._probabilities] if self.classes else [])]

    @property
    def _probabilities(self) -> str:
        """The value that holds a classifier's probabilities: the named one, or the last."""
        last = self.network.layers[-1].output[0] if self.network.layers else ""
        return str(self.network.labelProbabilityLayerName or last)

    def _values(self, block: Any) -> Values:
        return {
            e.name: e.blob(block.inputs[self.safe[e.name]], self.network.preprocessing)
            for e in self.entries
        }

    def _outputs(self, values: Values) -> list[Any]:
        old = self.network.arrayInputShapeMapping == 0
        found: list[Any] = []
        for name, described in self.results.items():
            if any(name == e.name for e in self.entries):
                raise LayerError(f"its output {name!r} is one of its inputs")
            var = result(read(values, name), described, old=old)
            self.shapes[name] = tuple(var.shape)
            # A value that is an input, a constant or two outputs is copied to bear the name.
            own = var.op is None or var.op.op_type == "const" or any(var is v for v in found)
            if own or var.name != self.safe[name]:
                var = mb.identity(x=var, name=self.safe[name])
            found.append(var)
        return [*found, self._classified(values)] if self.classes else found

    def _classified(self, values: Values) -> Any:
        """The probabilities of a classifier, which become its label and dictionary."""
        chances = as_float(read(values, self._probabilities).whole)
        count = math.prod(int(d) for d in chances.shape)
        if count != len(self.classes):
            raise LayerError(f"it has {len(self.classes)} classes and {count} probabilities")
        return mb.reshape(x=chances, shape=[count], name=self._vector)

    @property
    def _vector(self) -> str:
        return f"{self.safe[self.label]}_vector"

    def config(self) -> Any:
        """What coremltools is told of a classifier."""
        if not self.classes:
            return None
        return ct.ClassifierConfig(self.classes, self.safe[self.label], self._vector)

    def flexible(self) -> list[Any] | None:
        """Bounds of flexible inputs, where there are any."""
        if not any(is_symbolic(d) for e in self.entries for d in e.shape):
            return None
        return [
            ct.TensorType(
                name=self.safe[e.name],
                shape=[_range(d, i, e) for i, d in enumerate(e.shape)],
                dtype=np.int32 if e.whole else np.float32,
            )
            for e in self.entries
        ]

    def describe(self, file: Path) -> None:
        """Give the written model the names and the interface of the network."""
        made = proto.Model_pb2.Model()
        made.ParseFromString(file.read_bytes())
        rename(made.mlProgram.functions["main"], {v: k for k, v in self.safe.items()} | self._own)
        made.description.CopyFrom(self.spec.description)
        made.description.ClearField("trainingInput")
        for entry, described in zip(self.entries, made.description.input, strict=True):
            _describe_input(entry, described)
        for described in made.description.output:
            _describe_output(described, self.shapes.get(described.name, ()))
        if self.classes:
            self._describe_classes(made.description)
        file.write_bytes(made.SerializeToString())

    @property
    def _own(self) -> dict[str, str]:
        return {f"{self.safe[self.label]}_probs": self.chances}

    def _describe_classes(self, description: Any) -> None:
        """Label and dictionary, which a file may leave out."""
        description.predictedFeatureName = self.label
        description.predictedProbabilitiesName = self.chances
        names = {d.name for d in description.output}
        whole = not isinstance(self.classes[0], str)
        for name in (self.label, self.chances):
            if name in names:
                continue
            added = description.output.add(name=name).type
            if name == self.label:
                added.int64Type.SetInParent() if whole else added.stringType.SetInParent()
            elif whole:
                added.dictionaryType.int64KeyType.SetInParent()
            else:
                added.dictionaryType.stringKeyType.SetInParent()


def identifiers(names: list[str]) -> dict[str, str]:
    """For each name one that MIL can have, the same where it can."""
    found: dict[str, str] = {}
    for name in names:
        plain = (
            name if IDENTIFIER.fullmatch(name) else "v_" + re.sub(r"\W", "_", name, flags=re.ASCII)
        )
        while plain in found.values():
            plain += "_"
        found.setdefault(name, plain)
    return found


def rename(function: Any, names: dict[str, str]) -> None:
    """Give inputs and outputs of a function the names of the file's interface."""
    new = {old: name for old, name in names.items() if old != name}
    if not new:
        return
    block = function.block_specializations[function.opset]
    for each in function.inputs:
        each.name = new.get(each.name, each.name)
    block.outputs[:] = [new.get(name, name) for name in block.outputs]
    _rename(block, new)


def _rename(block: Any, new: dict[str, str]) -> None:
    for operation in block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.HasField("name") and binding.name in new:
                    binding.name = new[binding.name]
        for each in operation.outputs:
            each.name = new.get(each.name, each.name)
        for inner in operation.blocks:
            inner.outputs[:] = [new.get(name, name) for name in inner.outputs]
            _rename(inner, new)


def _range(size: Any, axis: int, entry: Entry) -> Any:
    if not is_symbolic(size):
        return size
    low, high = (1, 0) if entry.sequence and not axis else entry.feature.bounds[axis]
    low = max(low, 1)
    usual = entry.feature.default_shape[axis : axis + 1] or (low,)
    default = low if entry.sequence else max(low, *usual)
    # ML Programs have an upper bound; the interface that is described keeps what the file says.
    return ct.RangeDim(low, high if high > 0 else MOST, default=default)


def _describe_input(entry: Entry, described: Any) -> None:
    if entry.feature.kind != "tensor":
        return
    array = described.type.multiArrayType
    array.dataType = ARRAY.INT32 if entry.whole else ARRAY.FLOAT32
    if described.type.isOptional and not array.WhichOneof("defaultOptionalValue"):
        array.floatDefaultValue = 0.0
    if entry.sequence:
        # The usual shape stays as it was told; a sequence may be given with all axes.
        array.ClearField("ShapeFlexibility")
        for i, size in enumerate(entry.shape):
            bounds = (1, -1) if not i else (size, size)
            array.shapeRange.sizeRanges.add(lowerBound=bounds[0], upperBound=bounds[1])


def _describe_output(described: Any, shape: tuple[Any, ...]) -> None:
    kind = described.type.WhichOneof("Type")
    if kind not in {"multiArrayType", "doubleType", "int64Type"} or not shape:
        return
    array = described.type.multiArrayType
    whole = kind == "int64Type" or array.dataType in INTEGRAL
    array.dataType = ARRAY.INT32 if whole else ARRAY.FLOAT32
    array.ClearField("ShapeFlexibility")
    del array.shape[:]
    if not any(is_symbolic(d) for d in shape):
        array.shape.extend(int(d) for d in shape)
