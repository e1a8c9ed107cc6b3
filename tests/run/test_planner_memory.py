"""Plans and memory: limits of all segments together, what counts, and when they are lifted."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.program.program import describe
from coreml_lab.records import OpInfo
from coreml_lab.run.planner import Plan, plan
from coreml_lab.run.split.costs import Costs
from coreml_lab.run.split.layout import lay_out
from coreml_lab.run.split.places import Place
from coreml_lab.run.split.strategy import BALANCED, PERFORMANCE, Conditions, Strategy
from tests.support.splits import SIZE, chain, graph_of, infos

GB = 10**9
CPU, GPU = Place("portable", "coreml:0"), Place("pytorch", "cuda:0")
ROOM = {"cuda:0": 4 * GB, "coreml:0": 100 * GB}


def weighing(graph: Graph, weights: Mapping[str, int]) -> tuple[OpInfo, ...]:
    """The rows of a graph, some of them with weights."""
    return tuple(dataclasses.replace(i, weight_bytes=weights.get(i.name, 0)) for i in infos(graph))


def planned(
    graph: Graph,
    weights: Mapping[str, int],
    free: Mapping[str, int],
    *,
    places: tuple[Place, ...] = (CPU, GPU),
    strategy: Strategy = PERFORMANCE,
    homes: Mapping[str, str] | None = None,
) -> Plan:
    """A plan by rules of thumb and free memory."""
    now = Conditions(free=free, homes=homes or {})
    rows = weighing(graph, weights)
    return plan(graph, rows, places, Costs(), strategy=strategy, conditions=now)


def where(found: Plan) -> list[tuple[str, int]]:
    """Device and number of operations of each segment."""
    return [(s.device, len(s.nodes)) for s in found.segments]


def test_all_segments_of_a_device_together_stay_within_its_limit() -> None:
    graph = chain(6)
    found = planned(graph, {f"op_{i}": 3 * GB for i in range(6)}, ROOM)
    assert sum(n for device, n in where(found) if device == "cuda:0") == 1
    assert "pytorch (cuda:0) is left out: it needs 6 GB, and may take 3.6 GB" in str(found)
    assert not any("lifted" in note for note in found.notes)


def test_what_would_fit_alone_says_that_other_segments_took_the_memory() -> None:
    graph = chain(3)
    home = dataclasses.replace(CPU, lacks={"op_1": "no"})
    last = Place("reference", "cpu")
    weights = {"op_0": 2 * GB, "op_1": 1000, "op_2": 3 * GB}
    slow = dataclasses.replace(GPU, lacks={"op_1": "no"})
    found = planned(graph, weights, ROOM, places=(home, slow, last))
    assert where(found) == [("coreml:0", 1), ("cpu", 1), ("cuda:0", 1)]
    assert found.segments[0].reason.endswith(
        "pytorch (cuda:0) is left out: with other segments it needs 5 GB, and may take 3.6 GB"
    )


def test_devices_that_are_one_memory_count_together() -> None:
    graph = chain(2)
    weights = {"op_0": 3 * GB, "op_1": 3 * GB}
    one = dataclasses.replace(CPU, lacks={"op_1": "no"})
    two = Place("reference", "cpu", {"op_0": "no"})
    free = {"cpu": 4 * GB, "coreml:0": 4 * GB, "cuda:0": 4 * GB}
    apart = planned(graph, weights, free, places=(one, two))
    assert not any("lifted" in note for note in apart.notes)
    shared = planned(graph, weights, free, places=(one, two), homes={"coreml:0": "cpu"})
    assert any("lifted on cpu, 6 GB where 3.6 GB" in note for note in shared.notes)
    helped = planned(graph, weights, free, places=(one, two, GPU), homes={"coreml:0": "cpu"})
    assert "cuda:0" in dict(where(helped))
    assert not any("lifted" in note for note in helped.notes)


def test_arrays_inside_a_segment_count_against_the_limit() -> None:
    big, small = (TensorType((n,), np.dtype(np.float32)) for n in (GB, 1))
    value = Value(Node("input", (small,), name="x"))
    for op, kind in (("tile", big), ("exp", big), ("reduce_sum", small)):
        value = Value(Node(op, (kind,), {"x": value}, name=op))
    graph = Graph({"y": value})
    found = planned(graph, {}, ROOM)
    assert where(found) == [("coreml:0", 3)]
    assert "it needs 8 GB, and may take 3.6 GB" in str(found)


def test_weights_behind_fixed_operations_count_for_who_reads_them_once() -> None:
    packed = np.zeros((512, 512), np.int8)
    kind = TensorType((512, 512), np.dtype(np.float32))
    data = Value(Node("const", (kind,), attrs={"val": packed}, name="data"))
    wide = Value(Node("constexpr_x", (kind,), {"data": data}, name="wide"))
    value = Value(Node("input", (kind,), name="x"))
    for i in range(2):
        value = Value(Node("matmul", (kind,), {"x": value, "y": wide}, name=f"product_{i}"))
    graph = Graph({"y": value})
    info = describe(graph, name="net", key="k", package=Path(), function="", size=0)
    layout = lay_out(graph, info.ops)
    assert [w.weights for w in layout.works] == [packed.nbytes, 0]


def test_thresholds_are_lifted_only_for_what_has_no_other_place() -> None:
    graph = chain(4)
    home = dataclasses.replace(CPU, lacks={"op_0": "no kernel"})
    heavy = {f"op_{i}": 6 * GB for i in (1, 2, 3)}
    found = planned(graph, heavy, ROOM, places=(home, GPU), strategy=BALANCED)
    assert where(found) == [("cuda:0", 1), ("coreml:0", 3)]
    assert found.notes[0] == (
        "the threshold of size was lifted for op_0, 1,024 results: no place but pytorch (cuda:0) "
        "has the operations and the memory"
    )
    assert not any("limit of memory" in note for note in found.notes)


def test_where_the_limit_cannot_hold_the_least_above_it_is_taken_and_told() -> None:
    graph = chain(2)
    home = dataclasses.replace(CPU, lacks={"op_0": "no kernel"})
    found = planned(graph, {"op_0": 6 * GB, "op_1": 6 * GB}, ROOM, places=(home, GPU))
    assert where(found) == [("cuda:0", 1), ("coreml:0", 1)]
    assert any(
        note == "the limit of memory was lifted on cuda:0, 6 GB where 3.6 GB may be taken: "
        "nothing else was found to run it"
        for note in found.notes
    )


def test_notes_tell_what_decided_and_do_not_contradict_one_another() -> None:
    graph = chain(2)
    now = Conditions("battery", "critical", 0.5, {"coreml:0": 10})
    found = plan(graph, infos(graph), (CPU,), Costs(), strategy=BALANCED, conditions=now)
    assert [n for n in found.notes if n.startswith("energy counts")] == [
        "energy counts by 2: heat slows the machine (critical)"
    ]
    assert any("was lifted" in n for n in found.notes)
    assert not any("memory is short" in n for n in found.notes)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_limit_is_broken_where_another_place_has_room(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    graph = graph_of([(data.draw(st.integers(max(0, i - 1), i)), i) for i in range(count)])
    sizes = st.sampled_from([0, 1000, GB // 2, GB, GB])
    weights = {n.name: data.draw(sizes) for n in graph.ops}
    free = {
        "cuda:0": data.draw(st.sampled_from([0, GB, 3 * GB // 2, 5 * GB // 2])),
        "coreml:0": 100 * GB,
    }
    found = planned(graph, weights, free)
    held = sum(weights[n] for s in found.segments if s.device == "cuda:0" for n in s.nodes)
    assert held <= 0.9 * free["cuda:0"]
    places = [s.device for s in found.segments]
    assert all(one != other for one, other in itertools.pairwise(places))
    assert not any("lifted" in note for note in found.notes)


def test_planning_a_long_program_keeps_no_table_of_all_segments() -> None:
    graph = chain(1200)
    rows = infos(graph)
    free = {"cuda:0": int(300 * SIZE), "coreml:0": GB}
    tracemalloc.start()
    try:
        now = Conditions(free=free)
        plan(graph, rows, (CPU, GPU), Costs(), strategy=BALANCED, conditions=now)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1200 * 1200 * 8  # one number for each segment of one place
