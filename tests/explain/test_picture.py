"""A program as boxes, arrows and groups; what is known of each; what belongs together in two."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError, UnknownParameter
from coreml_lab.explain.picture import data, still
from coreml_lab.explain.picture.drawing import drawn
from coreml_lab.explain.picture.grouping import Repeat, by_names, crossings, repeats
from coreml_lab.explain.picture.knowing import measured, planned
from coreml_lab.explain.picture.pairing import paired
from coreml_lab.explain.picture.scene import picture, scene
from coreml_lab.explain.picture.weights import constants
from coreml_lab.metrics import Provenance
from coreml_lab.plain import to_plain
from coreml_lab.program.graph import Block, Graph, Node, TensorType, Value
from coreml_lab.records import OpSpan, Placement, PlanInfo, ProgramInfo, Recording, Run

SOURCE = Path(__file__).parents[2] / "js" / "src" / "inspector" / "messages.ts"
FLOAT = np.dtype(np.float32)
MS = 1_000_000


def typed(*shape):
    return (TensorType(shape, FLOAT),)


def given(name, *shape):
    return Node("input", typed(*shape), name=name)


def made(op, name, *reads, **attrs):
    inputs = {p: Value(n) for p, n in zip("xy", reads, strict=False)}
    return Node(op, reads[0].types, inputs, attrs, name=name)


def const(array):
    kind = TensorType(array.shape, array.dtype)
    return Node("const", (kind,), attrs={"val": array})


def chain(*ops):
    """An input, and an operation after the other."""
    node = given("x", 1, 4)
    for i, op in enumerate(ops):
        node = made(op, f"{op}_{i}", node)
    return Graph({"y": Value(node)})


def looped():
    """A loop around an input; its blocks hold an operation each."""
    x, inner, decided = given("x", 1, 4), given("a", 1, 4), given("b", 1, 4)
    again = made("less", "again", decided)
    step = made("relu", "step", inner)
    blocks = (
        Block((decided,), (again,), (Value(again),)), Block((inner,), (step,), (Value(step),)),
    )  # fmt: skip
    loop = Node("while_loop", typed(1, 4), {"loop_vars": (Value(x),)}, blocks=blocks, name="loop")
    return Graph({"y": Value(made("exp", "last", loop))})


@pytest.fixture(scope="module")
def digits():
    return cl.zoo.digits()


def test_boxes_are_inputs_operations_in_their_order_and_outputs_with_the_values_they_read():
    found = drawn(chain("relu", "exp"))
    assert [(b.kind, b.name) for b in found.nodes] == [
        ("input", "x"), ("op", "relu_0"), ("op", "exp_1"), ("output", "y"),
    ]  # fmt: skip
    assert [[a.node for a in b.inputs] for b in found.nodes] == [[], [0], [1], [2]]
    assert found.nodes[1].types == ("fp32 1 × 4",)
    assert found.nodes[1].bytes == 16


def test_a_loop_is_a_group_that_holds_a_group_for_each_of_its_blocks():
    found = drawn(looped())
    loop = next(i for i, b in enumerate(found.nodes) if b.op == "while_loop")
    assert [(g.kind, g.title, g.parent, g.owner) for g in found.groups] == [
        ("op", "loop", -1, loop), ("block", "condition", 0, loop), ("block", "body", 0, loop),
    ]  # fmt: skip
    inside = {b.name: b.group for b in found.nodes if b.group > 0 and b.kind == "op"}
    assert inside == {"again": 1, "step": 2}


def test_what_comes_several_times_is_found_and_cut_where_the_fewest_values_cross():
    row = ["in", *("norm", "wide", "act", "back", "add") * 4, "out"]
    reads = [[], *[[i] for i in range(len(row) - 1)]]
    for add in range(5, 21, 5):
        reads[add].append(add - 5)  # the sum reads what came before the layer
    assert repeats(row, reads) == [Repeat(1, 5, 4)]
    assert crossings(reads)[1:7].tolist() == [1, 2, 2, 2, 2, 1]


def test_groups_follow_the_parts_of_names_where_most_have_parts():
    groups, place = by_names(["a/b/conv", "a/b/relu", "a/add", "c/conv", "c/relu"])
    assert [(g.title, g.parent) for g in groups] == [("a", -1), ("b", 0), ("c", -1)]
    assert place == [1, 1, 0, 2, 2]
    assert by_names(["conv_0", "relu_1"]) == ([], [-1, -1])


def test_weights_tell_how_they_are_stored_and_few_numbers_are_parameters():
    x = given("x", 1, 4)
    palette = Node(
        "constexpr_lut_to_dense", typed(4, 4), {},
        {"indices": np.zeros((4, 4), np.uint8), "lut": np.zeros((1, 1, 16, 1), np.float32)},
        name="packed",
    )  # fmt: skip
    bias = const(np.zeros(4, np.float32))
    reads = {"x": Value(x), "weight": Value(palette), "bias": Value(bias)}
    linear = Node("linear", typed(1, 4), reads, {"axes": np.array([1, 2])}, name="fc")
    weights, params = constants(linear, {})
    assert [(w.param, w.bits, w.how) for w in weights] == [
        ("weight", 4, "table of 16 values"), ("bias", 32, "as it is"),
    ]  # fmt: skip
    assert weights[0].bytes == 16 + 64
    assert params == (("axes", "[1, 2]"),)


def test_a_picture_knows_where_a_chip_would_run_each_operation_and_by_which_source(digits):
    found = picture(digits, "M4")
    conv = next(i for i, b in enumerate(found.nodes) if b.op == "conv")
    placed = found.placing.rows[str(conv)]
    assert placed.device in {"cpu", "gpu"}
    assert "fp32" in placed.reasons[0].text
    assert set(placed.reasons[0].sources) <= set(found.placing.sources)
    assert found.nodes[conv].bits == 32
    assert found.timed.rows == {}
    assert "cl.profile" in found.timed.missing
    with pytest.raises(UnknownParameter):
        picture(digits, "M99")


def test_the_plan_of_core_ml_replaces_the_estimated_device(digits):
    found = picture(digits, "M4")
    conv = next(i for i, b in enumerate(found.nodes) if b.op == "conv")
    plan = (Placement(found.nodes[conv].name, "conv", "ne", ("cpu", "ne")),)
    told = planned(found.nodes, plan, found.placing)
    assert (told.how, set(told.rows), told.rows[str(conv)].device) == ("planned", {str(conv)}, "ne")


def recording(*spans, key=""):
    runs = (Run(0, 0, 9 * MS, tuple(spans), instrumented=True),)
    info = ProgramInfo("net", key, "", "fp32", (), (), (), 0)
    return Recording({}, info, PlanInfo("portable", "coreml:0", "portable"), runs)


def test_times_are_measured_ones_and_what_was_fused_names_its_carrier():
    nodes = drawn(chain("relu", "exp", "abs")).nodes
    span = OpSpan("relu_0", "relu", "portable", "coreml:0", 0, 2 * MS, 16, Provenance.MEASURED,
                  ("exp_1",))  # fmt: skip
    told = measured(nodes, recording(span))
    assert (told.rows["1"].seconds, told.rows["1"].provenance) == (0.002, "measured")
    assert (told.rows["2"].seconds, told.rows["2"].carrier) == (None, 1)
    assert "3" not in told.rows


def test_a_recording_of_another_program_is_refused(digits):
    with pytest.raises(LabError, match="is of net, not of digits"):
        picture(digits, "M4", recording(key="other"))


def test_operations_are_paired_by_name_then_by_neighbours_and_the_rest_was_added():
    a = drawn(chain("relu", "exp", "abs")).nodes
    x = given("x", 1, 4)
    first = made("relu", "relu_0_cast_fp16", made("cast", "to_half", x))
    other = made("abs", "abs_2", made("exp", "renamed", first))
    b = drawn(Graph({"y": Value(other)})).nodes
    pairs = {a[p.a].name: b[p.b].name for p in paired(a, b)}
    assert pairs == {"x": "x", "relu_0": "relu_0_cast_fp16", "exp_1": "renamed", "abs_2": "abs_2",
                     "y": "y"}  # fmt: skip
    assert all(p.changes == () for p in paired(a, b))
    half = tuple(dataclasses.replace(box, types=("fp16 1 × 4",)) for box in a)
    assert {p.changes for p in paired(a, half)} == {("precision",)}
    cut = tuple(dataclasses.replace(box, types=("fp32 1 × 2",)) for box in a)
    assert {p.changes for p in paired(a, cut)} == {("type",)}


def test_the_still_picture_holds_no_markup_of_the_models_and_draws_every_box():
    named = dataclasses.replace(made("relu", "<script>", given("<b>x", 1)), op="<i>")
    found = drawn(Graph({"<u>": Value(named)}))
    told = data.Picture(
        "<h1>", "fp32", found.nodes, found.groups, "", "", 0,
        data.Placing("M4", missing="<em>"), data.Timed("", 0, {}, "none"),
    )  # fmt: skip
    page, drawing = still.to_html((told,)), still.to_svg(told)
    assert drawing.count("stroke=") == len(found.nodes) + 1
    for mark in ("<h1>", "<i>", "<b>", "<u>", "<em>", "<script"):
        assert mark not in page
        assert mark not in drawing


def test_the_shapes_of_a_scene_are_those_of_the_page():
    if not SOURCE.is_file():
        pytest.skip("the TypeScript sources are not here")
    text = SOURCE.read_text()
    found = re.findall(r"export interface (\w+) \{\n(.*?)\n\}", text, re.DOTALL)
    theirs = {name: re.findall(r"^  (\w+):", body, re.MULTILINE) for name, body in found}
    ours = {
        name: [f.name for f in dataclasses.fields(kind)]
        for name, kind in vars(data).items()
        if dataclasses.is_dataclass(kind)
    }
    assert ours == theirs
    assert "export const VERSION = 1;" in text


def test_a_scene_is_plain_json_without_nan(digits):
    found = picture(digits, "M4")
    text = json.dumps(to_plain(scene((found, found))), allow_nan=False)
    told = json.loads(text)
    assert len(told["pairs"]) == len(found.nodes)
    assert all(pair["changes"] == [] for pair in told["pairs"])
