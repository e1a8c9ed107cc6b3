"""The table of changes, and the one way to carry one out."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import CompileError, LabError, UnknownParameter
from coreml_lab.program.mil.rewriting import (
    axes,
    interface,
    layout,
    precision,
    recovery,
    states,
    weights,
)
from coreml_lab.program.mil.rewriting.package import alone, opened
from coreml_lab.program.mil.tools import quiet, remarks

# Change -> what it makes of a model; keyword arguments are the change's own.
METHODS: dict[str, Callable[..., Any]] = {
    change.__name__: change
    for change in (
        weights.int8_weights,
        weights.quantize_weights,
        weights.palettize_weights,
        weights.prune_weights,
        weights.decompress_weights,
        precision.float16,
        precision.float32,
        layout.linear_to_conv,
        axes.long_axis_last,
        layout.fold_pads,
        recovery.fuse_silu,
        recovery.fuse_attention,
        layout.clean,
        interface.fixed_shapes,
        interface.enumerated_shapes,
        interface.image_input,
        states.states,
    )
}


def rewrite(
    package: Path, target: Path, *, method: str, arguments: Mapping[str, Any]
) -> tuple[str, ...]:
    """See ``mil.rewrite``."""
    _checked(method, arguments)
    with quiet(), remarks() as said:
        try:
            model = opened(package)
            alone(model)
            save(METHODS[method](model, **arguments), target)
        except LabError:
            raise
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise CompileError(
                f"{package.name}: {method} failed: {error}",
                stage=method,
                hint="keep the model as it is",
            ) from error
    return tuple(dict.fromkeys(said))


def save(model: Any, target: Path) -> None:
    """Write beside the place and move there: never half a package."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part_") as folder:
        part = Path(folder) / target.name
        model.save(str(part))
        part.rename(target)


def _checked(method: str, arguments: Mapping[str, Any]) -> None:
    if method not in METHODS:
        raise UnknownParameter(
            f"there is no change {method!r}", hint="one of " + ", ".join(METHODS)
        )
    known = list(inspect.signature(METHODS[method]).parameters)[1:]
    for name in arguments:
        if name not in known:
            raise UnknownParameter(
                f"{method} has no parameter {name!r}",
                hint="it has " + (", ".join(known) or "none"),
            )
