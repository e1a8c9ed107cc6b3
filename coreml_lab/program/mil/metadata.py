"""A compiled model's ``metadata.json`` <-> the description of a model's interface.

Core ML's own reading of a compiled model goes by ``coremldata.bin``, whose form is not public.
``metadata.json`` tells the kinds of inputs and outputs, and the attribute
``FlexibleShapeInformation`` of a function their shapes. What an optional input is where it is left
out is in neither; folders that ``compiled`` writes keep it under a name of our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coreml_lab.program.mil.tools import proto

ARRAY = proto.FeatureTypes_pb2.ArrayFeatureType
COLOURS = {"rgb": "RGB", "bgr": "BGR", "grayscale": "GRAYSCALE"}
COLOURS |= {"grayscale16half": "GRAYSCALE_FLOAT16", "grayscalefloat16": "GRAYSCALE_FLOAT16"}
ARRAYS = {"Float16": ARRAY.FLOAT16, "Float32": ARRAY.FLOAT32, "Double": ARRAY.DOUBLE}
ARRAYS |= {"Int32": ARRAY.INT32, "Int8": ARRAY.INT8}
MIL = proto.MIL_pb2
# An interface knows fewer element types than a program.
CROSSING = {MIL.FLOAT16: ARRAY.FLOAT16, MIL.FLOAT32: ARRAY.FLOAT32, MIL.FLOAT64: ARRAY.DOUBLE}
SIMPLE = {"String": "stringType", "Int64": "int64Type", "Double": "doubleType"}
KEYS = {"String": "stringKeyType", "Int64": "int64KeyType"}
SCALARS = {MIL.STRING: "String", MIL.INT64: "Int64"}
# Our own: what an optional input is where it is left out.
DEFAULT = "defaultValue"


def fill(spec: Any, said: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, Any]) -> None:
    """Describe the functions of ``spec``'s program, and order their inputs as described.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: where the metadata are damaged.
    """
    functions, description = spec.mlProgram.functions, spec.description
    own = {f["name"]: f for f in metadata.get("functions", ())}
    description.defaultFunctionName = metadata.get("defaultFunctionName", "")
    for name in sorted(functions):
        single = len(functions) == 1
        described = description if single else description.functions.add(name=name)
        schema = own.get(name, metadata if single or not own else {})
        shapes = dict(said[name].get("FlexibleShapeInformation", ()))
        _describe(described, functions[name], schema, shapes)


def _describe(
    described: Any, function: Any, schema: Mapping[str, Any], shapes: Mapping[str, Any]
) -> None:
    given = {value.name: value for value in function.inputs}
    told = (*schema.get("inputSchema", ()), *schema.get("stateSchema", ()))
    entries = {e["name"]: e for e in told}
    ordered = dict.fromkeys(n for n in (*entries, *given) if n in given)
    values = [MIL.NamedValueType(name=n, type=given[n].type) for n in ordered]
    del function.inputs[:]
    function.inputs.extend(values)
    for value in values:
        is_state = value.type.WhichOneof("type") == "stateType"
        made = (described.state if is_state else described.input).add(name=value.name)
        of_it = _shapes_of(value.name, shapes)
        _feature(made, value.type, entries.get(value.name, {}), of_it)
    block = function.block_specializations[function.opset]
    types = {o.name: o.type for op in block.operations for o in op.outputs}
    types |= {name: value.type for name, value in given.items()}
    entries = {e["name"]: e for e in schema.get("outputSchema", ())}
    for name in dict.fromkeys(n for n in (*entries, *block.outputs) if n in block.outputs):
        _feature(described.output.add(name=name), types[name], entries.get(name, {}), _Shapes())


@dataclass(frozen=True)
class _Shapes:
    """What a function says about the shapes of one flexible input; empty where it says nothing."""

    default: Sequence[int] = ()
    ranges: Sequence[Sequence[int]] = ()
    enumerated: Sequence[Sequence[int]] = ()


def _shapes_of(name: str, said: Mapping[str, Any]) -> _Shapes:
    listed = said.get("EnumeratedShapes", {}).values()
    return _Shapes(
        said.get("DefaultShapes", {}).get(name, ()),
        said.get("RangeDims", {}).get(name, ()),
        [shapes[name] for shapes in listed if name in shapes],
    )


def _feature(made: Any, kind: Any, entry: Mapping[str, Any], shapes: _Shapes) -> None:
    """One input or output: of the kind that its entry says, or that its type suggests."""
    said = _suggested(kind) if kind.HasField("stateType") else entry.get("type") or _suggested(kind)
    made.shortDescription = entry.get("shortDescription", "")
    made.type.isOptional = entry.get("isOptional") == "1"
    if said in SIMPLE:
        getattr(made.type, SIMPLE[said]).SetInParent()
    elif said == "Dictionary":
        key = entry.get("keyType") or SCALARS[kind.dictionaryType.keyType.tensorType.dataType]
        getattr(made.type.dictionaryType, KEYS[key]).SetInParent()
    elif said == "Sequence":
        made.type.sequenceType.SetInParent()
    elif said == "State":
        inner = kind.stateType.wrappedType.tensorType
        _array(made.type.stateType.arrayType, inner, entry, shapes)
    elif said == "Image":
        _image(made.type.imageType, kind.tensorType, entry, shapes)
    elif said == "MultiArray":
        _array(made.type.multiArrayType, kind.tensorType, entry, shapes)
    else:
        raise ValueError(f"{made.name} is of the unknown type {said}")


def _suggested(kind: Any) -> str:
    if kind.WhichOneof("type") != "tensorType":
        return "Dictionary" if kind.WhichOneof("type") == "dictionaryType" else "State"
    scalar = not kind.tensorType.rank
    return SCALARS.get(kind.tensorType.dataType, "MultiArray") if scalar else "MultiArray"


def _listed(entry: Mapping[str, Any], name: str) -> Any:
    """What the metadata keep as the text of a list."""
    text = entry.get(name) or "[]"
    return json.loads(text) if isinstance(text, str) else text


def _array(array: Any, kind: Any, entry: Mapping[str, Any], shapes: _Shapes) -> None:
    fixed = [d.constant.size for d in kind.dimensions if d.WhichOneof("dimension") == "constant"]
    whole = fixed if len(fixed) == kind.rank else []
    array.dataType = ARRAYS.get(entry.get("dataType", "")) or CROSSING.get(
        kind.dataType, ARRAY.INT32
    )
    array.shape.extend(shapes.default or _listed(entry, "shape") or whole)
    listed = shapes.enumerated or _listed(entry, "enumeratedShapes")
    for shape in listed:
        array.enumeratedShapes.shapes.add(shape=shape)
    for low, high in () if listed else shapes.ranges or _listed(entry, "shapeRange"):
        array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    if DEFAULT in entry and array.dataType == ARRAY.INT32:
        array.intDefaultValue = int(float(entry[DEFAULT]))
    elif DEFAULT in entry:
        array.floatDefaultValue = float(entry[DEFAULT])


def _image(image: Any, kind: Any, entry: Mapping[str, Any], shapes: _Shapes) -> None:
    colour = COLOURS[entry["colorspace"].lower().replace(" ", "").replace("_", "")]
    image.colorSpace = image.ColorSpace.Value(colour)
    usual = shapes.default or [d.constant.size for d in kind.dimensions]
    image.height = int(entry.get("height") or usual[-2])
    image.width = int(entry.get("width") or usual[-1])
    for shape in shapes.enumerated:
        image.enumeratedSizes.sizes.add(height=shape[-2], width=shape[-1])
    if shapes.ranges and not shapes.enumerated:
        across = image.imageSizeRange
        sides = zip((across.heightRange, across.widthRange), shapes.ranges[-2:], strict=True)
        for side, (low, high) in sides:
            side.lowerBound, side.upperBound = low, high


def write(spec: Any) -> list[dict[str, Any]]:
    """What ``metadata.json`` holds of a model: only what ``fill`` or people read."""
    described, about = spec.description, spec.description.metadata
    whole: dict[str, Any] = {
        "metadataOutputVersion": "3.0",
        "modelType": {"name": "MLModelType_mlProgram"},
        "specificationVersion": spec.specificationVersion,
        "shortDescription": about.shortDescription,
        "author": about.author,
        "version": about.versionString,
        "license": about.license,
        "userDefinedMetadata": dict(sorted(about.userDefined.items())),
        **_schema(described),
    }
    if described.functions:
        whole["functions"] = [{"name": f.name, **_schema(f)} for f in described.functions]
        whole["defaultFunctionName"] = described.defaultFunctionName
    return [whole]


def _schema(described: Any) -> dict[str, Any]:
    return {
        "inputSchema": [_entry(f) for f in described.input],
        "outputSchema": [_entry(f) for f in described.output],
        "stateSchema": [_entry(f) for f in described.state],
    }


def _entry(feature: Any) -> dict[str, Any]:
    """One input, output or state, as a compiled model's metadata have it: all values are text."""
    which = feature.type.WhichOneof("Type")
    entry = {
        "name": feature.name,
        "shortDescription": feature.shortDescription,
        "isOptional": str(int(feature.type.isOptional)),
    }
    if which == "imageType":
        image = feature.type.imageType
        names = {value: name for name, value in COLOURS.items()}
        colour = names[image.ColorSpace.Name(image.colorSpace)]
        colour = colour.upper() if colour in {"rgb", "bgr"} else colour.capitalize()
        sizes = {"height": str(image.height), "width": str(image.width)}
        return entry | {"type": "Image", "colorspace": colour, **sizes}
    if which == "dictionaryType":
        key = {v: k for k, v in KEYS.items()}[feature.type.dictionaryType.WhichOneof("KeyType")]
        return entry | {"type": "Dictionary", "keyType": key}
    if which in SIMPLE.values():
        return entry | {"type": {v: k for k, v in SIMPLE.items()}[which]}
    if which == "stateType":
        return entry | {"type": "State"} | _array_entry(feature.type.stateType.arrayType)
    return entry | {"type": "MultiArray"} | _array_entry(feature.type.multiArrayType)


def _array_entry(array: Any) -> dict[str, str]:
    dtype = {v: k for k, v in ARRAYS.items()}.get(array.dataType, "Float32")
    shape, default = list(array.shape), array.WhichOneof("defaultOptionalValue")
    listed = [list(s.shape) for s in array.enumeratedShapes.shapes]
    ranges = [[r.lowerBound, r.upperBound] for r in array.shapeRange.sizeRanges]
    sizes = " × ".join(map(str, shape))
    entry = {
        "dataType": dtype,
        "shape": json.dumps(shape),
        "formattedType": f"MultiArray ({' '.join(filter(None, (dtype, sizes)))})",
        "hasShapeFlexibility": str(int(bool(listed or ranges))),
    }
    if listed:
        entry["enumeratedShapes"] = json.dumps(listed)
    if ranges:
        entry["shapeRange"] = json.dumps(ranges)
    return entry | ({DEFAULT: str(getattr(array, default))} if default else {})
