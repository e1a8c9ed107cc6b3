"""Recurrent layers: a state that is carried along a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import normal

CLIPPED = "MIL clips the cell gate, ONNX Runtime and PyTorch have no such clipping"
# The slopes and scales are those of Core ML's neural network format.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}
ONNX_NAMES = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "linear": "Affine",
    "hard_sigmoid": "HardSigmoid",
}
# MIL's gates are input, forget, output, cell; ONNX wants input, output, forget, cell.
GATES, PEEPHOLES = (0, 2, 1, 3), (0, 2, 1)


def _reordered(weight: Any, order: tuple[int, ...]) -> Array:
    parts = np.split(np.asarray(weight), len(order))
    return np.concatenate([parts[i] for i in order])


def _activation(name: Any) -> str:
    if str(name) not in ONNX_NAMES:
        raise UnsupportedOp(
            f"lstm: the activation {name!r} is not run", hint=f"one of {', '.join(ONNX_NAMES)}"
        )
    return str(name)


def _sets(given: dict[str, Any]) -> list[dict[str, Any]]:
    """The weights of each direction."""
    names = ("weight_ih", "weight_hh", "bias", "peephole")
    ends = ("", "_back") if given["direction"] == "bidirectional" else ("",)
    return [{n: given[n + end] for n in names} for end in ends]


def _lstm_onnx(o: Any, x: Any, initial_h: Any, initial_c: Any, **given: Any) -> Any:
    if given["clip"] is not None:
        raise UnsupportedOp(
            f"lstm: {CLIPPED}", hint="model.to('cpu') runs it on the reference engine"
        )
    sets, size = _sets(given), np.shape(given["weight_hh"])[1]
    count = len(sets)
    zeros = np.zeros(4 * size, np.float32)
    biases = [zeros if s["bias"] is None else _reordered(s["bias"], GATES) for s in sets]
    peepholes = None
    if any(s["peephole"] is not None for s in sets):
        none = np.zeros(3 * size, np.float32)
        rows = [none if s["peephole"] is None else s["peephole"] for s in sets]
        peepholes = o.const(np.stack([_reordered(r, PEEPHOLES) for r in rows]))
    kinds = ("recurrent_activation", "cell_activation", "activation")

    def state(value: Any) -> Any:
        return o.Transpose(o.Reshape(value, o.ints([0, count, size])), perm=[1, 0, 2])

    sequence, hidden, cell = o.LSTM(
        x,
        o.const(np.stack([_reordered(s["weight_ih"], GATES) for s in sets])),
        o.const(np.stack([_reordered(s["weight_hh"], GATES) for s in sets])),
        o.const(np.stack([np.concatenate([b, zeros]) for b in biases])),
        None,
        state(initial_h),
        state(initial_c),
        peepholes,
        outputs=3,
        hidden_size=size,
        direction=str(given["direction"]),
        activations=[ONNX_NAMES[_activation(given[k])] for k in kinds] * count,
        activation_alpha=_numbers(given, kinds, count, {"hard_sigmoid": 0.2, "linear": 1.0}),
        activation_beta=_numbers(given, kinds, count, {"hard_sigmoid": 0.5, "linear": 0.0}),
    )
    flat = [
        o.Reshape(o.Transpose(v, perm=[1, 0, 2]), o.ints([0, count * size])) for v in (hidden, cell)
    ]
    if not given["output_sequence"]:
        return [o.Unsqueeze(flat[0], o.ints([0])), *flat]
    joined = o.Reshape(o.Transpose(sequence, perm=[0, 2, 1, 3]), o.ints([0, 0, count * size]))
    if given["direction"] == "reverse":
        joined = o.Slice(joined, o.ints([-1]), o.ints([-(2**31)]), o.ints([0]), o.ints([-1]))
    return [joined, *flat]


def _numbers(
    given: dict[str, Any], kinds: tuple[str, ...], count: int, table: dict[str, float]
) -> list[float] | None:
    """ONNX lists one number per activation that has any, in order."""
    found = [table[given[k]] for k in kinds if given[k] in table]
    return found * count or None


def _walk(x: Array, h: Array, c: Array, given: dict[str, Any], weights: dict[str, Any]) -> Any:
    """One direction, in the order given: hidden states of all steps, and the last cell state."""
    gate, cell, out = (
        ACTIVATIONS[_activation(given[k])]
        for k in ("recurrent_activation", "cell_activation", "activation")
    )
    size = h.shape[-1]
    bias = 0 if weights["bias"] is None else weights["bias"]
    hole = np.zeros(3 * size, h.dtype) if weights["peephole"] is None else weights["peephole"]
    steps = []
    for row in x:
        i, f, o, z = np.split(
            row @ weights["weight_ih"].T + h @ weights["weight_hh"].T + bias, 4, -1
        )
        i, f = gate(i + hole[:size] * c), gate(f + hole[size : 2 * size] * c)
        z = z if given["clip"] is None else np.clip(z, -given["clip"], given["clip"])
        c = f * c + i * cell(z)
        h = gate(o + hole[2 * size :] * c) * out(c)
        steps.append(h)
    return np.stack(steps), c


STEPS, BATCH, WIDTH, SIZE = 4, 2, 3, 5
ONE = {
    "x": normal(STEPS, BATCH, WIDTH),
    "initial_h": normal(BATCH, SIZE, seed=1),
    "initial_c": normal(BATCH, SIZE, seed=2),
    "weight_ih": normal(4 * SIZE, WIDTH, seed=3),
    "weight_hh": 0.5 * normal(4 * SIZE, SIZE, seed=4),
}
TWO = ONE | {
    "initial_h": normal(BATCH, 2 * SIZE, seed=1),
    "initial_c": normal(BATCH, 2 * SIZE, seed=2),
    "weight_ih_back": normal(4 * SIZE, WIDTH, seed=5),
    "weight_hh_back": 0.5 * normal(4 * SIZE, SIZE, seed=6),
    "direction": "bidirectional",
}


@op(
    samples=[
        ONE,
        ONE | {"bias": normal(4 * SIZE, seed=7), "output_sequence": True},
        ONE
        | {"direction": "reverse", "output_sequence": True, "peephole": normal(3 * SIZE, seed=8)},
        TWO | {"bias": normal(4 * SIZE, seed=7), "output_sequence": True},
        TWO | {"bias_back": normal(4 * SIZE, seed=9), "peephole_back": normal(3 * SIZE, seed=10)},
        ONE
        | {
            "recurrent_activation": "hard_sigmoid",
            "cell_activation": "relu",
            "activation": "linear",
        },
        ONE | {"clip": np.float32(0.3)},
    ],
    onnx=_lstm_onnx,
    limits=(Limit("portable", CLIPPED, 6),),
)
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    *,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Array, Array, Array]:
    """Long short-term memory along the first dimension: hidden states, the last one, the last cell.

    ``c = f c + i cell(z)``, ``h = o activation(c)``; the gates i, f, o and z are sums of the input
    and the hidden state, stored in that order. A reverse layer gives its states in the order in
    which it made them; the two directions of a bidirectional one stand side by side, in time order.
    """
    given = locals()
    sets, size = _sets(given), weight_hh.shape[1]
    sequences, cells = [], []
    for i, weights in enumerate(sets):
        back = direction == "reverse" or i == 1
        part = slice(i * size, (i + 1) * size)
        steps, cell = _walk(
            x[::-1] if back else x, initial_h[:, part], initial_c[:, part], given, weights
        )
        sequences.append(steps)
        cells.append(cell)
    last = np.concatenate([s[-1] for s in sequences], -1)
    if not output_sequence:
        return last[None], last, np.concatenate(cells, -1)
    ordered = [s[::-1] if i == 1 else s for i, s in enumerate(sequences)]
    return np.concatenate(ordered, -1), last, np.concatenate(cells, -1)
