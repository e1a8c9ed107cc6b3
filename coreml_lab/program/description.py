"""Description: what a model file says about its interface, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from coreml_lab.errors import ModelError
from coreml_lab.records import PortInfo, ProgramInfo

IMAGE_RANK = 4
Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Feature:
    """One described input or output; ``bounds`` holds (low, high) per dimension, high 0 is open."""

    kind: str
    dtype: str = ""
    colour: str = ""
    optional: bool = False
    default: float | int | None = None
    default_shape: tuple[int, ...] = ()
    enumerated: tuple[tuple[int, ...], ...] = ()
    bounds: Bounds = ()


@dataclass(frozen=True)
class Description:
    """The interface of one function, and the names of all functions of the file."""

    inputs: Mapping[str, Feature] = field(default_factory=dict)
    outputs: Mapping[str, Feature] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    labels: tuple[str | int, ...] = ()
    # The output that is a dictionary of probabilities; the label is its most probable key.
    probabilities: str = ""


def apply(info: ProgramInfo, described: Description) -> ProgramInfo:
    """The program's own interface, with what only the file's description knows.

    Raises:
        ModelError: where the two contradict each other.
    """
    ports = {p.name: p for p in info.outputs}
    _check(info, described)
    # A function's own outputs keep their order; a label exists in the description only.
    names = [*described.outputs, *(n for n in ports if n not in described.outputs)]
    return replace(
        info,
        inputs=tuple(_input(p, described.inputs.get(p.name)) for p in info.inputs),
        outputs=tuple(p for n in names if (p := _output(n, ports.get(n), described)) is not None),
        functions=described.functions,
        labels=described.labels,
    )


def _check(info: ProgramInfo, described: Description) -> None:
    features = {**described.inputs, **described.outputs}
    for port in (*info.inputs, *info.outputs):
        feature = features.get(port.name)
        if feature is not None and feature.kind == "image" and len(port.shape) != IMAGE_RANK:
            raise ModelError(
                f"{info.name}: {port.name!r} is described as an image, "
                f"but its tensor has shape {port.shape}",
                hint="convert the model again",
            )


def _input(port: PortInfo, feature: Feature | None) -> PortInfo:
    if feature is None:
        return port
    return replace(
        port,
        kind=feature.kind,
        colour=feature.colour,
        optional=feature.optional,
        default=feature.default,
        default_shape=feature.default_shape,
        enumerated=feature.enumerated,
    )


def _output(name: str, port: PortInfo | None, described: Description) -> PortInfo | None:
    feature = described.outputs.get(name)
    if feature is None or (port is None and feature.kind != "label"):
        return port
    if feature.kind == "label":
        return PortInfo(name, (), feature.dtype, "label", source=described.probabilities)
    source = name if feature.kind == "dictionary" else ""
    return (
        None
        if port is None
        else replace(port, kind=feature.kind, colour=feature.colour, source=source)
    )
