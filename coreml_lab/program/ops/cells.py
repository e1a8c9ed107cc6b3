"""Recurrent cells: what their constants mean, and how PyTorch steps through a sequence.

PyTorch's own layers know one set of activations and neither peepholes nor clipping. Here the inputs
of all steps are projected at once, and the rest is one product per step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coreml_lab.errors import UnsupportedOp

ONNX_NAMES = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "linear": "Affine",
    "hard_sigmoid": "HardSigmoid",
}


def checked(name: Any) -> str:
    """The checked name of an activation."""
    if str(name) not in ONNX_NAMES:
        raise UnsupportedOp(
            f"the recurrent activation {name!r} is not run", hint=f"one of {', '.join(ONNX_NAMES)}"
        )
    return str(name)


def directions(given: dict[str, Any]) -> list[dict[str, Any]]:
    """The weights of each direction."""
    names = ("weight_ih", "weight_hh", "bias", "peephole")
    ends = ("", "_back") if given["direction"] == "bidirectional" else ("",)
    return [{n: given[n + end] for n in names} for end in ends]


def _function(t: Any, name: Any) -> Callable[[Any], Any]:
    return {
        "sigmoid": t.sigmoid,
        "tanh": t.tanh,
        "relu": t.relu,
        "linear": lambda x: x,
        "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    }[checked(name)]


def _projected(t: Any, x: Any, weight: Any, *biases: Any) -> Any:
    """What the inputs of all steps add to the gates: one product instead of one per step."""
    gates = t.nn.functional.linear(x, t.as_tensor(weight, x.dtype))
    for bias in biases:
        gates = gates if bias is None else gates + t.as_tensor(bias, x.dtype)
    return gates


def _walk_torch(t: Any, x: Any, h: Any, c: Any, *, given: Any, weights: Any) -> Any:
    """One direction of an LSTM in the order given: all hidden states, and the last cell state."""
    gate, cell, out = (
        _function(t, given[k]) for k in ("recurrent_activation", "cell_activation", "activation")
    )
    size, clip, hole = h.shape[-1], given["clip"], weights["peephole"]
    holes = [0.0] * 3 if hole is None else t.as_tensor(hole, x.dtype).split(size)
    weight = t.as_tensor(weights["weight_hh"], x.dtype)
    steps = []
    for row in _projected(t, x, weights["weight_ih"], weights["bias"]).unbind(0):
        i, f, o, z = (row + t.nn.functional.linear(h, weight)).split(size, -1)
        i, f = gate(i + holes[0] * c), gate(f + holes[1] * c)
        z = z if clip is None else z.clamp(-float(clip), float(clip))
        c = f * c + i * cell(z)
        h = gate(o + holes[2] * c) * out(c)
        steps.append(h)
    return t.stack(steps), c


def lstm_torch(t: Any, x: Any, initial_h: Any, initial_c: Any, **given: Any) -> Any:
    """``lstm`` in PyTorch."""
    both = directions(given)
    size = initial_h.shape[-1] // len(both)
    sequences, cells = [], []
    for i, weights in enumerate(both):
        back = given["direction"] == "reverse" or i == 1
        h, c = (s[:, i * size : (i + 1) * size] for s in (initial_h, initial_c))
        steps, cell = _walk_torch(t, x.flip(0) if back else x, h, c, given=given, weights=weights)
        sequences.append(steps)
        cells.append(cell)
    last, cell = t.cat([s[-1] for s in sequences], -1), t.cat(cells, -1)
    if not given["output_sequence"]:
        return last[None], last, cell
    return t.cat([s.flip(0) if i == 1 else s for i, s in enumerate(sequences)], -1), last, cell


def _steps_torch(t: Any, gates: Any, h: Any, given: Any, step: Callable[..., Any]) -> Any:
    """A layer with one state, step by step, over what the inputs add to the gates."""
    states = []
    for row in (gates.flip(0) if given["direction"] == "reverse" else gates).unbind(0):
        h = step(row, h)
        states.append(h)
    return (t.stack(states) if given["output_sequence"] else h[None]), h


def rnn_torch(t: Any, x: Any, initial_h: Any, **given: Any) -> Any:
    """``rnn`` in PyTorch."""
    act, weight = (
        _function(t, given["activation"]),
        t.as_tensor(given["weight_hh"], x.dtype),
    )

    def step(row: Any, h: Any) -> Any:
        return act(row + t.nn.functional.linear(h, weight))

    return _steps_torch(
        t, _projected(t, x, given["weight_ih"], given["bias"]), initial_h, given, step
    )


def gru_torch(t: Any, x: Any, initial_h: Any, **given: Any) -> Any:
    """``gru`` in PyTorch."""
    gate, act = (_function(t, given[k]) for k in ("recurrent_activation", "activation"))
    size, weight = initial_h.shape[-1], t.as_tensor(given["weight_hh"], x.dtype)
    before = None if given["bias"] is None else t.as_tensor(given["bias"], x.dtype)
    offsets = [0.0] * 3 if before is None else before.split(size)

    def step(row: Any, h: Any) -> Any:
        (r, o, z), (rh, oh, zh) = row.split(size, -1), weight.split(size)
        product = t.nn.functional.linear
        reset = gate(r + product(h, rh) + offsets[0])
        update = gate(z + product(h, zh) + offsets[2])
        if given["reset_after"]:
            carried = reset * (product(h, oh) + offsets[1])
        else:
            carried = product(reset * h, oh) + offsets[1]
        return (1 - update) * act(o + carried) + update * h

    gates = _projected(t, x, given["weight_ih"], given["input_bias"])
    return _steps_torch(t, gates, initial_h, given, step)
