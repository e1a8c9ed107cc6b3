"""Cases of recurrent layers, over the options that they have."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tests.support.classic import Cases, normal, weights
from tests.support.classic_math import sigmoid

TABLE = Cases()
S, B, D, H = 4, 2, 3, 5
X = normal(S, B, D, 1, 1)
FIRST = tuple(normal(1, B, H, 1, 1, seed=n) for n in range(20, 24))
FUNCTIONS: dict[str, Any] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "scaledTanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
    "sigmoidHard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}


def clip(x: Any, limit: float = 50) -> Any:
    """Held inside of a limit."""
    return np.clip(x, -limit, limit)


def walk(x: Any, states: tuple[Any, ...], step: Any, *, reverse: bool, every: bool) -> Any:
    """All outputs or the last one, and the states after the last step, with five axes."""
    rows, states = x[..., 0, 0], tuple(s[0, ..., 0, 0] for s in states)
    made = []
    for row in rows[::-1] if reverse else rows:
        states = step(row, *states)
        made.append(states[0])
    outputs = np.stack(made) if every else made[-1][None]
    return (outputs[..., None, None], *(s[None, ..., None, None] for s in states))


def zeros(count: int) -> tuple[Any, ...]:
    """Initial states that are not given."""
    return (np.zeros((1, B, H, 1, 1)),) * count


# -- simple --------------------------------------------------------------------------------------
W, R, Z = normal(H, D, seed=1), normal(H, H, seed=2) * 0.5, normal(H, seed=3)
SIZES = {"inputVectorSize": D, "outputVectorSize": H}
SIMPLE = SIZES | {"weightMatrix": weights(W), "recursionMatrix": weights(R)}
SIMPLE |= {"hasBiasVector": True, "biasVector": weights(Z)}


def simple(kind: str) -> Any:
    """One step of the simple layer."""
    return lambda row, y: (FUNCTIONS[kind](clip(row @ W.T + y @ R.T + Z)),)


for _kind, _reverse, _every in [
    ("tanh", False, False),
    ("tanh", True, True),
    ("sigmoid", False, True),
    ("sigmoidHard", False, True),
    ("ReLU", False, True),
    ("linear", True, True),
    ("scaledTanh", False, False),
]:
    TABLE.add(
        "simpleRecurrent",
        SIMPLE | {"activation": {_kind: {}}, "reverseInput": _reverse, "sequenceOutput": _every},
        (X, FIRST[0]),
        lambda x, h, k=_kind, r=_reverse, e=_every: walk(x, (h,), simple(k), reverse=r, every=e),
        about=f"{_kind}{'-reverse' * _reverse}{'-all' * _every}",
    )
TABLE.add(
    "simpleRecurrent",
    SIMPLE | {"activation": {"ReLU": {}}},
    X * 200,
    lambda x: walk(x, zeros(1), simple("ReLU"), reverse=False, every=False),
    about="clipped-no-state",
)

# -- gru -----------------------------------------------------------------------------------------
NAMES = ("update", "reset", "output")
GW = {n: normal(H, D, seed=i) for i, n in enumerate(NAMES)}
GR = {n: normal(H, H, seed=i + 3) * 0.5 for i, n in enumerate(NAMES)}
GB = {n: normal(H, seed=i + 6) for i, n in enumerate(NAMES)}
GRU: dict[str, Any] = SIZES | {"hasBiasVectors": True}
for _n in NAMES:
    GRU |= {
        f"{_n}GateWeightMatrix": weights(GW[_n]),
        f"{_n}GateRecursionMatrix": weights(GR[_n]),
        f"{_n}GateBiasVector": weights(GB[_n]),
    }


def gated(first: str, second: str) -> Any:
    """One step of the gated recurrent unit."""
    f, g = FUNCTIONS[first], FUNCTIONS[second]

    def step(row: Any, y: Any) -> Any:
        def gate(name: str, state: Any) -> Any:
            return clip(row @ GW[name].T + state @ GR[name].T + GB[name])

        z, r = f(gate("update", y)), f(gate("reset", y))
        return ((1 - z) * g(gate("output", y * r)) + z * y,)

    return step


for (_f, _g), _reverse, _every in [
    (("sigmoid", "tanh"), False, False),
    (("sigmoid", "tanh"), True, True),
    (("sigmoidHard", "sigmoid"), False, True),
    (("sigmoid", "ReLU"), True, True),
    (("tanh", "scaledTanh"), False, False),
]:
    TABLE.add(
        "gru",
        GRU
        | {"activations": [{_f: {}}, {_g: {}}], "reverseInput": _reverse}
        | {"sequenceOutput": _every},
        (X, FIRST[0]),
        lambda x, h, k=(_f, _g), r=_reverse, e=_every: walk(x, (h,), gated(*k), reverse=r, every=e),
        about=f"{_f}-{_g}{'-reverse' * _reverse}{'-all' * _every}",
    )

# -- lstm ----------------------------------------------------------------------------------------
GATES = ("inputGate", "forgetGate", "blockInput", "outputGate")
HOLES = ("inputGate", "forgetGate", "outputGate")


def lstm_weights(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights of one direction as arrays, and as the message."""
    own: dict[str, Any] = {}
    for i, gate in enumerate(GATES):
        own[f"{gate}WeightMatrix"] = normal(H, D, seed=seed + i)
        own[f"{gate}RecursionMatrix"] = normal(H, H, seed=seed + i + 4) * 0.5
        own[f"{gate}BiasVector"] = normal(H, seed=seed + i + 8)
    own |= {f"{g}PeepholeVector": normal(H, seed=seed + i + 12) for i, g in enumerate(HOLES)}
    return own, {k: weights(v) for k, v in own.items()}


def lstm(own: dict[str, Any], kinds: tuple[str, str, str], params: dict[str, Any]) -> Any:
    """One step of the LSTM."""
    f, g, h = (FUNCTIONS[k] for k in kinds)
    limit = params.get("cellClipThreshold") or 50

    def step(row: Any, y: Any, c: Any) -> Any:
        def gate(name: str, cell: Any = None) -> Any:
            total = row @ own[f"{name}WeightMatrix"].T + y @ own[f"{name}RecursionMatrix"].T
            if params.get("hasBiasVectors"):
                total = total + own[f"{name}BiasVector"]
            if name == "forgetGate" and params.get("forgetBias"):
                total = total + 1
            if cell is not None and params.get("hasPeepholeVectors"):
                total = total + own[f"{name}PeepholeVector"] * cell
            return clip(total)

        i = f(gate("inputGate", c))
        coupled = params.get("coupledInputAndForgetGate")
        forget = 1 - i if coupled else f(gate("forgetGate", c))
        c = clip(c * forget + i * g(gate("blockInput")), limit)
        return h(c) * f(gate("outputGate", c)), c

    return step


USUAL = ("sigmoid", "tanh", "tanh")
PARAMS: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "plain": ({}, USUAL),
    "bias": ({"hasBiasVectors": True}, USUAL),
    "forget-bias": ({"hasBiasVectors": True, "forgetBias": True}, USUAL),
    "forget-bias-only": ({"forgetBias": True}, USUAL),
    "peepholes": ({"hasBiasVectors": True, "hasPeepholeVectors": True}, USUAL),
    "coupled": (
        {"hasBiasVectors": True, "hasPeepholeVectors": True, "coupledInputAndForgetGate": True},
        USUAL,
    ),
    "tanh-coupled": ({"coupledInputAndForgetGate": True}, ("tanh", "tanh", "tanh")),
    "hard-coupled": ({"coupledInputAndForgetGate": True}, ("sigmoidHard", "tanh", "sigmoid")),
    "clipped": ({"cellClipThreshold": 0.3, "hasPeepholeVectors": True}, USUAL),
    "clipped-coupled": (
        {"cellClipThreshold": 0.3, "coupledInputAndForgetGate": True, "hasPeepholeVectors": True},
        USUAL,
    ),
    "unbounded": ({"hasBiasVectors": True}, ("sigmoid", "ReLU", "linear")),
    "scaled": ({}, ("sigmoid", "scaledTanh", "scaledTanh")),
}
OWN, MESSAGE = lstm_weights(40)
ENDS = itertools.cycle([(False, False), (True, True), (False, True), (True, False)])
for (_about, (_params, _kinds)), (_reverse, _every) in zip(PARAMS.items(), ENDS, strict=False):
    TABLE.add(
        "uniDirectionalLSTM",
        SIZES
        | {"activations": [{k: {}} for k in _kinds], "weightParams": MESSAGE}
        | {"params": _params | {"sequenceOutput": _every}, "reverseInput": _reverse},
        (X, *FIRST[:2]),
        lambda x, h, c, k=_kinds, p=_params, r=_reverse, e=_every: walk(
            x, (h, c), lstm(OWN, k, p), reverse=r, every=e
        ),
        about=f"{_about}{'-reverse' * _reverse}{'-all' * _every}",
    )
BACK, BACK_MESSAGE = lstm_weights(60)


def both_ways(x: Any, states: Any, params: dict[str, Any], *, every: bool) -> Any:
    """The bidirectional LSTM: the second one's outputs in the order of time."""
    ahead = walk(x, states[:2], lstm(OWN, USUAL, params), reverse=False, every=every)
    back = walk(x, states[2:], lstm(BACK, USUAL, params), reverse=True, every=every)
    second = back[0][::-1] if every else back[0]
    return (np.concatenate([ahead[0], second], 2), *ahead[1:], *back[1:])


TWO = SIZES | {"weightParams": [MESSAGE, BACK_MESSAGE]}
TWO |= {f"activations{w}LSTM": [{k: {}} for k in USUAL] for w in ("Forward", "Backward")}
for _about in ("plain", "peepholes", "clipped"):
    for _every in (False, True):
        TABLE.add(
            "biDirectionalLSTM",
            TWO | {"params": PARAMS[_about][0] | {"sequenceOutput": _every}},
            (X, *FIRST),
            lambda x, *s, p=PARAMS[_about][0], e=_every: both_ways(x, s, p, every=e),
            about=f"{_about}{'-all' * _every}",
        )
TABLE.add(
    "biDirectionalLSTM",
    TWO | {"params": {"sequenceOutput": True}},
    X,
    lambda x: both_ways(x, zeros(4), {}, every=True),
    about="no-states",
)
