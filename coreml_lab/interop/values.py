"""What crosses the seam: values as coremltools' binding takes and gives them, and its errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import InputError, LabError
from coreml_lab.program.graph import TensorType
from coreml_lab.run.model import Model

# The element types that the binding makes a multi-array of.
ARRAYS = frozenset({"int32", "float32", "float64"})
NOT_CONVERTIBLE = "value type not convertible"
FAILED = (
    "Unable to compute the prediction using ML Program. "
    "It can be an invalid input data or broken/unsupported model."
)


def described(text: str) -> str:
    """The text of an error as Core ML's binding gives it."""
    return f'{{\n    NSLocalizedDescription = "{text}";\n}}'


@contextlib.contextmanager
def native_errors(begin: str = "") -> Iterator[None]:
    """Errors of ours, and of the file system, become the RuntimeError that the binding raises."""
    try:
        yield
    except LabError as error:
        raise RuntimeError(described(f"{begin}{error.message}")) from error
    except OSError as error:
        raise RuntimeError(described(f"{begin}{error}")) from error


def feeds(model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs for ``model``; names it does not have are passed over, as Core ML does."""
    sequences = {port.name for port in model.info.inputs if port.kind == "sequence"}
    converted = {
        name: value if name in sequences and isinstance(value, list) else _checked(value)
        for name, value in given.items()
    }
    fed = {}
    for name, kind in model.inputs.items():
        if name in converted:
            fed[name] = _fed(name, converted[name], kind)
    return fed


def predict(model: Model, fed: Mapping[str, Any], state: Any) -> dict[str, Any]:
    """One inference.

    Raises:
        RuntimeError: for an input that does not fit, or a prediction that fails.
    """
    try:
        return model.predict(fed, state)
    except InputError as error:
        raise RuntimeError(described(error.message)) from error
    except LabError as error:
        raise RuntimeError(described(f"{FAILED} ({error.message})")) from error


def given_back(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs as the binding gives them: half floats come as float32."""
    return {name: widened(value) for name, value in outputs.items()}


def widened(value: Any) -> Any:
    """A half-float array as float32; everything else as it is."""
    half = isinstance(value, np.ndarray) and value.dtype == np.float16
    return value.astype(np.float32) if half else value


def _checked(value: Any) -> Any:
    """A value that the binding can convert; NumPy's scalars are numbers to it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.name not in ARRAYS or not value.flags.writeable:
            raise RuntimeError(NOT_CONVERTIBLE)
        return value
    if isinstance(value, bool | int | float | str | dict) or hasattr(value, "getbands"):
        return value
    raise RuntimeError(NOT_CONVERTIBLE)


def _fed(name: str, value: Any, kind: TensorType) -> Any:
    """An array of the element type the model declares: Core ML converts between numbers."""
    if not isinstance(value, np.ndarray):
        return value
    fits = value.ndim == kind.rank and all(
        not isinstance(d, int) or d == n for d, n in zip(kind.shape, value.shape, strict=True)
    )
    if not fits:
        raise RuntimeError(
            described(
                f"For input feature '{name}', the provided shape {_times(value.shape)} "
                "is not compatible with the model's feature description."
            )
        )
    return value.astype(kind.dtype, copy=False)


def _times(shape: tuple[int, ...]) -> str:
    return f"({' × '.join(map(str, shape))})"
