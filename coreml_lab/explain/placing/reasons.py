"""Why an operation cannot run on the Neural Engine, as data, and what rules are told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from coreml_lab.explain.placing.tables import Chip
from coreml_lab.explain.placing.workload import Sizes, fixed
from coreml_lab.program.graph import Node, TensorType

HIGH, MEDIUM, LOW = "high", "medium", "low"


@dataclass(frozen=True)
class Reason:
    """Why an operation cannot run on the Neural Engine, or why it might not.

    Attributes:
        kind: ``operation``, ``generation``, ``precision``, ``integers``, ``run-time operand``,
            ``rank``, ``size``, ``kernel``, ``flexible shape``, ``control flow``, ``state``,
            ``quantization``, ``padding``, ``unknown``; of risks also ``layout``, ``weights`` and
            ``conflict``.
        text: what is in the way, with its numbers.
        remedy: what to change; "" where nothing is known to help.
        confidence: ``high``, ``medium`` or ``low``.
        sources: keys of ``tables.sources()``.
    """

    kind: str
    text: str
    remedy: str
    confidence: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Context:
    """What a verdict depends on besides the operation.

    Attributes:
        flexible: ``enumerated`` where inputs have a few shapes to choose from, else ``range``.
        updates: the operations that make a state's next contents, with the state.
    """

    chip: Chip
    sizes: Sizes = field(default_factory=Sizes)
    flexible: str = "range"
    updates: Mapping[Node, Node] = field(default_factory=dict)


Rule = Callable[[Node, Context], Iterator[Reason]]


def values(node: Node) -> list[TensorType]:
    """Types of what it computes: weights have limits of their own."""
    return [*node.types, *(v.type for v in node.operands() if not fixed(v))]


def states(node: Node, context: Context) -> list[Node]:
    """The states that an operation reads or makes the next contents of."""
    found = [v.node for v in node.operands() if v.node.op == "state"]
    if node in context.updates:
        found.append(context.updates[node])
    return list(dict.fromkeys(found))


def is_list(node: Node) -> bool:
    """Whether it works on a list of values."""
    return node.op.startswith("list_") or node.op == "make_list"
