"""Recurrent layers: simple, gated and LSTM, by MIL's operations where these mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.steps import FUNCTIONS, clipped, walk
from coreml_lab.program.mil.neural_network.values import at_least, reshape, sizes
from coreml_lab.program.mil.tools import is_symbolic, mb

# What MIL's recurrent operations know, and the results of which stay small.
BOUNDED = {"sigmoid": "sigmoid", "tanh": "tanh", "sigmoidHard": "hard_sigmoid"}
# The cell state is held inside of this, and of less only where a file says so.
LIMIT = 50.0
GATES = ("input", "forget", "output")
ROWS = ("inputGate", "forgetGate", "outputGate", "blockInput")
FORGET, LSTM_GATES, GRU_GATES = 1, 4, ("reset", "output", "update")


def _activation(p: Any) -> str:
    """The name of an activation; recurrent layers give its parameters a fixed meaning."""
    kind = p.WhichOneof("NonlinearityType") or ""
    if kind not in FUNCTIONS:
        raise LayerError(f"{kind or 'no'} activation is one of recurrent layers")
    return str(kind)


def _activations(given: Sequence[Any], count: int) -> list[str]:
    if len(given) != count:
        raise LayerError(f"it has {len(given)} activations, not {count}")
    return [_activation(p) for p in given]


def _sequence(x: Any, width: int) -> Any:
    """[Seq, Batch, width, 1, 1] without the last two axes."""
    at_least(x, len("SBC"))
    return reshape(x, [*sizes(x)[:2], width])


def _state(given: Any, x: Any, size: int) -> Any:
    """An initial state [batch, size]: what is given, or zeros."""
    if given is not None:
        return mb.reshape(x=given, shape=[-1, size])
    batch = x.shape[1]
    if is_symbolic(batch):
        shape = mb.concat(values=[sizes(x)[1], np.array([size], np.int32)], axis=0)
        return mb.fill(shape=shape, value=np.float32(0))
    return np.zeros((int(batch), size), np.float32)


def _images(*results: Any) -> tuple[Any, ...]:
    """Results [S, B, C] and states [B, C] with five axes."""
    whole = [r if r.rank == len("SBC") else mb.expand_dims(x=r, axes=[0]) for r in results]
    return tuple(mb.expand_dims(x=r, axes=[3, 4]) for r in whole)


@layer("simpleRecurrent", inputs=(1, 2))
def simple_recurrent(p: Any, x: Any, h: Any = None) -> Any:
    """``y = f(W x + R y + b)``: all of them or the last, and the last as a state."""
    width, size = int(p.inputVectorSize), int(p.outputVectorSize)
    x = _sequence(x, width)
    h = _state(h, x, size)
    kind = _activation(p.activation)
    w = weights.array(p.weightMatrix, [size, width])
    r = weights.array(p.recursionMatrix, [size, size])
    b = weights.array(p.biasVector, [size]) if p.hasBiasVector else np.zeros(size, np.float32)
    if kind in BOUNDED:
        results = mb.rnn(
            x=x,
            initial_h=h,
            weight_ih=w,
            weight_hh=r,
            bias=b,
            direction="reverse" if p.reverseInput else "forward",
            output_sequence=bool(p.sequenceOutput),
            activation=BOUNDED[kind],
        )
        return _images(*results)

    def step(row: Any, y: Any) -> tuple[Any, ...]:
        return (FUNCTIONS[kind](clipped(mb.add(x=row, y=mb.linear(x=y, weight=r)))),)

    rows = mb.linear(x=x, weight=w, bias=b)
    return _images(*walk(rows, [h], step, reverse=p.reverseInput, every=p.sequenceOutput))


@layer("gru", inputs=(1, 2))
def gru(p: Any, x: Any, h: Any = None) -> Any:
    """The gated recurrent unit: all states or the last, and the last as a state."""
    width, size = int(p.inputVectorSize), int(p.outputVectorSize)
    x = _sequence(x, width)
    h = _state(h, x, size)
    kinds = _activations(p.activations, len(("f", "g")))

    def stacked(ending: str, shape: list[int]) -> Array:
        parts = [weights.array(getattr(p, f"{g}Gate{ending}"), shape) for g in GRU_GATES]
        return np.concatenate(parts)

    w, r = stacked("WeightMatrix", [size, width]), stacked("RecursionMatrix", [size, size])
    b = stacked("BiasVector", [size]) if p.hasBiasVectors else np.zeros(3 * size, np.float32)
    if all(kind in BOUNDED for kind in kinds):
        results = mb.gru(
            x=x,
            initial_h=h,
            weight_ih=w,
            weight_hh=r,
            bias=b,
            direction="reverse" if p.reverseInput else "forward",
            output_sequence=bool(p.sequenceOutput),
            recurrent_activation=BOUNDED[kinds[0]],
            activation=BOUNDED[kinds[1]],
        )
        return _images(*results)
    rows = mb.linear(x=x, weight=w, bias=b)
    step = _gru_step(kinds, r)
    return _images(*walk(rows, [h], step, reverse=p.reverseInput, every=p.sequenceOutput))


def _gru_step(kinds: Sequence[str], recursion: Array) -> Any:
    gate, act = (FUNCTIONS[kind] for kind in kinds)
    reset, output, update = np.split(recursion, 3)

    def step(row: Any, y: Any) -> tuple[Any, ...]:
        xr, xo, xz = mb.split(x=row, num_splits=3, axis=-1)
        z = gate(clipped(mb.add(x=xz, y=mb.linear(x=y, weight=update))))
        r = gate(clipped(mb.add(x=xr, y=mb.linear(x=y, weight=reset))))
        inner = mb.linear(x=mb.mul(x=y, y=r), weight=output)
        o = act(clipped(mb.add(x=xo, y=inner)))
        return (mb.add(x=o, y=mb.mul(x=z, y=mb.sub(x=y, y=o))),)

    return step


CUT = "a cell state is held inside of its limit where that is below 50, or activations unbounded"


@layer("uniDirectionalLSTM", inputs=(1, 3), limits=CUT)
def lstm(p: Any, x: Any, h: Any = None, c: Any = None) -> Any:
    """A long short-term memory: all outputs or the last, the last output, the last cell."""
    size = int(p.outputVectorSize)
    x = _sequence(x, int(p.inputVectorSize))
    states = [_state(s, x, size) for s in (h, c)]
    kinds = _activations(p.activations, len("fgh"))
    own = _lstm_weights(p, p.weightParams, size)
    return _images(*_one_way(p.params, x, states, own, kinds, reverse=p.reverseInput))


@layer("biDirectionalLSTM", inputs=(1, 5), limits=CUT)
def bidirectional_lstm(p: Any, x: Any, *given: Any) -> Any:
    """Two LSTMs, one from each end: outputs side by side, then output and cell of each."""
    size = int(p.outputVectorSize)
    x = _sequence(x, int(p.inputVectorSize))
    states = [_state(s, x, size) for s in (*given, *[None] * (4 - len(given)))]
    if len(p.weightParams) != len(("forward", "backward")):
        raise LayerError(f"it has {len(p.weightParams)} sets of weights, not 2")
    results = []
    ways = (p.activationsForwardLSTM, p.activationsBackwardLSTM or p.activationsForwardLSTM)
    for i, (way, params) in enumerate(zip(ways, p.weightParams, strict=True)):
        kinds = _activations(way, len("fgh"))
        own = _lstm_weights(p, params, size)
        start = states[2 * i : 2 * i + 2]
        results.append(_one_way(p.params, x, start, own, kinds, reverse=bool(i)))
    (forward, *ends), (backward, *starts) = results
    if p.params.sequenceOutput:
        backward = mb.reverse(x=backward, axes=[0])
    both = mb.concat(values=[forward, backward], axis=-1)
    return _images(both, *ends, *starts)


def _lstm_weights(p: Any, own: Any, size: int) -> dict[str, Any]:
    """Weights with the gates in MIL's order: input, forget, output, block input."""
    params, width = p.params, int(p.inputVectorSize)

    def rows(ending: str, shape: list[int]) -> list[Array]:
        found = []
        for i, gate in enumerate(ROWS):
            absent = i == FORGET and params.coupledInputAndForgetGate
            stored = getattr(own, gate + ending)
            found.append(np.zeros(shape, np.float32) if absent else weights.array(stored, shape))
        return found

    bias = [np.zeros(size, np.float32)] * LSTM_GATES
    if params.hasBiasVectors:
        bias = rows("BiasVector", [size])
    if params.forgetBias:
        bias[FORGET] = bias[FORGET] + np.float32(1)
    holes = None
    if params.hasPeepholeVectors:
        coupled = params.coupledInputAndForgetGate
        holes = [
            np.zeros(size, np.float32)
            if coupled and gate == GATES[FORGET]
            else weights.array(getattr(own, f"{gate}GatePeepholeVector"), [size])
            for gate in GATES
        ]
    return {
        "weight_ih": rows("WeightMatrix", [size, width]),
        "weight_hh": rows("RecursionMatrix", [size, size]),
        "bias": bias,
        "peephole": holes,
    }


def _one_way(
    params: Any, x: Any, states: list[Any], own: dict[str, Any], kinds: list[str], *, reverse: bool
) -> Any:
    """One direction; by MIL's own operation, unless a limit or an activation is none of its."""
    limit = float(params.cellClipThreshold) or LIMIT
    coupled = bool(params.coupledInputAndForgetGate)
    usual = all(kind in BOUNDED for kind in kinds) and limit >= LIMIT
    # 1 - f(x) is f(-x) for both sigmoids, but not for tanh.
    usual = usual and not (coupled and kinds[0] == "tanh")
    if not usual:
        step = _lstm_step(own, kinds, limit, coupled=coupled)
        rows = mb.linear(
            x=x, weight=np.concatenate(own["weight_ih"]), bias=np.concatenate(own["bias"])
        )
        return walk(rows, states, step, reverse=reverse, every=params.sequenceOutput)
    if coupled:
        own = _coupled(own)
    return mb.lstm(
        x=x,
        initial_h=states[0],
        initial_c=states[1],
        **{k: np.concatenate(v) for k, v in own.items() if v is not None},
        direction="reverse" if reverse else "forward",
        output_sequence=bool(params.sequenceOutput),
        recurrent_activation=BOUNDED[kinds[0]],
        cell_activation=BOUNDED[kinds[1]],
        activation=BOUNDED[kinds[2]],
    )


def _coupled(own: dict[str, Any]) -> dict[str, Any]:
    """A forget gate of ``1 - i``: a sigmoid with the signs of everything inside changed."""
    found = {}
    for name, parts in own.items():
        found[name] = parts and [parts[0], -parts[0], *parts[2:]]
    return found


def _lstm_step(own: dict[str, Any], kinds: Sequence[str], limit: float, *, coupled: bool) -> Any:
    gate, block, out = (FUNCTIONS[kind] for kind in kinds)
    recursion, holes = np.concatenate(own["weight_hh"]), own["peephole"]

    def peeped(x: Any, i: int, c: Any) -> Any:
        x = x if holes is None else mb.add(x=x, y=mb.mul(x=c, y=holes[i]))
        return gate(clipped(x))

    def step(row: Any, y: Any, c: Any) -> tuple[Any, ...]:
        gates = mb.add(x=row, y=mb.linear(x=y, weight=recursion))
        xi, xf, xo, xz = mb.split(x=gates, num_splits=LSTM_GATES, axis=-1)
        i = peeped(xi, 0, c)
        forget = mb.sub(x=np.float32(1), y=i) if coupled else peeped(xf, FORGET, c)
        z = block(clipped(xz))
        c = mb.add(x=mb.mul(x=c, y=forget), y=mb.mul(x=i, y=z))
        c = clipped(c, limit)
        return mb.mul(x=out(c), y=peeped(xo, 2, c)), c

    return step
