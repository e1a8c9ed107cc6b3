"""A cache that is handed in and out becomes a state that the model keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.program import StateTensorPlaceholder

from coreml_lab.errors import CompileError, UnknownParameter
from coreml_lab.program.mil.rewriting.package import passed
from coreml_lab.program.mil.tools import ct, mb, proto

# The specification that has states (iOS 18).
VERSION = 9


def states(model: Any, *, pairs: Mapping[str, str]) -> Any:
    """Keep what was handed in and out: ``pairs`` is input -> the output that is its next value.

    A state bears the name of the input and has its shape, which must be fixed and that of the
    output. Core ML's states are fp16: an fp32 cache is rounded when it is kept. They begin at zero.
    """
    spec = model.get_spec()
    ports = {port.name: port for port in spec.description.input}
    made = {port.name: port for port in spec.description.output}
    _checked(pairs, ports, made)
    for name in pairs:
        spec.description.state.append(_state(name, ports[name]))
    _keep(spec.description.input, lambda port: port.name not in pairs)
    _keep(spec.description.output, lambda port: port.name not in set(pairs.values()))
    spec.specificationVersion = max(spec.specificationVersion, VERSION)
    described = ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)
    return passed(described, [lambda block: _kept(block, pairs)], VERSION)


def _checked(pairs: Mapping[str, str], ports: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    if not pairs or len(set(pairs.values())) != len(pairs):
        raise UnknownParameter(
            "states needs pairs: each input with an output of its own",
            hint='pairs={"past_k": "present_k", "past_v": "present_v"}',
        )
    if len(pairs) == len(made):
        raise CompileError(
            "nothing would be left as an output", hint="states keep some outputs, not all"
        )
    for source, result in pairs.items():
        for name, known in ((source, ports), (result, made)):
            if name not in known:
                raise UnknownParameter(f"there is no {name!r}", hint="one of " + ", ".join(known))
        one, other = (port.type.multiArrayType for port in (ports[source], made[result]))
        if one.WhichOneof("ShapeFlexibility") is not None:
            raise CompileError(
                f"{source} has no fixed shape, which a state must have",
                node=source,
                hint="apply fixed_shapes first",
            )
        if list(other.shape) and list(one.shape) != list(other.shape):
            raise CompileError(
                f"{source} is {list(one.shape)}, {result} is {list(other.shape)}: not the same",
                node=source,
                hint="a state keeps its shape: write into a cache of full length",
            )


def _state(name: str, port: Any) -> Any:
    kind = proto.FeatureTypes_pb2.ArrayFeatureType
    array = kind(shape=port.type.multiArrayType.shape, dataType=kind.FLOAT16)
    feature = proto.Model_pb2.FeatureDescription(name=name)
    feature.type.stateType.arrayType.CopyFrom(array)
    return feature


def _keep(rows: Any, wanted: Any) -> None:
    kept = [row for row in rows if wanted(row)]
    copies = [type(row).FromString(row.SerializeToString()) for row in kept]
    del rows[:]
    rows.extend(copies)


def _kept(block: Any, pairs: Mapping[str, str]) -> None:
    outputs = {var.name: var for var in block.outputs}
    first = block.operations[0]
    for source, result in pairs.items():
        old, value = block.inputs[source], outputs[result]
        if tuple(old.shape) != tuple(value.shape) or not types.is_float(old.dtype):
            raise CompileError(
                f"{source} and {result} are no tensors of one shape and of real numbers",
                node=source,
                hint="a state is fp16 and keeps its shape",
            )
        held = StateTensorPlaceholder(old.shape, types.fp16, name=source).outputs[0]
        block._input_dict[source] = held  # noqa: SLF001 - coremltools' own converter does so
        read = mb.read_state(input=held, before_op=first, name=f"{source}_read")
        if old.dtype != types.fp16:
            read = mb.cast(x=read, dtype="fp32", before_op=first, name=f"{source}_read_fp32")
        block.replace_uses_of_var_after_op(anchor_op=None, old_var=old, new_var=read)
        if value.dtype != types.fp16:
            value = mb.cast(x=value, dtype="fp16", name=f"{result}_fp16")
        mb.coreml_update_state(state=held, value=value, name=f"{source}_update")
    given = set(pairs.values())
    block.set_outputs([var for var in block.outputs if var.name not in given])
