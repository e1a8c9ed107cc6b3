"""Which ops an engine folded into which: the ones without a kernel of their own (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

# What engines fold into the kernel before them; everything else is folded into the kernel after it.
FOLLOWERS = frozenset(
    {"relu", "relu6", "leaky_relu", "clip", "sigmoid", "sigmoid_hard", "tanh", "batch_norm"}
    | {"add", "sub", "mul", "cast", "identity"}
)

# Kinds that do the work of a fused group, whichever member the engine named it after.
LEADERS = frozenset({"conv", "conv_transpose", "linear", "matmul", "einsum"})


def leader(name: str, fused: tuple[str, ...], ops: Mapping[str, str]) -> str:
    """The member of a fused group that does the work."""
    return next((n for n in (name, *fused) if ops.get(n) in LEADERS), name)


def absorbed(
    ops: Mapping[str, str], parents: Mapping[str, str], ran: AbstractSet[str]
) -> dict[str, tuple[str, ...]]:
    """Per op that ran: the names of those it absorbed.

    Args:
        ops: name -> kind of every op, in execution order.
        parents: name -> the op that computes its first operand ("" at the inputs).
        ran: the ops that have a kernel.
    """
    homes = _into_the_kernel_before(ops, parents, ran)
    for name in reversed(tuple(ops)):
        if name in ran:
            above = parents.get(name, "")
            while above and above not in ran and above not in homes:
                homes[above] = name
                above = parents.get(above, "")
    # What is left (results that nothing else reads, say) goes to its nearest ancestor.
    for name in ops:
        if name not in ran and name not in homes and (home := _ancestor(name, parents, ran)):
            homes[name] = home
    found: dict[str, list[str]] = {}
    for name in ops:
        if name in homes:
            found.setdefault(homes[name], []).append(name)
    return {home: tuple(names) for home, names in found.items()}


def _into_the_kernel_before(
    ops: Mapping[str, str], parents: Mapping[str, str], ran: AbstractSet[str]
) -> dict[str, str]:
    homes: dict[str, str] = {}
    for name, kind in ops.items():
        above = parents.get(name, "")
        if name not in ran and kind in FOLLOWERS and above:
            home = above if above in ran else homes.get(above, "")
            if home:
                homes[name] = home
    return homes


def _ancestor(name: str, parents: Mapping[str, str], ran: AbstractSet[str]) -> str:
    while name and name not in ran:
        name = parents.get(name, "")
    return name
