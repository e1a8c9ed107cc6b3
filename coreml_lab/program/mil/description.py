"""Core ML's model description -> Description, and what the reader needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from coreml_lab.errors import ModelError
from coreml_lab.program.description import Bounds, Description, Feature
from coreml_lab.program.mil.tools import proto

KINDS = {"multiArrayType": "tensor", "imageType": "image", "stringType": "label"} | {
    "int64Type": "label",
    "dictionaryType": "dictionary",
}
FED = frozenset({"multiArrayType", "imageType"})
CHANNELS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1, "GRAYSCALE_FLOAT16": 1}
T = TypeVar("T")
LABEL_TYPE = {"stringType": "str", "int64Type": "int64"}


def describe(path: Path, spec: Any, function: str | None) -> Description:
    """The interface of ``function`` as the file describes it.

    Raises:
        ModelError: for an interface that no ML Program can have.
    """
    own = own_description(spec, function)
    labels, probabilities = _guarded(path.name, lambda: _classes(spec, function))
    if probabilities and not labels:
        raise ModelError(
            f"{path.name}: its classifier has no class labels",
            hint="convert it again with a ClassifierConfig",
        )
    return Description(
        {f.name: feature(path.name, f) for f in own.input},
        {f.name: feature(path.name, f, output=True) for f in own.output},
        tuple(sorted(spec.mlProgram.functions)),
        labels,
        probabilities,
    )


def require_program(file: str, spec: Any) -> None:
    """Refuse models of another kind.

    Raises:
        ModelError: naming the kind.
    """
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise ModelError(
            f"{file} is a Core ML model of kind {kind or 'unknown'}, not an ML Program: "
            "it has no operations to look at",
            hint="cl.load(path) gives what can be had of it: predict, profile, compare, energy; or "
            "convert it again with coremltools: convert_to='mlprogram'",
        )


def function_name(spec: Any, function: str | None) -> str:
    """The function that is meant: the one asked for, the file's default, main or the first."""
    named = function or spec.description.defaultFunctionName
    functions = spec.mlProgram.functions
    return named or ("main" if "main" in functions else min(functions, default="main"))


def own_description(spec: Any, function: str | None) -> Any:
    """The description of one function; files with a single one have it at the top."""
    name = function_name(spec, function)
    return next((f for f in spec.description.functions if f.name == name), spec.description)


def feature(file: str, described: Any, *, output: bool = False) -> Feature:
    """One input or output.

    Raises:
        ModelError: for a kind that does not reach an ML Program.
    """
    kind = described.type.WhichOneof("Type")
    if kind not in (KINDS if output else FED):
        side = "output" if output else "input"
        raise ModelError(
            f"{file}: {side} {described.name!r} is of type {kind or 'unknown'}, "
            "which ML Programs do not have: their functions take and give tensors",
            hint="convert the model with TensorType or ImageType inputs; dictionaries, sequences, "
            "strings and numbers enter classical models only",
        )
    return _guarded(file, lambda: _feature(kind, described.type))


def _guarded(file: str, parse: Callable[[], T]) -> T:
    """What ``parse`` finds; a damaged description is one error."""
    try:
        return parse()
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{file}: the description of its interface is damaged: {error}",
            hint="fetch or convert it again",
        ) from error


def _feature(kind: str, described: Any) -> Feature:
    if kind == "imageType":
        return _image(described.imageType)
    if kind != "multiArrayType":
        return Feature(KINDS[kind], LABEL_TYPE.get(kind, ""))
    array = described.multiArrayType
    default = array.WhichOneof("defaultOptionalValue")
    return Feature(
        "tensor",
        optional=bool(described.isOptional),
        default=getattr(array, default) if default else None,
        default_shape=tuple(int(n) for n in array.shape),
        enumerated=tuple(tuple(int(n) for n in s.shape) for s in array.enumeratedShapes.shapes),
        bounds=_array_bounds(array),
    )


def _array_bounds(array: Any) -> Bounds:
    shapes = [tuple(s.shape) for s in array.enumeratedShapes.shapes]
    if shapes:
        return tuple((int(min(n)), int(max(n))) for n in zip(*shapes, strict=True))
    return tuple(_range(r) for r in array.shapeRange.sizeRanges)


def _range(bound: Any) -> tuple[int, int]:
    return max(int(bound.lowerBound), 0), max(int(bound.upperBound), 0)


def _image(image: Any) -> Feature:
    colour = proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
    channels = CHANNELS[colour]
    sizes = [(int(s.height), int(s.width)) for s in image.enumeratedSizes.sizes]
    if sizes:
        heights, widths = zip(*sizes, strict=True)
        across = (min(heights), max(heights)), (min(widths), max(widths))
    elif image.HasField("imageSizeRange"):
        ranges = image.imageSizeRange
        across = _range(ranges.heightRange), _range(ranges.widthRange)
    else:
        across = (int(image.height),) * 2, (int(image.width),) * 2
    return Feature(
        "image",
        colour=colour,
        default_shape=(1, channels, int(image.height), int(image.width)),
        enumerated=tuple((1, channels, *size) for size in sizes),
        bounds=((1, 1), (channels, channels), *across),
    )


def _classes(spec: Any, function: str | None) -> tuple[tuple[str | int, ...], str]:
    """Labels of a classifier, and the name of the output that holds its probabilities."""
    functions = spec.mlProgram.functions
    name = function_name(spec, function)
    if name not in functions:
        return (), ""
    block = functions[name].block_specializations[functions[name].opset]
    for op in block.operations:
        if op.type == "classify":
            given = op.inputs["classes"].arguments[0]
            value = given.value if given.HasField("value") else _constant(block, given.name)
            return tuple(_labels(value)), op.outputs[1].name
    return (), ""


def _constant(block: Any, name: str) -> Any:
    made = next((op for op in block.operations if op.outputs and op.outputs[0].name == name), None)
    return None if made is None else made.attributes["val"]


def _labels(value: Any) -> Iterator[str | int]:
    for item in value.immediateValue.list.values if value is not None else ():
        held = item.immediateValue.tensor
        kind = held.WhichOneof("value")
        yield getattr(held, kind).values[0]
