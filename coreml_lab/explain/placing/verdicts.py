"""Where an operation can run: on CPU, GPU and Neural Engine, or before the program does. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from coreml_lab.explain.placing.bars import BARS
from coreml_lab.explain.placing.reasons import Context, Reason, is_list
from coreml_lab.explain.placing.risks import RISKS
from coreml_lab.explain.placing.tables import operations
from coreml_lab.explain.placing.workload import fixed
from coreml_lab.program.graph import CONTROL_FLOW, Node


@dataclass(frozen=True)
class Verdict:
    """Where an operation can run: ``folded`` ones are done before the program runs."""

    supported: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    risks: tuple[Reason, ...] = ()
    folded: bool = False


def judge(node: Node, context: Context) -> Verdict:
    """Where ``node`` can run on a chip, and why not on its Neural Engine."""
    if _folded(node):
        return Verdict((), folded=True)
    reasons = tuple(reason for rule in BARS for reason in rule(node, context))
    risks = tuple(risk for rule in RISKS for risk in rule(node, context))
    supported = ["cpu"]
    if _on_gpu(node):
        supported.append("gpu")
    if not reasons:
        supported.append("ne")
    return Verdict(tuple(supported), reasons, risks)


def _folded(node: Node) -> bool:
    if node.op == "shape":
        return all(v.type.static for v in node.operands())
    known = operations().get(node.op)
    if node.op.startswith("constexpr_") or (known is not None and known.verdict == "folded"):
        return True
    # Reading no value, it gives the same in every run: random numbers are the exception.
    still = not (node.blocks or is_list(node) or node.op.startswith("random"))
    return still and all(map(fixed, node.operands()))


def _on_gpu(node: Node) -> bool:
    known = operations().get(node.op)
    return not (node.op in CONTROL_FLOW or is_list(node)) and (known is None or known.gpu)
