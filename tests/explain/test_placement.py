"""placement(): what it says of whole programs, and how it says it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import records
from coreml_lab.errors import LabError, UnknownParameter
from coreml_lab.explain.placement import ChipComparison, PlacementEstimate
from coreml_lab.explain.placing import calibration, planner, roofline
from coreml_lab.explain.placing.beside import beside
from coreml_lab.explain.placing.estimate import UNITS, estimate
from coreml_lab.explain.placing.estimated import Estimated
from coreml_lab.explain.placing.tables import chip, chips
from coreml_lab.explain.placing.workload import Sizes, workload
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Dim, Graph, Node, Value
from tests.support.op_nodes import conv, described, given, held, kind, node


def placed(graph: Graph, on: str = "M4", units: str = "CPU_AND_NE", name: str = "net") -> Estimated:
    return estimate(graph, described(graph, name), chip(on), units)


def chain(*made: Callable[[Value], Node], start: Value | None = None) -> Graph:
    """Operations, each of what came before it."""
    value = start or given(1, 64, 32, 32)
    for function in made:
        value = Value(function(value))
    return Graph({"y": value})


def convolution(name: str) -> Callable[[Value], Node]:
    return lambda x: conv(x, 3, 3, name=name)


def unary(op: str, **attrs: Any) -> Callable[[Value], Node]:
    return lambda x: node(op, {"x": x}, **attrs)


@pytest.fixture(scope="module")
def digits() -> cl.Model:
    return cl.zoo.digits(precision="fp16", engine="reference", device="cpu")


def test_the_published_placements_come_out_of_programs() -> None:
    four = [convolution(f"c{i}") for i in range(4)]
    assert [op.device for op in placed(chain(four[0])).ops] == ["cpu"]
    assert [op.device for op in placed(chain(*four)).ops] == ["ne"] * 4
    torn = placed(chain(*four[:2], unary("cumsum"), *four[2:]))
    assert {op.device for op in torn.ops} == {"cpu"}
    assert torn.transitions == ()


def test_compute_units_bound_where_operations_run_and_not_where_they_could() -> None:
    graph = chain(*[convolution(f"c{i}") for i in range(30)])
    for units, allowed in UNITS.items():
        found = placed(graph, units=units)
        assert {op.device for op in found.ops} <= set(allowed)
        assert all(op.supported == ("cpu", "gpu", "ne") for op in found.ops)
    assert {op.device for op in placed(graph, units="ALL").ops} == {"ne"}
    assert {op.device for op in placed(graph, units="CPU_AND_GPU").ops} == {"gpu"}
    assert placed(graph, units="CPU_ONLY").changes == ()


def test_a_change_of_device_has_a_place_and_a_cost() -> None:
    made = [convolution(f"c{i}") for i in range(12)]
    found = placed(chain(*made[:6], unary("cumsum", name="sum"), *made[6:]))
    assert [(t.node, t.before, t.after) for t in found.transitions] == [
        ("sum", "ne", "cpu"), ("c6", "cpu", "ne"),
    ]  # fmt: skip
    assert all(t.cost.value == planner.fixed().switch for t in found.transitions)
    assert [s.nodes for s in found.stretches][1] == ("sum",)
    assert found.busy[calibration.OVERHEAD] == 2 * planner.fixed().switch
    assert found.time.value == pytest.approx(sum(found.busy.values()))


def test_what_would_gain_most_is_worked_out_by_placing_without_the_reason() -> None:
    made = [convolution(f"c{i}") for i in range(12)]
    with_it = placed(chain(*made[:6], unary("cumsum"), *made[6:]))
    (change,) = with_it.changes
    assert (change.kind, change.what, change.transitions, change.share) == (
        "operation", "cumsum", 0, 1.0,
    )  # fmt: skip
    # What is saved are two changes, a second start and the operation's time on the CPU.
    least = 2 * planner.fixed().switch + roofline.call("ne", chip("M4"))
    assert least < change.gain.value < with_it.time.value
    assert change.remedy
    (op,) = (op for op in with_it.ops if op.op == "cumsum")
    assert op.gain.value > 0


def test_a_program_in_fp32_gains_by_one_change_for_all_of_it() -> None:
    start = given(1, 64, 32, 32, dtype=np.float32)
    made = [convolution(f"c{i}") for i in range(6)]
    found = placed(chain(*made, start=start))
    assert {op.device for op in found.ops} == {"cpu"}
    (change,) = found.changes
    assert (change.kind, change.what, len(change.nodes)) == ("precision", "program", 6)
    assert change.gain.value > 0


def test_an_operation_that_two_reasons_bar_is_freed_by_neither() -> None:
    start = given(1, 64, 32, 32, dtype=np.float32)
    found = placed(chain(unary("cumsum"), *[convolution(f"c{i}") for i in range(6)], start=start))
    assert sorted((change.kind, len(change.nodes)) for change in found.changes) == [
        ("every reason", 7), ("precision", 6),
    ]  # fmt: skip
    gains = {change.kind: change.gain.value for change in found.changes}
    assert gains["every reason"] > gains["precision"]


def test_what_can_run_there_but_does_not_says_why() -> None:
    text = str(PlacementEstimate(placed(chain(convolution("c"))), beside((), placed(chain()))))
    assert "going there and back costs more than it gains" in text
    assert "so small that going there would cost more than it gains" in text


def test_side_branches_do_not_tear_a_stretch() -> None:
    # Indices are worked out between two convolutions, in the program's order; nothing waits there.
    x, index = given(1, 64, 32, 32), given(4, dtype=np.int32, name="i")
    value = Value(conv(x, name="c0"))
    for i in range(1, 12):
        row = node("add", {"x": index, "y": index}, kind(4, dtype=np.int32), name=f"i{i}")
        picked = node(
            "gather", {"x": held(8, 64), "indices": Value(row)}, kind(4, 64), name=f"g{i}"
        )
        mean = node("reduce_mean", {"x": Value(picked)}, kind(1, 1), name=f"m{i}")
        value = Value(conv(value, name=f"c{i}"))
        value = Value(node("mul", {"x": value, "y": Value(mean)}, value.type, name=f"s{i}"))
    found = placed(Graph({"y": value}))
    assert len(found.transitions) <= 2
    assert all(op.device == "ne" for op in found.ops if op.op == "conv")


def test_flexible_dimensions_are_the_usual_ones_and_bar() -> None:
    x = given(Dim("n", 2, 64), 8, name="x")
    graph = Graph({"y": Value(node("softmax", {"x": x}))})
    found = placed(graph)
    assert found.ops[0].reasons[0].kind == "flexible shape"
    assert found.assumed == {"n": 2}
    info = described(graph)
    usual = records.PortInfo("x", ("n", 8), "fp16", default_shape=(16, 8))
    enumerated = records.PortInfo("x", ("n", 8), "fp16", enumerated=((16, 8), (32, 8)))
    for port, size, barred in ((usual, 16, True), (enumerated, 2, False)):
        found = estimate(graph, _with_input(info, port), chip("M4"), "ALL")
        assert found.assumed == {"n": size}
        assert bool(found.ops[0].reasons) is barred


def _with_input(info: records.ProgramInfo, port: records.PortInfo) -> records.ProgramInfo:
    import dataclasses

    return dataclasses.replace(info, inputs=(port,))


def test_states_are_weighed_with_what_reads_and_writes_them() -> None:
    state = Node("state", (kind(1, 64, 30),), name="cache")
    step = node("add", {"x": Value(state), "y": given(1, 64, 30)}, name="step")
    graph = Graph({"y": Value(step)}, states={"cache": state}, updates={"cache": Value(step)})
    (op,) = placed(graph).ops
    assert [r.kind for r in op.reasons] == ["state"]
    assert "cache" in op.reasons[0].text


def test_what_endangers_the_whole_program_is_told() -> None:
    made = [convolution(f"c{i}") for i in range(400)]
    graph = chain(*made)
    found = PlacementEstimate(placed(graph, on="M6"), beside((), placed(graph)))
    assert [risk.kind for risk in found.estimated.risks] == ["size"]
    assert "400 operations one after the other" in str(found)
    assert placed(chain(*made[:9]), on="M6").risks == ()


def test_folded_operations_have_no_device_and_are_not_counted() -> None:
    packed = Node(
        "constexpr_lut_to_dense", (kind(64, 64, 3, 3),), attrs={"lut": np.zeros(16)}, name="w"
    )
    x = given(1, 64, 32, 32)
    nodes = node("conv", {"x": x, "weight": Value(packed)}, x.type, name="c")
    found = placed(Graph({"y": Value(nodes)}))
    assert {op.node: op.device for op in found.ops} == {"w": "", "c": "cpu"}
    assert [op.node for op in found.placed] == ["c"]


def test_branches_of_a_file_are_the_cpus(tmp_path: Path) -> None:
    from coreml_lab.program.mil.tools import TARGET, mb
    from tests.support.seam_models import converted

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 64))], opset_version=TARGET)
    def program(x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1]), y=np.float32(0))
        return mb.cond(pred=positive, _true_fn=lambda: mb.exp(x=x), _false_fn=lambda: mb.sin(x=x))

    converted(program, skip_model_load=True).save(str(tmp_path / "branch.mlpackage"))
    found = cl.placement(tmp_path / "branch.mlpackage")
    (branch,) = (op for op in found.ops if op.op == "cond")
    assert (branch.device, branch.supported) == ("cpu", ("cpu",))
    assert branch.reasons[0].kind == "control flow"


def test_an_unknown_chip_is_answered_with_the_names_of_all(digits: cl.Model) -> None:
    with pytest.raises(UnknownParameter, match="no chip '\\?'") as caught:
        cl.placement(digits, "?")
    for name in ("A12", "A17 Pro", "A19 Pro", "M1", "M4 Max", "M6"):
        assert name in caught.value.hint


def test_chips_are_found_however_they_are_spelled(digits: cl.Model) -> None:
    assert cl.placement(digits, " m4pro").estimated.chip.name == "M4 Pro"


def test_only_models_and_paths_are_placed(digits: cl.Model) -> None:
    with pytest.raises(LabError, match="a model or a path, not int"):
        cl.placement(7)  # type: ignore[call-overload]
    with pytest.raises(UnknownParameter, match="no compute units 'NE'"):
        cl.placement(digits, compute_units="NE")
    with pytest.raises(LabError, match="needs a chip"):
        cl.placement(digits, [])
    with pytest.raises(UnknownParameter, match="open as function"):
        cl.placement(digits, function="other")


def test_coremltools_own_compute_units_are_taken(digits: cl.Model) -> None:
    from coreml_lab.program.mil.tools import ct

    found = cl.placement(digits, compute_units=ct.ComputeUnit.CPU_AND_GPU)
    assert found.estimated.compute_units == "CPU_AND_GPU"


def test_a_file_is_placed_without_an_engine(digits: cl.Model) -> None:
    of_file = cl.placement(digits.program.package)
    assert [op.device for op in of_file.ops] == [op.device for op in cl.placement(digits).ops]


def test_rows_name_the_line_that_wrote_them() -> None:
    def net(x: cl.Tensor) -> cl.Tensor:
        return cl.ops.cumsum(x=x)

    model = cl.compile(net, x=cl.spec(4, 8), precision="fp16", engine="reference", device="cpu")
    found = cl.placement(model)
    (op,) = (op for op in found.ops if op.op == "cumsum")
    assert op.where.startswith("test_placement.py, line ")
    assert op.where in str(found)


def test_every_number_is_marked_as_estimated(digits: cl.Model) -> None:
    found = cl.placement(digits, ["M1", "M4", "A17 Pro"])
    assert isinstance(found, ChipComparison)
    for page in (found.page, *(each.page for each in found.chips)):
        cells = [cell for table in page.tables for row in table.rows for cell in row]
        quantities = [cell for cell in cells if not isinstance(cell, str)]
        assert quantities
        assert {q.provenance for q in quantities} == {Provenance.ESTIMATED}
        assert "estimated" in page.headline
        assert any("nothing ran on Apple hardware" in note for note in page.notes)


def test_a_comparison_counts_what_is_barred_on_which_chip() -> None:
    graph = chain(*[convolution(f"c{i}") for i in range(9)], unary("sin"), unary("cumsum"))
    found = ChipComparison(
        tuple(PlacementEstimate(e, beside((), e)) for e in (placed(graph, n) for n in ("M1", "M4")))
    )
    (table,) = (t for t in found.page.tables if "by chip" in t.caption)
    assert set(table.rows) == {("generation", "sin", "1", "0"), ("operation", "cumsum", "1", "1")}
    assert any(note.startswith("ANEFORGE") for note in found.page.notes)
    assert "M1 " in found.page.headline
    assert "M4 " in found.page.headline


@pytest.mark.parametrize("name", list(chips()))
def test_every_chip_places_and_gives_time_and_energy_as_ranges(name: str) -> None:
    found = placed(chain(*[convolution(f"c{i}") for i in range(12)]), on=name, units="ALL")
    assert found.time.low is not None
    assert found.time.high is not None
    assert 0 < found.time.low < found.time.value < found.time.high < 1
    assert found.energy.low is not None
    assert found.energy.high is not None
    assert 0 < found.energy.low < found.energy.high < 1
    assert math.isnan(found.energy.value)


def test_stronger_chips_are_not_slower() -> None:
    graph = chain(*[convolution(f"c{i}") for i in range(60)])
    times = [placed(graph, on=name).time.value for name in ("A12", "A14", "A15", "M4")]
    assert times == sorted(times, reverse=True)


def test_int8_products_are_faster_where_the_chip_has_them() -> None:
    def time(on: str, *, int8: bool) -> float:
        quantized = node("dequantize", {"input": given(1, 512, 32, 32, dtype=np.int8)},
                         kind(1, 512, 32, 32), name="d")  # fmt: skip
        packed = Node("constexpr_affine_dequantize", (kind(512, 512, 3, 3),), name="w")
        x, weight = Value(quantized), Value(packed) if int8 else held(512, 512, 3, 3)
        made = node("conv", {"x": x, "weight": weight}, kind(1, 512, 32, 32), name="c")
        (op,) = (op for op in placed(Graph({"y": Value(made)}), on=on).ops if op.node == "c")
        return op.time.value

    assert time("M4", int8=True) < 0.6 * time("M4", int8=False)
    assert time("M1", int8=True) == pytest.approx(time("M1", int8=False), rel=0.01)


def test_attention_over_long_sequences_is_bound_by_its_scores() -> None:
    def time(length: int) -> float:
        operands = {n: given(1, 8, length, 64, name=n) for n in ("query", "key", "value")}
        made = node("scaled_dot_product_attention", operands, kind(1, 8, length, 64))
        work = workload(made, Sizes())
        assert work.flops == 4 * 8 * length * length * 64
        assert work.scores == 2 * 8 * length * length
        return roofline.seconds(work, "ne", chip("M4"))

    # What goes beyond 2 MB of scores is streamed, at 24 GB/s and four times.
    assert time(1024) == pytest.approx(4 * (2 * 8 * 1024**2 - 2e6) / 24e9)
    assert time(256) < time(1024) / 25


def test_published_times_lie_as_near_as_is_said() -> None:
    for found in calibration.calibration():
        rows = [k for k in calibration.known() if k.device == found.device]
        rows = [k for k in rows if k.path == calibration.CORE_ML or found.device != "ne"]
        assert len(rows) == found.rows
        inside = sum(k.factor <= found.covering for k in rows)
        assert inside >= 0.9 * len(rows)
    (engine,) = (c for c in calibration.calibration() if c.device == "ne")
    # What the docs say; a change of the tables that makes it worse has to say so there.
    assert engine.rows >= 30
    assert engine.typical < 1.3
    assert engine.covering < 2.05
    assert [calibration.energies(device) for device in ("cpu", "gpu", "ne")] == [
        (0, 0), (3, 3), (5, 4),
    ]  # fmt: skip


def test_the_counted_networks_are_the_real_ones() -> None:
    def flops(name: str) -> float:
        from coreml_lab.explain.placing.tables import read

        return float(sum(row[1] * row[-1] for row in read("calibration")["networks"][name]))

    # Multiplications and additions per image, as their papers count them, twice.
    papers = {"MobileOne-S0": 275e6, "MobileOne-S1": 825e6, "MobileOne-S2": 1299e6,
              "MobileOne-S3": 1896e6, "MobileNetV2": 300e6, "ResNet-50": 4.1e9,
              "ResNet-18": 1.8e9, "ViT-B/16": 17.6e9}  # fmt: skip
    for name, macs in papers.items():
        assert flops(name) == pytest.approx(2 * macs, rel=0.03), name


@pytest.fixture(scope="module")
def mobilenet() -> cl.Model:
    return cl.zoo.mobilenet_v2(precision="fp16", engine="reference", device="cpu")


def test_a_network_that_apple_times_on_the_engine_is_placed_there_whole(
    mobilenet: cl.Model,
) -> None:
    for name in ("A16", "A17 Pro", "M4"):
        found = cl.placement(mobilenet, name).estimated
        assert found.share("ne") == 1.0
        assert found.transitions == ()
    # Published for these chips: 0.48 and 0.49 ms.
    time = cl.placement(mobilenet, "A16").estimated.time
    assert time.low is not None
    assert time.low < 0.49e-3 < time.value


def test_a_tiny_product_stays_on_the_cpu() -> None:
    # Reported for 4x4 with CPU and Neural Engine allowed (751K, VX-436).
    small = node("matmul", {"x": given(4, 4), "y": held(4, 4)}, kind(4, 4))
    (op,) = placed(Graph({"y": Value(small)})).ops
    assert (op.device, op.reasons, op.supported[-1]) == ("cpu", (), "ne")


def test_a_counted_network_and_the_zoos_own_are_the_same_work(mobilenet: cl.Model) -> None:
    from coreml_lab.explain.placing.tables import read

    works = [workload(n, Sizes()) for n in mobilenet.program.graph.ops]
    rows = read("calibration")["networks"]["MobileNetV2"]
    for index, name in ((1, "flops"), (4, "weights")):
        counted = sum(row[index] * row[-1] for row in rows)
        assert sum(getattr(w, name) for w in works) == pytest.approx(counted, rel=0.02), name
