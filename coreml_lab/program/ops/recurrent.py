"""Recurrent layers: a state that is carried along a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreml_lab.errors import UnsupportedOp
from coreml_lab.program.graph import Array
from coreml_lab.program.ops.cells import (
    ONNX_NAMES,
    checked,
    directions,
    gru_torch,
    lstm_torch,
    rnn_torch,
)
from coreml_lab.program.ops.registry import Limit, op
from coreml_lab.program.ops.samples import normal
from coreml_lab.program.ops.sizes import nonempty

CLIPPED = "MIL clips the cell gate, which ONNX Runtime's LSTM does not"
# The slopes and scales are those of Core ML's neural network format.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}
# MIL's gates are input, forget, output, cell; ONNX wants input, output, forget, cell.
GATES, PEEPHOLES = (0, 2, 1, 3), (0, 2, 1)


def _reordered(weight: Any, order: tuple[int, ...]) -> Array:
    parts = np.split(np.asarray(weight), len(order))
    return np.concatenate([parts[i] for i in order])


def _lstm_onnx(o: Any, x: Any, initial_h: Any, initial_c: Any, **given: Any) -> Any:
    if given["clip"] is not None:
        raise UnsupportedOp(f"lstm: {CLIPPED}", hint="model.to('cpu') runs it on the CPU")
    sets, size = directions(given), np.shape(given["weight_hh"])[1]
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
        nonempty(o, x),
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
        activations=[ONNX_NAMES[checked(given[k])] for k in kinds] * count,
        activation_alpha=_numbers(given, kinds, count, {"hard_sigmoid": 0.2, "linear": 1.0}),
        activation_beta=_numbers(given, kinds, count, {"hard_sigmoid": 0.5, "linear": 0.0}),
    )
    flat = [
        o.Reshape(o.Transpose(v, perm=[1, 0, 2]), o.ints([0, count * size])) for v in (hidden, cell)
    ]
    return [_sequence(o, sequence, flat[0], given), *flat]


def _sequence(o: Any, sequence: Any, last: Any, given: dict[str, Any]) -> Any:
    """All hidden states, directions side by side; or the last one alone."""
    if not given["output_sequence"]:
        return o.Unsqueeze(last, o.ints([0]))
    moved = o.Transpose(sequence, perm=[0, 2, 1, 3])
    joined = o.Reshape(moved, o.ints([0, 0, -1]))
    if given["direction"] != "reverse":
        return joined
    return o.Slice(joined, o.ints([-1]), o.ints([-(2**31)]), o.ints([0]), o.ints([-1]))


def _numbers(
    given: dict[str, Any], kinds: tuple[str, ...], count: int, table: dict[str, float]
) -> list[float] | None:
    """ONNX lists one number per activation that has any, in order."""
    found = [table[given[k]] for k in kinds if given[k] in table]
    return found * count or None


def _walk(x: Array, h: Array, c: Array, given: dict[str, Any], weights: dict[str, Any]) -> Any:
    """One direction, in the order given: hidden states of all steps, and the last cell state."""
    gate, cell, out = (
        ACTIVATIONS[checked(given[k])]
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
    torch=lstm_torch,
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
    sets, size = directions(given), weight_hh.shape[1]
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


def _one_way_onnx(
    o: Any, kind: str, x: Any, initial_h: Any, *, weights: dict[str, Any], given: dict[str, Any]
) -> Any:
    """A layer with one direction and one state: the ONNX node, and its two results as MIL's."""
    names, size = weights.pop("activations"), np.shape(given["weight_hh"])[1]
    sequence, hidden = getattr(o, kind)(
        nonempty(o, x),
        *(o.const(weights.pop(k)[None]) for k in ("w", "r", "b")),
        None,
        o.Unsqueeze(initial_h, o.ints([0])),
        outputs=2,
        hidden_size=size,
        direction=str(given["direction"]),
        activations=[ONNX_NAMES[checked(given[k])] for k in names],
        activation_alpha=_numbers(given, names, 1, {"hard_sigmoid": 0.2, "linear": 1.0}),
        activation_beta=_numbers(given, names, 1, {"hard_sigmoid": 0.5, "linear": 0.0}),
        **weights,
    )
    last = o.Squeeze(hidden, o.ints([0]))
    return [_sequence(o, sequence, last, given), last]


def _biases(*given: Any, size: int, order: tuple[int, ...]) -> Array:
    """Biases one after another, absent ones as zeros, their gates in ONNX's order."""
    none = np.zeros(len(order) * size, np.float32)
    return np.concatenate([_reordered(none if b is None else b, order) for b in given])


def _steps(x: Array, h: Array, given: dict[str, Any], step: Callable[..., Array]) -> Any:
    """A layer with one state, step by step, in the order of its direction."""
    states = []
    for row in x[::-1] if given["direction"] == "reverse" else x:
        h = step(row, h)
        states.append(h)
    return (np.stack(states) if given["output_sequence"] else h[None]), h


def _rnn_onnx(o: Any, x: Any, initial_h: Any, **given: Any) -> Any:
    size = np.shape(given["weight_hh"])[1]
    bias = _biases(given["bias"], None, size=size, order=(0,))
    weights: dict[str, Any] = {
        "w": np.asarray(given["weight_ih"]),
        "r": np.asarray(given["weight_hh"]),
        "b": bias,
    }
    weights |= {"activations": ("activation",)}
    return _one_way_onnx(o, "RNN", x, initial_h, weights=weights, given=given)


SIMPLE = {
    "x": normal(STEPS, BATCH, WIDTH),
    "initial_h": normal(BATCH, SIZE, seed=1),
    "weight_ih": normal(SIZE, WIDTH, seed=2),
    "weight_hh": 0.5 * normal(SIZE, SIZE, seed=3),
}


@op(
    samples=[
        SIMPLE,
        SIMPLE | {"bias": normal(SIZE, seed=4), "output_sequence": True},
        SIMPLE | {"direction": "reverse", "output_sequence": True, "activation": "sigmoid"},
    ],
    onnx=_rnn_onnx,
    torch=rnn_torch,
)
def rnn(
    x: Array,
    initial_h: Array,
    *,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Array, Array]:
    """A plain recurrent layer: ``h = activation(W x + R h + b)``; its states and the last one."""
    given, act = locals(), ACTIVATIONS[checked(activation)]
    offset = 0 if bias is None else bias
    return tuple(
        _steps(
            x, initial_h, given, lambda row, h: act(row @ weight_ih.T + h @ weight_hh.T + offset)
        )
    )


# MIL's gates are reset, output, update; ONNX wants update, reset, output.
GRU_GATES = (2, 0, 1)


def _gru_onnx(o: Any, x: Any, initial_h: Any, **given: Any) -> Any:
    size = np.shape(given["weight_hh"])[1]
    weights = {
        "w": _reordered(given["weight_ih"], GRU_GATES),
        "r": _reordered(given["weight_hh"], GRU_GATES),
        "b": _biases(given["input_bias"], given["bias"], size=size, order=GRU_GATES),
        "linear_before_reset": int(bool(given["reset_after"])),
        "activations": ("recurrent_activation", "activation"),
    }
    return _one_way_onnx(o, "GRU", x, initial_h, weights=weights, given=given)


GATED = SIMPLE | {
    "weight_ih": normal(3 * SIZE, WIDTH, seed=2),
    "weight_hh": 0.5 * normal(3 * SIZE, SIZE, seed=3),
}


@op(
    samples=[
        GATED,
        GATED | {"bias": normal(3 * SIZE, seed=4), "output_sequence": True},
        GATED
        | {
            "bias": normal(3 * SIZE, seed=4),
            "input_bias": normal(3 * SIZE, seed=5),
            "reset_after": True,
            "direction": "reverse",
            "output_sequence": True,
        },
        GATED | {"recurrent_activation": "hard_sigmoid", "activation": "relu"},
    ],
    onnx=_gru_onnx,
    torch=gru_torch,
)
def gru(
    x: Array,
    initial_h: Array,
    *,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool | None = None,
    input_bias: Array | None = None,
) -> tuple[Array, Array]:
    """The gated recurrent unit: ``h = (1 - z) o + z h``; all hidden states and the last.

    ``o = activation(W x + b + R (r h))``; with ``reset_after`` the reset gate r scales
    ``R h + bias`` instead. The gates r, o and z are stored in that order.
    """
    given, size = locals(), weight_hh.shape[1]
    gate, act = ACTIVATIONS[checked(recurrent_activation)], ACTIVATIONS[checked(activation)]
    none = np.zeros(3 * size, np.float32)
    outer = np.split(none if input_bias is None else input_bias, 3)
    inner = np.split(none if bias is None else bias, 3)
    w, r = np.split(weight_ih, 3), np.split(weight_hh, 3)

    def step(row: Array, h: Array) -> Array:
        reset = gate(row @ w[0].T + outer[0] + h @ r[0].T + inner[0])
        update = gate(row @ w[2].T + outer[2] + h @ r[2].T + inner[2])
        carried = (
            reset * (h @ r[1].T + inner[1]) if reset_after else (reset * h) @ r[1].T + inner[1]
        )
        return np.asarray((1 - update) * act(row @ w[1].T + outer[1] + carried) + update * h)

    return tuple(_steps(x, initial_h, given, step))
