"""How long cl.placement takes for a program of 5,000 operations, a fifth of them barred.

Operations are of fifteen types, with branches, and six reasons of different kinds. The yardstick is
describing the same program (``describe``), in turns. Target: less than 2 s of processor time.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from coreml_lab.explain.page import Page
from coreml_lab.explain.placing import page
from coreml_lab.explain.placing.beside import beside
from coreml_lab.explain.placing.estimate import estimate
from coreml_lab.explain.placing.tables import chip
from coreml_lab.program.graph import Graph, Value
from coreml_lab.program.program import describe
from tests.support.op_nodes import conv, given, node

OPS, ROUNDS, MOST_S = 5_000, 7, 2.0
TYPES = ("relu", "sigmoid", "softmax", "layer_norm", "erf", "gelu", "sqrt", "exp", "tanh")
BARRED = ("cumsum", "tan", "sinh", "acos", "mod", "asin")


def program(seed: int) -> Graph:
    """Operations on what one of the last eight made; a tenth are convolutions."""
    chance = random.Random(seed)
    values = [given(1, 64, 32, 32)]
    for i in range(OPS):
        x, draw = values[chance.randint(max(0, i - 8), i)], chance.random()
        if draw < 0.1:
            made = conv(x, name=f"n{i}")
        elif draw < 0.3:
            made = node(chance.choice(BARRED), {"x": x}, name=f"n{i}")
        elif draw < 0.5:
            made = node("add", {"x": x, "y": values[-1]}, name=f"n{i}")
        else:
            made = node(chance.choice(TYPES), {"x": x}, name=f"n{i}")
        values.append(Value(made))
    return Graph({f"y{i}": value for i, value in enumerate(values[1:])})


def timed(work: Any) -> float:
    """Seconds of one call, of this process's own processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    """Print a line; 1 where the target is missed."""
    graph = program(1)

    def described() -> Any:
        return describe(graph, name="net", key="", package=Path(), function="", size=0)

    info = described()

    def placed() -> Page:
        found = estimate(graph, info, chip("M4"), "ALL")
        return page.page(found, beside((), found))

    timed(placed), timed(described)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(timed(placed))
        theirs.append(timed(described))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"placement of {len(graph.ops)} operations: median {statistics.median(ours):.2f} s "
        f"[{min(ours):.2f}, {max(ours):.2f}], {statistics.median(ratios):.0f} times describing "
        f"them [{min(ratios):.0f}, {max(ratios):.0f}]; target < {MOST_S:g} s"
    )
    return int(statistics.median(ours) >= MOST_S)


if __name__ == "__main__":
    sys.exit(main())
