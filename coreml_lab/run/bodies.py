"""One operation by its NumPy body: what an op means, computed now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_lab.errors import EngineError
from coreml_lab.program.graph import Array, Node, Value, signature

if TYPE_CHECKING:
    from coreml_lab.program.ops import Op


def declared() -> Mapping[str, Op]:
    """Every op by name."""
    from coreml_lab.program.ops import OPS  # noqa: PLC0415 - a warm cache does without them

    return OPS


def evaluate(node: Node, value: Callable[[Value], Array]) -> tuple[Array, ...]:
    """The results of an op by its NumPy body, stored in their declared types.

    Every op computes fp16 operands in fp32.

    Args:
        node: an operation without blocks.
        value: gives the array of an operand.

    Raises:
        EngineError: when the body fails; the message names the op.
    """
    if all(t.empty for t in node.types):
        return tuple(np.zeros(t.sizes, t.dtype) for t in node.types)
    arguments = {
        **{
            k: tuple(_widened(value(v)) for v in o) if isinstance(o, tuple) else _widened(value(o))
            for k, o in node.inputs.items()
        },
        **{k: _widened(v) for k, v in node.attrs.items()},
    }
    try:
        with np.errstate(all="ignore"):
            result = declared()[node.op].reference(**arguments)
            results = result if isinstance(result, tuple | list) else (result,)
            return tuple(
                np.asarray(r).astype(t.dtype, copy=False)
                for r, t in zip(results, node.types, strict=True)
            )
    except (ValueError, IndexError, TypeError, FloatingPointError) as error:
        raise EngineError(
            f"{signature(node)}{f' at {node.name}' if node.name else ''}: {error}",
            hint="check the values of its operands",
        ) from error


def _widened(value: Any) -> Any:
    return (
        value.astype(np.float32)
        if isinstance(value, np.ndarray) and value.dtype == np.float16
        else value
    )
