"""What reading a program may compute: coremltools evaluates operations on constants as it goes.

A file of a few bytes can ask for any number of elements that way, or for tensors of hundreds of
axes.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from coreml_lab.program.mil.tools import LOCK, Operation, is_symbolic, nptype_from_builtin, types

# Bytes that operations on constants may make while one program is read.
MOST = 256 << 20
# Core ML's own tensors have five axes at most; MIL's rules become slow with very many.
MOST_AXES = 16


@contextlib.contextmanager
def bounded(most: int = MOST) -> Iterator[None]:
    """Let coremltools compute no more than ``most`` bytes meanwhile, in this thread.

    What is inside raises ValueError, naming the operation, where more is asked for.
    """
    here, left, original = threading.get_ident(), most, Operation._auto_val  # noqa: SLF001
    inferred = Operation.type_value_inference

    def inferring(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == here:
            _few_axes(operation)
        return inferred(operation, *args, **kwargs)

    def checked(operation: Any, output_types: Any) -> Any:
        nonlocal left
        if threading.get_ident() != here:
            return original(operation, output_types)
        for kind in output_types:
            axes = len(kind.get_shape()) if types.is_tensor(kind) else 0
            if axes > MOST_AXES:
                raise ValueError(f"{operation.name} ({operation.op_type}) has {axes} axes")
        if operation.op_type != "const" and all(map(_known, operation.inputs.values())):
            left -= sum(map(_bytes, output_types))
            if left < 0:
                raise ValueError(
                    f"{operation.name} ({operation.op_type}) makes more than {most} bytes "
                    "out of constants alone"
                )
        return original(operation, output_types)

    with LOCK:
        Operation._auto_val = checked  # noqa: SLF001 - it has no other place to ask
        Operation.type_value_inference = inferring
        try:
            yield
        finally:
            Operation._auto_val = original  # noqa: SLF001
            Operation.type_value_inference = inferred


def _few_axes(operation: Any) -> None:
    """Refuse a result of as many axes as a list of sizes is long: each would get a symbol."""
    asked = operation.inputs.get("shape")
    sizes = getattr(asked, "shape", None) or (0,)
    if not is_symbolic(sizes[0]) and sizes[0] > MOST_AXES:
        raise ValueError(f"{operation.name} ({operation.op_type}) has {sizes[0]} axes")


def _known(operand: Any) -> bool:
    """Whether what an operation reads has a value already."""
    if isinstance(operand, tuple | list):
        return all(map(_known, operand))
    return operand is None or getattr(operand, "sym_val", operand) is not None


def _bytes(kind: Any) -> int:
    """The bytes of a tensor of that type; of unknown sizes, none."""
    if not types.is_tensor(kind) or any(is_symbolic(n) for n in kind.get_shape()):
        return 0
    try:
        width = np.dtype(nptype_from_builtin(kind.get_primitive())).itemsize
    except TypeError:  # strings and the like, which nothing makes many of
        width = 1
    return int(math.prod(int(n) for n in kind.get_shape()) * width)
