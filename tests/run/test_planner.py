"""plan(): the best cuts, thresholds, conditions, and the sentences about them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreml_lab.errors import UnsupportedOp
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Block, Graph, Node, TensorType, Value
from coreml_lab.run.planner import Plan, plan
from coreml_lab.run.split.costs import Cost, Costs, speed
from coreml_lab.run.split.layout import Layout, grouped, lay_out
from coreml_lab.run.split.places import Place
from coreml_lab.run.split.strategy import BALANCED, BATTERY, PERFORMANCE, Conditions, Strategy
from tests.support.splits import KIND, SIZE, added, chain, graph_of, infos

CPU, GPU, NUMPY = (
    Place("portable", "coreml:0"),
    Place("pytorch", "cuda:0"),
    Place("reference", "cpu"),
)
MS = 1e-3


def known(times: Mapping[tuple[Place, str], float], graph: Graph) -> Costs:
    """Measured seconds of operations on places."""
    rows = {
        f"{place.engine}|{place.device}||{node.name}|{node.name}": Cost(
            times[place, node.name], Provenance.MEASURED
        )
        for place in {p for p, _ in times}
        for node in graph.ops
        if (place, node.name) in times
    }
    return Costs(rows)


def planned(
    graph: Graph,
    times: Mapping[tuple[Place, str], float],
    places: Sequence[Place] = (CPU, GPU),
    strategy: Strategy = PERFORMANCE,
    conditions: Conditions | None = None,
) -> Plan:
    """A plan by measured times."""
    costs = known(times, graph)
    return plan(graph, infos(graph), places, costs, strategy=strategy, conditions=conditions)


def even(graph: Graph, times: Mapping[Place, float]) -> dict[tuple[Place, str], float]:
    """The same time for every operation of a place."""
    return {(p, n.name): seconds for p, seconds in times.items() for n in graph.ops}


def where(found: Plan) -> list[tuple[str, int]]:
    """Engine and number of operations of each segment."""
    return [(s.engine, len(s.nodes)) for s in found.segments]


def test_a_program_stays_whole_where_one_engine_is_best_for_all_of_it() -> None:
    graph = chain(5)
    assert where(planned(graph, even(graph, {CPU: 1 * MS, GPU: 2 * MS}))) == [("portable", 5)]
    assert where(planned(graph, even(graph, {CPU: 2 * MS, GPU: 0.1 * MS}))) == [("pytorch", 5)]


def test_what_is_faster_elsewhere_goes_there_only_where_it_outweighs_the_transfer() -> None:
    graph = chain(4)
    times = even(graph, {CPU: 0.1 * MS, GPU: 0.1 * MS})
    times |= {(CPU, "op_1"): 5 * MS, (GPU, "op_1"): 0.2 * MS, (GPU, "op_2"): 8 * MS}
    found = planned(graph, times)
    assert ("op_1",) in [s.nodes[-1:] for s in found.segments if s.engine == "pytorch"]
    assert found.split
    times[CPU, "op_1"] = 0.22 * MS  # 0.02 ms to win, over 0.1 ms of call and transfer to pay
    assert not planned(graph, times).split


def brute_force(
    layout: Layout, places: Sequence[Place], times: Mapping[tuple[Place, str], float]
) -> float:
    """The least seconds over every way to cut the row and every choice of places."""
    count = len(layout.nodes)
    best = math.inf
    for cuts in itertools.product((False, True), repeat=count - 1):
        ends = [i + 1 for i, cut in enumerate(cuts) if cut] + [count]
        starts = [0, *ends[:-1]]
        total = 0.0
        for start, end in zip(starts, ends, strict=True):
            total += min(_seconds(layout, p, times, start, end) for p in places)
        best = min(best, total)
    return best


def _seconds(
    layout: Layout, place: Place, times: Mapping[tuple[Place, str], float], start: int, end: int
) -> float:
    thumb = speed(place.engine, place.device)
    taken = [
        w for w in layout.wires if w.maker < start and any(start <= r < end for r in w.readers)
    ]
    given_away = [w for w in layout.wires if start <= w.maker < end and w.readers[-1] >= end]
    moved = [w.bytes for w in (*taken, *given_away)]
    work = sum(times[place, n.name] for n in layout.nodes[start:end])
    return work + thumb.call + len(moved) * thumb.latency + sum(moved) / thumb.link


@st.composite
def programs(draw: st.DrawFn) -> tuple[Graph, dict[tuple[Place, str], float]]:
    """Any small graph with any times."""
    count = draw(st.integers(1, 7))
    reads = [(draw(st.integers(0, i)), draw(st.integers(0, i))) for i in range(count)]
    outputs = draw(st.lists(st.integers(1, count), min_size=1, max_size=2, unique=True))
    graph = graph_of(reads, outputs)
    seconds = st.floats(1e-6, 5e-4)
    return graph, {(p, n.name): draw(seconds) for p in (CPU, GPU, NUMPY) for n in graph.ops}


@settings(max_examples=60, deadline=None)
@given(programs())
def test_no_other_way_to_cut_any_graph_takes_less(
    case: tuple[Graph, dict[tuple[Place, str], float]],
) -> None:
    graph, times = case
    places = (CPU, GPU, NUMPY)
    found = planned(graph, times, places, Strategy("exact", gain=1.0))
    layout = lay_out(graph, infos(graph))
    assert found.total.seconds == pytest.approx(brute_force(layout, places, times))
    assert [n for s in found.segments for n in s.nodes] == [n.name for n in layout.nodes]


def test_an_operation_that_one_engine_lacks_runs_elsewhere_and_the_rest_stays() -> None:
    graph = chain(5)
    picky = dataclasses.replace(CPU, lacks={"op_2": "no such kernel"})
    found = planned(graph, even(graph, {CPU: 1 * MS, NUMPY: 30 * MS}), (picky, NUMPY))
    assert where(found) == [("portable", 2), ("reference", 1), ("portable", 2)]
    assert "portable (coreml:0) cannot run op_2: no such kernel" in found.segments[1].reason


def test_branches_are_reordered_so_that_what_one_engine_lacks_stands_together() -> None:
    # Three branches of the input, an unsupported operation at the end of each, joined at the end.
    x = Value(Node("input", (KIND,), name="x"))
    odd = [added(f"odd_{i}", added(f"plain_{i}", x)) for i in range(3)]
    graph = Graph({"y": added("join", added("pair", odd[0], odd[1]), odd[2])})
    picky = dataclasses.replace(CPU, lacks={f"odd_{i}": "no" for i in range(3)})
    found = planned(graph, even(graph, {CPU: 1 * MS, NUMPY: 30 * MS}), (picky, NUMPY))
    assert where(found) == [("portable", 3), ("reference", 3), ("portable", 2)]


def test_an_operation_nobody_runs_is_refused_with_everybodys_reason() -> None:
    graph = chain(2)
    places = [dataclasses.replace(p, lacks={"op_1": f"{p.engine} lacks it"}) for p in (CPU, NUMPY)]
    with pytest.raises(UnsupportedOp, match=r"op_1.*portable lacks it.*reference lacks it"):
        planned(graph, even(graph, {CPU: MS, NUMPY: MS}), places)


def test_operations_that_touch_one_state_are_not_parted() -> None:
    x = Value(Node("input", (KIND,), name="x"))
    held = Node("state", (KIND,), name="held")
    first = added("read", x, Value(held))
    new = added("write", added("middle", first), x)
    graph = Graph({"y": added("after", new)}, states={"held": held}, updates={"held": new})
    slow = even(graph, {CPU: 0.1 * MS, GPU: 0.1 * MS}) | {(CPU, "middle"): 0.5 * MS}
    found = planned(graph, slow)
    inside = [s for s in found.segments if "read" in s.nodes]
    assert {"read", "middle", "write"} <= set(inside[0].nodes)
    picky = dataclasses.replace(CPU, lacks={"middle": "no"})
    found = planned(graph, even(graph, {CPU: MS, NUMPY: 30 * MS}), (picky, NUMPY))
    home = next(s for s in found.segments if "middle" in s.nodes)
    assert home.engine == "reference"
    assert {"read", "middle", "write"} <= set(home.nodes)


def test_a_loop_is_one_operation_with_what_it_reads() -> None:
    x = Value(Node("input", (KIND,), name="x"))
    base = added("base", x)
    counter = Node("input", (KIND,), name="i")
    inner = added("inner", Value(counter), base)
    flag = Value(Node("less", (TensorType((), KIND.dtype),), {"x": inner}, name="flag"))
    body = Block((counter,), (inner.node,), (inner,))
    test = Block((counter,), (inner.node, flag.node), (flag,))
    loop = Node("while_loop", (KIND,), {"loop_vars": (x,)}, blocks=(test, body), name="loop")
    layout = lay_out(Graph({"y": Value(loop)}), ())
    assert [n.name for n in layout.nodes] == ["base", "loop"]
    crossing = {(w.maker, w.readers) for w in layout.wires}
    assert crossing == {(-1, (0, 1)), (0, (1,)), (1, (2,))}


def test_small_segments_do_not_go_to_a_gpu_and_the_threshold_is_lifted_where_it_must_be() -> None:
    graph = chain(3)
    times = even(graph, {CPU: 5 * MS, GPU: 0.01 * MS})
    few = Strategy("few", smallest=3 * 1024 + 1)
    assert where(planned(graph, times, strategy=few)) == [("portable", 3)]
    assert where(planned(graph, times, strategy=Strategy("all", smallest=3 * 1024))) == [
        ("pytorch", 3)
    ]
    found = planned(graph, times, (GPU,), few)
    assert where(found) == [("pytorch", 3)]
    assert any("lifted" in note for note in found.notes)


def test_a_device_without_enough_memory_gets_nothing() -> None:
    graph = chain(3)
    times = even(graph, {CPU: 5 * MS, GPU: 0.01 * MS})
    roomy, tight = ({"cuda:0": int(n * SIZE)} for n in (4, 2))
    assert where(planned(graph, times, conditions=Conditions(free=roomy))) == [("pytorch", 3)]
    assert where(planned(graph, times, conditions=Conditions(free=tight))) == [("portable", 3)]


def test_under_memory_pressure_half_as_much_is_used() -> None:
    graph, free = chain(3), {"cuda:0": int(3 * SIZE)}
    times = even(graph, {CPU: 5 * MS, GPU: 0.01 * MS})
    calm, pressed = Conditions(free=free), Conditions(free=free, pressure=0.5)
    assert where(planned(graph, times, conditions=calm)) == [("pytorch", 3)]
    found = planned(graph, times, conditions=pressed)
    assert where(found) == [("portable", 3)]
    assert any("pressure 0.5" in note for note in found.notes)


@pytest.mark.parametrize(
    ("strategy", "conditions", "engine"),
    [
        (PERFORMANCE, Conditions(), "pytorch"),
        (BATTERY, Conditions(), "portable"),
        (BALANCED, Conditions(power="mains"), "pytorch"),
        (BALANCED, Conditions(power="battery"), "portable"),
        (PERFORMANCE, Conditions(power="battery"), "pytorch"),
        (PERFORMANCE, Conditions(thermal="serious"), "portable"),
        (PERFORMANCE, Conditions(thermal="unknown", power="unknown"), "pytorch"),
    ],
)
def test_strategy_battery_and_heat_decide_how_much_energy_counts(
    strategy: Strategy, conditions: Conditions, engine: str
) -> None:
    # Three times as fast for ten times the power.
    graph = chain(40)
    times = even(graph, {CPU: 3 * MS, GPU: 1 * MS})
    open_to_all = dataclasses.replace(strategy, smallest=0)
    found = planned(graph, times, strategy=open_to_all, conditions=conditions)
    assert where(found) == [(engine, 40)]


def test_a_split_that_gains_too_little_is_not_made() -> None:
    graph = chain(2)
    times = {(CPU, "op_0"): 1 * MS, (NUMPY, "op_0"): 9 * MS, (CPU, "op_1"): 1 * MS}
    times[NUMPY, "op_1"] = 0.9 * MS
    split = planned(graph, times, (CPU, NUMPY), Strategy("a", gain=1.0))
    assert where(split) == [("portable", 1), ("reference", 1)]
    whole = planned(graph, times, (CPU, NUMPY), Strategy("b", gain=1.1))
    assert where(whole) == [("portable", 2)]


def test_each_segment_is_a_sentence_with_its_numbers_and_where_they_come_from() -> None:
    graph = chain(2)
    times = {(CPU, "op_0"): 9 * MS, (GPU, "op_0"): 0.2 * MS, (CPU, "op_1"): 0.1 * MS}
    times[GPU, "op_1"] = 5 * MS
    found = planned(graph, times)
    text = str(found)
    assert "strategy performance" in text
    assert text.splitlines()[1] == (
        "op_0 on pytorch (cuda:0): 0.2 ms (measured) there, 0.291 ms (estimated) with start and "
        "transfer, against 9.02 ms (estimated) on portable (coreml:0)"
    )
    assert "4 of 4 times come from recordings" in text
    assert found.total.provenance is Provenance.ESTIMATED


def test_what_a_threshold_leaves_out_is_no_rival_and_says_why() -> None:
    graph = chain(3)
    times = even(graph, {CPU: 5 * MS, GPU: 0.01 * MS})
    few = planned(graph, times, strategy=Strategy("few", smallest=1_000_000))
    assert few.segments[0].reason == (
        "3 operations (op_0 … op_2) on portable (coreml:0): 15 ms (measured) there, "
        "15 ms (estimated) with start and transfer; pytorch (cuda:0) is left out: "
        "3,072 results, the strategy sends 1,000,000 or more"
    )
    tight = planned(graph, times, conditions=Conditions(free={"cuda:0": int(2 * SIZE)}))
    assert tight.segments[0].reason.endswith(
        "; pytorch (cuda:0) is left out: it needs 8.19 kB, and may take 7.37 kB"
    )
    second = dataclasses.replace(GPU, device="cuda:1")
    both = planned(graph, times, (CPU, GPU, second), Strategy("few", smallest=5000))
    assert "pytorch (cuda:0) and pytorch (cuda:1) are left out: 3,072" in str(both)


def test_a_rival_that_is_faster_says_why_it_is_not_taken() -> None:
    graph = chain(3)
    slow = even(graph, {CPU: 0.3 * MS, GPU: 0.2 * MS})
    energy = planned(graph, slow, strategy=Strategy("all", energy=1.0))
    assert where(energy) == [("portable", 3)]
    assert energy.segments[0].reason.endswith(
        "against 0.691 ms (estimated) on pytorch (cuda:0), which draws more power"
    )
    helper = dataclasses.replace(CPU, handicap=100.0)
    helped = planned(graph, even(graph, {NUMPY: MS, CPU: 0.1 * MS}), (NUMPY, helper))
    assert helped.segments[0].reason.endswith("on portable (coreml:0), which only helps out")


def test_every_engine_is_compared_by_what_it_takes_with_start_and_transfer() -> None:
    graph = chain(2)
    found = planned(graph, even(graph, {CPU: 0.05 * MS, GPU: 0.02 * MS}))
    # 0.04 ms of work against 0.1, and yet it stays: there and back takes more than is gained.
    assert found.segments[0].reason.endswith(
        "0.1 ms (measured) there, 0.115 ms (estimated) with start and transfer, "
        "against 0.131 ms (estimated) on pytorch (cuda:0)"
    )


def test_time_where_a_place_only_helps_out_counts_by_its_handicap() -> None:
    graph = chain(3)
    home = dataclasses.replace(NUMPY, lacks={"op_1": "no"})
    times = even(graph, {NUMPY: 1 * MS, CPU: 0.1 * MS})
    assert where(planned(graph, times, (home, CPU))) == [("portable", 3)]
    helper = dataclasses.replace(CPU, handicap=100.0)
    found = planned(graph, times, (home, helper))
    assert where(found) == [("reference", 1), ("portable", 1), ("reference", 1)]


def test_grouping_keeps_to_what_depends_on_what() -> None:
    graph = graph_of([(0, 0), (1, 1), (0, 0), (2, 3), (3, 4)], outputs=(-1, 1))
    layout = lay_out(graph, infos(graph))
    kinds = [frozenset({0, 1}) if i % 2 else frozenset({1}) for i in range(len(layout.nodes))]
    order = grouped(layout, kinds)
    assert sorted(order) == list(range(len(layout.nodes)))
    again = layout.reordered(order)
    assert all(w.maker < w.readers[0] for w in again.wires)


def test_an_empty_program_has_an_empty_plan() -> None:
    x = Value(Node("input", (KIND,), name="x"))
    assert planned(Graph({"y": x}), {}).segments == ()
