"""How long plan() takes for 500 operations on four engines, three of which lack some of them.

The graph is a random one with branches; costs are a mix of measured and default ones. The yardstick
is walking the same graph and describing it (``describe``), in turns. Target: less than 50 ms.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Graph
from coreml_lab.program.program import describe
from coreml_lab.run.planner import plan
from coreml_lab.run.split.costs import Cost, Costs, key
from coreml_lab.run.split.places import Place
from coreml_lab.run.split.strategy import PERFORMANCE
from tests.support.splits import graph_of

OPS, ROUNDS, MOST_MS = 500, 30, 50.0


def program(seed: int) -> Graph:
    """Additions that read one of the last eight values each, and the one before."""
    chance = random.Random(seed)
    return graph_of([(i, chance.randint(max(0, i - 8), i)) for i in range(OPS)])


def timed(work: Any) -> float:
    """Milliseconds of one call, of this process's own processor time."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def main() -> int:
    """Print a line; 1 where the target is missed."""
    graph = program(1)
    info = describe(graph, name="net", key="k", package=Path(), function="", size=0)
    chance = random.Random(2)
    lacks, others = ({n.name: "no" for n in graph.ops if chance.random() < 0.05} for _ in "ab")
    places = [
        Place("portable", "coreml:0", lacks),
        Place("pytorch", "cuda:0", others),
        Place("tinygrad", "opencl:0", lacks),
        Place("reference", "cpu"),
    ]
    costs = Costs({f"portable|coreml:0|{key(info.ops[0])}": Cost(1e-5, Provenance.MEASURED)})

    def planned() -> Any:
        return plan(graph, info.ops, places, costs, strategy=PERFORMANCE)

    def described() -> Any:
        return describe(graph, name="net", key="k", package=Path(), function="", size=0)

    timed(planned), timed(described)
    pairs = [(timed(planned), timed(described)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    met = ours < MOST_MS
    print(
        f"{OPS} operations, {len(places)} engines, {len(lacks)} operations lacking on two of them"
    )
    print(
        f"plan()  {ours:6.1f} ms [{min(p for p, _ in pairs):.1f} … {max(p for p, _ in pairs):.1f}]"
        f"  {ours / theirs:.1f} x describe()  target < {MOST_MS:g} ms: {'met' if met else 'MISSED'}"
    )
    print(f"{len(planned().segments)} segments")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
