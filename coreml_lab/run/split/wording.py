"""Numbers and names as the sentences of a plan have them."""

from __future__ import annotations

from collections.abc import Sequence

from coreml_lab.run.split.costs import Cost, worst

THOUSAND = 1000.0


def named(nodes: Sequence[str]) -> str:
    """``gelu_3``, or ``12 operations (conv_0 … relu_5)``."""
    if len(nodes) == 1:
        return nodes[0]
    return f"{len(nodes)} operations ({nodes[0]} … {nodes[-1]})"


def told(cost: Cost) -> str:
    """``0.21 ms (measured)``."""
    return f"{cost.seconds * 1e3:.3g} ms ({cost.provenance.value})"


def both(first: Cost, second: Cost) -> Cost:
    """The sum of two; as certain as the less certain one."""
    return Cost(first.seconds + second.seconds, worst((first.provenance, second.provenance)))


def sized(size: float) -> str:
    """Bytes: ``12.3 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < THOUSAND:
            return f"{size:.3g} {unit}"
        size /= THOUSAND
    return f"{size:.3g} GB"
