"""Packages with control flow, lists and states, made with coremltools."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.program.mil.tools import TARGET, ct, mb, quiet
from tests.support.converting import convert


def build(
    folder: Path,
    function: Callable[..., Any],
    specs: Mapping[str, Any],
    *,
    half: bool = False,
    **given: Any,
) -> Path:
    """A package from a function in MIL's builder; ``specs`` maps inputs to shapes."""
    if half:
        given["compute_precision"] = ct.precision.FLOAT16
    inputs = [mb.TensorSpec(shape=s) if isinstance(s, tuple) else s for s in specs.values()]
    return save(folder, mb.program(input_specs=inputs, opset_version=TARGET)(function), **given)


def save(folder: Path, source: Any, states: Any = None, **given: Any) -> Path:
    """Convert ``source`` in full precision and write it below ``folder``."""
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        given = {"compute_precision": ct.precision.FLOAT32, **given}
        model = convert(
            source,
            convert_to="mlprogram",
            minimum_deployment_target=TARGET,
            skip_model_load=True,
            **({"states": states} if states else {}),
            **given,
        )
        model.save(str(folder / "net.mlpackage"))
    return folder / "net.mlpackage"


def state(name: str, *shape: int) -> Any:
    """What ``convert`` wants to know of a registered buffer."""
    return ct.StateType(ct.TensorType(shape=shape, dtype=np.float16), name=name)


def tensor(name: str, *shape: Any, dtype: Any = np.float32) -> Any:
    """What ``convert`` wants to know of an input."""
    return ct.TensorType(name, shape, dtype)
