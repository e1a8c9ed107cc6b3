"""A recurrent layer step by step, for what MIL's recurrent operations do not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.values import sizes, unknown
from coreml_lab.program.mil.tools import is_symbolic, mb

# Gates are held inside of this before their activation.
LIMIT = 50.0
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "ReLU": lambda x: mb.relu(x=x),
    "sigmoid": lambda x: mb.sigmoid(x=x),
    "tanh": lambda x: mb.tanh(x=x),
    "scaledTanh": lambda x: mb.scaled_tanh(x=x, alpha=np.float32(1.7159), beta=np.float32(2 / 3)),
    "sigmoidHard": lambda x: mb.sigmoid_hard(x=x, alpha=np.float32(0.2), beta=np.float32(0.5)),
}
Step = Callable[..., tuple[Any, ...]]


def clipped(x: Any, limit: float = LIMIT) -> Any:
    """Numbers held inside of a limit on both sides."""
    return mb.clip(x=x, alpha=np.float32(-limit), beta=np.float32(limit))


def walk(
    rows: Any, states: Sequence[Any], step: Step, *, reverse: bool, every: bool
) -> tuple[Any, ...]:
    """Take ``step(row, *states)`` for each row of a sequence [S, B, G].

    Returns:
        the first state of every step [S, B, H] in the order they were made, or of the last one
        [1, B, H]; then each state after the last step [B, H].
    """
    begin = [unknown(s) for s in states]
    if rows.shape[0] == 1:
        ends = step(mb.squeeze(x=rows, axes=[0]), *begin)
        return (mb.expand_dims(x=ends[0], axes=[0]), *ends)
    if reverse:
        rows = mb.reverse(x=rows, axes=[0])
    made = [_room(rows, begin[0])] if every else []
    *found, _ = mb.while_loop(
        _cond=lambda *v: mb.less(x=v[-1], y=_length(rows)),
        _body=lambda *v: _round(rows, step, v, len(begin)),
        loop_vars=(*made, *begin, unknown(mb.const(val=np.int32(0)))),
    )
    ends = found[len(made) :]
    return (found[0] if every else mb.expand_dims(x=ends[0], axes=[0]), *ends)


def _length(rows: Any) -> Any:
    if not is_symbolic(rows.shape[0]):
        return np.int32(rows.shape[0])
    return mb.squeeze(x=sizes(rows)[0], axes=[0])


def _room(rows: Any, state: Any) -> Any:
    """Zeros for the states of all steps."""
    dims = [sizes(rows)[0], *sizes(state)]
    if all(isinstance(d, int) for d in dims):
        return unknown(mb.const(val=np.zeros(dims, np.float32)))
    parts = [np.array([d], np.int32) if isinstance(d, int) else d for d in dims]
    return unknown(mb.fill(shape=mb.concat(values=parts, axis=0), value=np.float32(0)))


def _round(rows: Any, step: Step, given: Sequence[Any], states: int) -> tuple[Any, ...]:
    count = given[-1]
    ends = step(mb.gather(x=rows, indices=count, axis=0), *given[-1 - states : -1])
    made = [
        mb.scatter(
            data=room,
            indices=mb.expand_dims(x=count, axes=[0]),
            updates=mb.expand_dims(x=ends[0], axes=[0]),
            axis=0,
            mode="update",
        )
        for room in given[: -1 - states]
    ]
    return (*made, *ends, mb.add(x=count, y=np.int32(1)))
