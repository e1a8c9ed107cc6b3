"""Weights compressed by coremltools' own optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import CompileError, UnknownParameter
from coreml_lab.program.mil.compiled import is_compiled, open_compiled
from coreml_lab.program.mil.tools import ct, quiet


def _int8_weights(model: Any, *, weight_threshold: int = 2048) -> Any:
    import coremltools.optimize.coreml as cto  # noqa: PLC0415 - a second or so, and only compression needs it

    config = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", weight_threshold=weight_threshold
    )
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))


# Method -> what it does to a model; arguments are the method's own.
METHODS: dict[str, Callable[..., Any]] = {"int8_weights": _int8_weights}


def _opened(package: Path) -> Any:
    """What coremltools' optimiser takes; it does not read compiled models itself."""
    if not is_compiled(package):
        return ct.models.MLModel(str(package), skip_model_load=True)
    spec, weights = open_compiled(package)
    return ct.models.MLModel(spec, weights_dir=str(weights), skip_model_load=True)


def compress(package: Path, target: Path, *, method: str, arguments: Mapping[str, Any]) -> None:
    """See ``mil.compress``."""
    if method not in METHODS:
        raise UnknownParameter(
            f"there is no compression {method!r}", hint="one of " + ", ".join(METHODS)
        )
    with quiet():
        try:
            METHODS[method](_opened(package), **arguments).save(str(target))
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise CompileError(
                f"{package.name}: {method} failed: {error}",
                stage=method,
                hint="keep the model as it is",
            ) from error
