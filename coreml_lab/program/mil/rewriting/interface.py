"""What a model takes: fixed or enumerated shapes instead of ranges, pictures instead of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

from coreml_lab.errors import CompileError, UnknownParameter
from coreml_lab.program.mil.rewriting.package import passed
from coreml_lab.program.mil.tools import ct, mb, proto

COLOURS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1}


def fixed_shapes(model: Any, *, shapes: Mapping[str, Sequence[int]]) -> Any:
    """Give flexible inputs one shape each: Core ML then plans memory and devices beforehand."""
    spec = model.get_spec()
    known = {port.name: port for port in spec.description.input}
    _known(shapes, known)
    # The pass of coremltools' materialize_dynamic_shape_mlmodel; that one would compute in fp16.
    fix = PASS_REGISTRY["common::materialize_symbolic_shape_program"]
    fix.function_name_to_materialization_map = {
        "main": {name: tuple(int(n) for n in shape) for name, shape in shapes.items()}
    }
    fix.source_function_name = "main"
    for name, shape in shapes.items():
        array = known[name].type.multiArrayType
        _allowed(name, array, [shape])
        array.ClearField("shapeRange")
        array.ClearField("enumeratedShapes")
        del array.shape[:]
        array.shape.extend(int(n) for n in shape)
    described = ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)
    return passed(described, [fix])


def enumerated_shapes(model: Any, *, shapes: Mapping[str, Sequence[Sequence[int]]]) -> Any:
    """Let flexible inputs take a few given shapes only, the first of them by default."""
    spec = model.get_spec()
    known = {port.name: port for port in spec.description.input}
    _known(shapes, known)
    for name, choices in shapes.items():
        array = known[name].type.multiArrayType
        if array.WhichOneof("ShapeFlexibility") is None:
            raise CompileError(
                f"input {name} has one shape: there is nothing to choose from",
                hint="only inputs with flexible sizes can be enumerated",
            )
        _allowed(name, array, choices)
        array.ClearField("shapeRange")
        array.ClearField("enumeratedShapes")
        for choice in choices:
            array.enumeratedShapes.shapes.add().shape.extend(int(n) for n in choice)
        del array.shape[:]
        array.shape.extend(int(n) for n in choices[0])
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def image_input(
    model: Any,
    *,
    name: str,
    colour: str = "RGB",
    scale: float | Sequence[float] = 1.0,
    bias: float | Sequence[float] = 0.0,
) -> Any:
    """Take a picture of bytes where the model took a tensor: ``x = picture * scale + bias``.

    Bytes are 0 to 255; ``scale`` and ``bias`` are numbers, or one for each channel.
    """
    spec = model.get_spec()
    known = {port.name: port for port in spec.description.input}
    _known({name: ()}, known)
    array = known[name].type.multiArrayType
    shape = [int(n) for n in array.shape]
    wanted = COLOURS.get(colour)
    if wanted is None:
        raise UnknownParameter(f"colour={colour!r}", hint="one of " + ", ".join(COLOURS))
    if shape[:1] != [1] or shape[1:2] != [wanted] or len(shape) != 4:  # noqa: PLR2004 - N, C, H, W
        raise CompileError(
            f"input {name} is {shape}: no picture in {colour}",
            hint=f"a picture is (1, {wanted}, height, width)",
        )
    made = passed(model, [lambda block: _scaled(block, name, scale, bias)])
    spec = made.get_spec()
    port = next(p for p in spec.description.input if p.name == name)
    port.type.imageType.width, port.type.imageType.height = shape[3], shape[2]
    kinds = proto.FeatureTypes_pb2.ImageFeatureType
    port.type.imageType.colorSpace = kinds.ColorSpace.Value(colour)
    return ct.models.MLModel(spec, weights_dir=made.weights_dir, skip_model_load=True)


def _scaled(block: Any, name: str, scale: Any, bias: Any) -> None:
    import numpy as np  # noqa: PLC0415

    var = block.inputs[name]
    first = next(iter(block.operations))
    kind = np.float16 if "fp16" in str(var.dtype) else np.float32

    def per_channel(values: Any) -> Any:
        return np.asarray(values, kind).reshape(1, -1, 1, 1)

    y = mb.add(
        x=mb.mul(x=var, y=per_channel(scale), before_op=first), y=per_channel(bias), before_op=first
    )
    block.replace_uses_of_var_after_op(anchor_op=y.op, old_var=var, new_var=y, force_replace=True)


def _known(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise UnknownParameter(f"there is no input {name!r}", hint="one of " + ", ".join(known))
        if known[name].type.WhichOneof("Type") != "multiArrayType":
            raise CompileError(f"input {name} is no tensor", hint="only tensors can be changed so")


def _allowed(name: str, array: Any, choices: Sequence[Sequence[int]]) -> None:
    ranges = [(r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges]
    listed = [list(shape.shape) for shape in array.enumeratedShapes.shapes]
    for choice in choices:
        if (listed and list(choice) not in listed) or (ranges and not _inside(choice, ranges)):
            raise CompileError(
                f"input {name} does not take {list(choice)}",
                hint=f"one of {listed}" if listed else f"sizes lie in {ranges}",
            )


def _inside(choice: Sequence[int], ranges: Sequence[tuple[int, int]]) -> bool:
    return len(choice) == len(ranges) and all(
        low <= n and (high < 0 or n <= high) for n, (low, high) in zip(choice, ranges, strict=True)
    )
