"""Modules of PyTorch as programs: recorded, converted by coremltools, and kept in the cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import UnknownParameter
from coreml_lab.program import exchange, mil
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import NUMPY_NAME, Array, Dim, TensorType
from coreml_lab.program.program import Program, port
from coreml_lab.records import ProgramInfo
from coreml_lab.run import reading, stages
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.engine import package_version

Inputs = tuple[Mapping[str, TensorType], Mapping[str, Array]]


@dataclass(frozen=True)
class How:
    """What a module is to become: a name, ``fp16`` or ``fp32``, and the oldest system it is for."""

    name: str
    precision: str
    target: str | None = None

    @staticmethod
    def of(module: Any, name: str | None, precision: str, target: str | None) -> How:
        """Named after its class by default; every precision but ``fp32`` is held as fp16."""
        half = "fp32" if precision == "fp32" else "fp16"
        return How(name or type(module).__name__, half, target)


def untargeted(target: str | None) -> None:
    """What is written here has no target: its operations are those of the newest.

    Raises:
        UnknownParameter: where one is given.
    """
    if target is not None:
        raise UnknownParameter("only modules of PyTorch have a target", hint="leave target= out")


def is_module(source: Any) -> bool:
    """Whether it is a module of PyTorch, or one that was exported; PyTorch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    export = getattr(getattr(torch, "export", None), "ExportedProgram", ())
    return isinstance(source, (torch.nn.Module, export) if export else torch.nn.Module)


def given(specs: Mapping[str, Any]) -> tuple[dict[str, TensorType], dict[str, Array]]:
    """Types of inputs that are given as types or as examples, and the examples.

    Raises:
        UnknownParameter: for what is neither.
    """
    kinds: dict[str, TensorType] = {}
    examples: dict[str, Array] = {}
    for name, value in specs.items():
        if isinstance(value, TensorType):
            kinds[name] = value
            continue
        array = np.asarray(exchange.host(value)[0])
        if array.dtype.name not in NUMPY_NAME.values():
            raise UnknownParameter(
                f"{name}={value!r} is no input: {type(value).__name__}",
                hint=f"{name}=cl.spec(1, 3, 224, 224), or an array as an example",
            )
        kinds[name], examples[name] = TensorType(array.shape, array.dtype), array
    return kinds, examples


def program(
    module: Any, inputs: Inputs, how: How, store: Cache, key_of: Callable[..., str]
) -> Program:
    """A module as a program, made now or found in the cache.

    Args:
        module: PyTorch's.
        inputs: their types, and examples.
        how: what it is to become.
        store: the cache.
        key_of: makes its keys.

    Raises:
        LabError: see ``mil.record`` and ``mil.convert``.
    """
    with stages.step("recording"):
        recorded = mil.record(module, *inputs)
        causes = recorded.digest, how.precision, how.target or "", package_version("torch")
    key = key_of("module", *causes, package_version("coremltools") or "unknown")
    known = store.use(key, lambda f: Program.open(f, f / reading.PACKAGE, how.name))
    if known is not None:
        ACTIVITY.cache_hits += 1
        return known
    ACTIVITY.cache_misses += 1
    made_of: list[Program] = []

    def fill(folder: Path) -> None:
        package = folder / reading.PACKAGE
        with stages.step("passes"):
            mil.convert(recorded, package, precision=how.precision, target=how.target)
        found = reading.read(package, None, key, how.name)
        found.info = _as_asked(found, inputs[0])
        found.save(folder)
        made_of.append(found)

    folder = store.put(key, fill, title=how.name)
    return Program.open(folder, folder / reading.PACKAGE, how.name, made_of[0].graph)


def _as_asked(found: Program, kinds: Mapping[str, TensorType]) -> ProgramInfo:
    """The interface that was asked for: Core ML's has no bool or int64, and names dimensions."""
    entries = found.graph.inputs
    asked = {
        str(own): d
        for k, kind in kinds.items()
        for own, d in zip(entries[k].type.shape, kind.shape, strict=True)
        if isinstance(d, Dim)
    }
    outputs = tuple(
        replace(
            p, shape=tuple(str(asked.get(str(d), d)) if isinstance(d, str) else d for d in p.shape)
        )
        for p in found.info.outputs
    )
    inputs = tuple(port(k, kind) for k, kind in kinds.items())
    dims = {d.name: (d.low, d.high) for d in asked.values()}
    return replace(found.info, inputs=inputs, outputs=outputs, dims=dims)
