"""What OpenVINO is kept from: it computes it otherwise than MIL, or not at all (2026.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from coreml_lab.program.graph import Array, Node, Value
from coreml_lab.run.lowering.lowered import supports

# Whole numbers below it are exact in single precision.
EXACT = 1 << 24
REDUCTIONS = (
    *("reduce_sum", "reduce_sum_square", "reduce_prod", "reduce_max", "reduce_min"),
    *("reduce_mean", "reduce_l1_norm", "reduce_l2_norm"),
)
COMPARISONS = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
_SINGLE = "it computes whole numbers in single precision"


def _recurrent(node: Node) -> str:
    usual = {"recurrent_activation": "sigmoid", "activation": "tanh", "cell_activation": "tanh"}
    given = {**node.inputs, **node.attrs}
    odd = {k for k, v in usual.items() if str(given.get(k, v)) != v}
    odd |= {k for k in given if k.startswith("peephole")}
    return f"it drops or refuses {', '.join(sorted(odd))}" if odd else ""


def _ceiled(node: Node) -> str:
    return (
        "its last window is cut differently with ceil_mode" if node.attrs.get("ceil_mode") else ""
    )


def _integers(node: Node) -> str:
    # The last operand is the divisor or the exponent.
    whole = [*node.operands()][-1].type.dtype.kind in "iu"
    return "it divides integers, and takes their powers, in single precision" if whole else ""


def _whole(node: Node) -> str:
    return _SINGLE if any(v.type.dtype.kind in "iu" for v in node.operands()) else ""


def _compared(node: Node) -> str:
    # Beside a number that is exact in single precision, rounding the other changes no answer.
    return "" if any(_exact(_held(node, k)) for k in ("x", "y")) else _whole(node)


def _marked(node: Node) -> str:
    held = [_held(node, k) for k in ("on_value", "off_value")]
    return "" if all(h is None or _exact(h) for h in held) else _SINGLE


def _chosen(node: Node) -> str:
    fixed = _held(node, "indices") is not None
    return "" if fixed else "it reads outside of its memory where an index is too large"


def _held(node: Node, name: str) -> Array | None:
    operand = node.given(name)
    found = operand.const if isinstance(operand, Value) else operand
    return None if found is None else np.asarray(found)


def _exact(held: Array | None) -> bool:
    return held is not None and bool((np.abs(held.astype(np.float64)) < EXACT).all())


# What OpenVINO computes differently from MIL, or not at all (2026.4): op -> why not this node.
REFUSED: Mapping[str, Callable[[Node], str]] = {
    **dict.fromkeys(("real_div", "floor_div", "mod", "pow", "exp2"), _integers),
    **dict.fromkeys((*REDUCTIONS, "matmul"), _whole),
    **dict.fromkeys(COMPARISONS, _compared),
    "gather_nd": _chosen,
    "one_hot": _marked,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
    "max_pool": _ceiled,
    "avg_pool": _ceiled,
    "l2_pool": _ceiled,
    "non_maximum_suppression": lambda _: (
        "it drops boxes whose overlap is the threshold itself, too"
    ),
}


def refusal(node: Node) -> str:
    """Why OpenVINO must not run this node; "" where it may."""
    if not supports(node):
        return f"there is no ONNX form of {node.op}"
    from coreml_lab.program.ops import OPS  # noqa: PLC0415 - a warm cache does without them

    if node.op in OPS and OPS[node.op].law is not None:
        return "it computes with unsigned integers as if they had a sign: no right random numbers"
    rule = REFUSED.get(node.op)
    return rule(node) if rule else ""
