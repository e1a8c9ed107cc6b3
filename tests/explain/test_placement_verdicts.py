"""Why an operation cannot run on the Neural Engine: each reason, and just before it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from coreml_lab.explain.placing.reasons import Context
from coreml_lab.explain.placing.risks import of_program
from coreml_lab.explain.placing.tables import chips, operations, sources
from coreml_lab.explain.placing.verdicts import judge
from coreml_lab.explain.placing.workload import Sizes, workload
from coreml_lab.program.graph import Block, Dim, Node, Value
from coreml_lab.program.mil.inference import forms
from tests.support.op_cases import CASES, record
from tests.support.op_nodes import conv, given, held, kind, node, on

INT32, FP32 = np.int32, np.float32


def kinds(found: Node, context: Context | None = None) -> list[str]:
    """The kinds of reasons that bar it; a reason names its sources and how sure they are."""
    verdict = judge(found, context or on())
    for reason in (*verdict.reasons, *verdict.risks):
        assert reason.text
        assert reason.confidence in {"high", "medium", "low"}
        assert set(reason.sources) <= set(sources())
    assert ("ne" in verdict.supported) is not bool(verdict.reasons or verdict.folded)
    return [reason.kind for reason in verdict.reasons]


def risks(found: Node, context: Context | None = None) -> list[str]:
    return [risk.kind for risk in judge(found, context or on()).risks]


def test_the_table_has_every_operation_of_mil() -> None:
    assert set(forms()) <= set(operations())


@pytest.mark.parametrize("op", ["relu", "softmax", "add", "layer_norm", "erf", "reduce_mean"])
def test_what_the_engine_has_can_run_everywhere(op: str) -> None:
    found = node(op)
    assert kinds(found) == []
    assert judge(found, on()).supported == ("cpu", "gpu", "ne")


@pytest.mark.parametrize(
    "op",
    ["lstm", "cumsum", "scatter", "reduce_prod", "tan", "one_hot", "random_uniform", "argsort"],
)
def test_what_the_engine_lacks_is_barred_with_something_in_its_place(op: str) -> None:
    (reason,) = judge(node(op), on()).reasons
    assert reason.kind == "operation"
    assert op in reason.text
    assert reason.remedy
    assert reason.sources


def test_an_operation_that_no_source_knows_is_said_to_be_unknown() -> None:
    assert kinds(node("brand_new")) == ["unknown"]


def test_some_operations_are_for_the_cpu_alone() -> None:
    assert judge(node("non_zero"), on()).supported == ("cpu",)
    assert judge(node("cumsum"), on()).supported == ("cpu", "gpu")


@pytest.mark.parametrize(
    ("op", "without", "with_it"),
    [("resize_bilinear", "M1", "M2"), ("topk", "A14", "A15"), ("sin", "M2", "M3")],
)
def test_generations_gain_operations(op: str, without: str, with_it: str) -> None:
    assert kinds(node(op), on(without)) == ["generation"]
    assert kinds(node(op), on(with_it)) == []


def test_fp32_is_barred_and_a_cast_to_it_is_not() -> None:
    assert kinds(node("relu", {"x": given(4, 4, dtype=FP32)})) == ["precision"]
    assert kinds(node("cast", {"x": given(4, 4, dtype=FP32)}, kind(4, 4))) == []
    # A constant in fp32 is folded into the program.
    assert kinds(node("add", {"x": given(4, 4), "y": held(4, dtype=FP32)})) == []


def test_integers_are_barred_and_the_indices_of_topk_are_a_risk() -> None:
    whole = given(4, 4, dtype=INT32)
    assert kinds(node("add", {"x": whole, "y": whole})) == ["integers"]
    assert kinds(node("cast", {"x": whole}, kind(4, 4))) == ["integers"]
    assert kinds(node("cast", {"x": given(4, 4)}, kind(4, 4, dtype=np.int8))) == ["integers"]
    topk = node("topk", {"x": given(4, 64)}, [kind(4, 5), kind(4, 5, dtype=INT32)])
    assert kinds(topk) == []
    assert risks(topk) == ["conflict"]


def test_comparisons_and_select_may_use_booleans() -> None:
    truth = given(4, 4, dtype=bool, name="c")
    assert kinds(node("greater", {"x": given(4, 4), "y": held(4)}, kind(4, 4, dtype=bool))) == []
    inputs = {"cond": truth, "a": given(4, 4), "b": given(4, 4)}
    assert kinds(node("select", inputs, kind(4, 4))) == []


def test_int8_activations_are_quantized_on_the_engine() -> None:
    found = node("quantize", {"input": given(1, 8, 4, 4)}, kind(1, 8, 4, 4, dtype=np.int8))
    assert kinds(found) == []


@pytest.mark.parametrize("name", ["begin", "size"])
def test_an_operand_that_is_only_known_at_run_time_bars(name: str) -> None:
    inputs: dict[str, Value] = {
        "x": given(4, 8),
        "begin": held(2, dtype=INT32),
        "size": held(2, dtype=INT32),
    }
    assert kinds(node("slice_by_size", inputs, kind(2, 8))) == []
    moving = {**inputs, name: given(2, dtype=INT32, name=name)}
    assert kinds(node("slice_by_size", moving, kind(2, 8))) == ["run-time operand"]


def test_gather_runs_there_with_constant_indices_only() -> None:
    table = given(100, 8)
    still = node("gather", {"x": table, "indices": held(3, dtype=INT32)}, kind(3, 8))
    moving = node("gather", {"x": held(100, 8), "indices": given(3, dtype=INT32)}, kind(3, 8))
    assert kinds(still) == []
    assert kinds(moving) == ["run-time operand"]
    assert risks(still, on("M1")) == ["generation"]


def test_five_dimensions_are_the_most() -> None:
    assert kinds(node("relu", {"x": given(1, 1, 2, 2, 8)})) == []
    assert kinds(node("relu", {"x": given(1, 1, 1, 2, 2, 8)})) == ["rank"]


@pytest.mark.parametrize(("chip", "limit"), [("M1", 16384), ("A16", 16384), ("M4", 65536)])
def test_width_and_height_have_a_limit_per_generation(chip: str, limit: int) -> None:
    for shape in ((1, 4, 2, limit), (1, 4, limit, 2)):
        assert kinds(node("relu", {"x": given(*shape)}), on(chip)) == []
    for shape in ((1, 4, 2, limit + 1), (1, 4, limit + 1, 2)):
        assert kinds(node("relu", {"x": given(*shape)}), on(chip)) == ["size"]


def test_channels_have_a_wider_limit() -> None:
    assert kinds(node("relu", {"x": given(1, 65536, 2, 2)}), on("M1")) == []
    assert kinds(node("relu", {"x": given(1, 65537, 2, 2)}), on("M1")) == ["size"]


def test_products_have_a_longest_sum() -> None:
    def product(inner: int) -> Node:
        return node("matmul", {"x": given(2, inner), "y": held(inner, 2)}, kind(2, 2))

    assert kinds(product(32768)) == []
    assert kinds(product(32769)) == ["size"]
    turned = node(
        "matmul", {"x": given(40000, 2), "y": held(40000, 2)}, kind(2, 2), transpose_x=True
    )
    assert kinds(turned) == ["size"]


@pytest.mark.parametrize(
    ("chip", "kernel", "barred"),
    [
        ("M4", (3, 15), False), ("M4", (3, 16), True), ("M4", (16, 16), False),
        ("M4", (17, 17), True), ("M4", (31, 3), False), ("M4", (32, 3), True),
        ("M1", (3, 13), False), ("M1", (3, 14), True), ("M1", (14, 14), True),
        ("M1", (29, 1), False), ("M1", (30, 1), True),
        ("M4", (15,), False), ("M4", (16,), True), ("M4", (3, 3, 3), False),
    ],
)  # fmt: skip
def test_kernels_have_a_width_and_a_height(
    chip: str, kernel: tuple[int, ...], barred: bool
) -> None:
    space = (64,) * len(kernel)
    found = conv(given(1, 4, *space), *kernel, channels=4)
    assert kinds(found, on(chip)) == (["kernel"] if barred else [])


@pytest.mark.parametrize(
    ("op", "window", "barred"),
    [("max_pool", [8, 8], False), ("max_pool", [9, 1], False), ("max_pool", [1, 9], True),
     ("avg_pool", [14, 14], False), ("avg_pool", [32, 32], True)],
)  # fmt: skip
def test_windows_have_a_limit(op: str, window: list[int], barred: bool) -> None:
    found = node(op, kernel_sizes=window)
    assert kinds(found) == (["kernel"] if barred else [])


def test_a_flexible_shape_bars_and_enumerated_ones_are_a_risk() -> None:
    found = node("relu", {"x": given(Dim("n", 1, 64), 8)})
    assert kinds(found) == ["flexible shape"]
    assert kinds(found, on(flexible="enumerated")) == []
    assert risks(found, on(flexible="enumerated")) == ["flexible shape"]


@pytest.mark.parametrize("op", ["cond", "while_loop", "list_write", "make_list"])
def test_control_flow_and_lists_are_the_cpus(op: str) -> None:
    found = node(op)
    assert kinds(found)[0] == "control flow"
    assert judge(found, on()).supported == ("cpu",)


def test_states_have_to_be_multiples_of_32_and_are_a_risk_anyway() -> None:
    for last, wanted in ((64, []), (60, ["state"])):
        state = Node("state", (kind(1, 4, last),), name="cache")
        reading = node("add", {"x": Value(state), "y": given(1, 4, last)})
        assert kinds(reading) == wanted
        writing = node("add", {"x": given(1, 4, last), "y": given(1, 4, last)})
        assert kinds(writing, on(updates={writing: state})) == wanted
        assert "state" in risks(writing, on(updates={writing: state}))


def test_scales_per_block_bar_and_scales_per_channel_do_not() -> None:
    def product(*scale: int) -> Node:
        data = {"data": np.zeros((64, 64), np.int8), "scale": np.ones(scale, np.float16)}
        packed = Node("constexpr_blockwise_shift_scale", (kind(64, 64),), attrs=data, name="w")
        assert judge(packed, on()).folded
        return node("matmul", {"x": given(1, 64), "y": Value(packed)}, kind(1, 64))

    assert kinds(product(64, 1)) == kinds(product(1, 64)) == kinds(product(1, 1)) == []
    assert kinds(product(64, 4)) == ["quantization"]


@pytest.mark.parametrize(
    ("options", "chip", "wanted"),
    [({"mode": "constant", "constant_val": 0.0}, "M1", []),
     ({"mode": "constant", "constant_val": -1.0}, "M4", ["padding"]),
     ({"mode": "reflect"}, "M1", ["generation"]), ({"mode": "reflect"}, "M2", [])],
)  # fmt: skip
def test_padding_is_with_zeros(options: dict[str, Any], chip: str, wanted: list[str]) -> None:
    assert kinds(node("pad", pad=[0, 0, 1, 1], **options), on(chip)) == wanted


def test_a_short_last_dimension_of_something_large_is_a_risk() -> None:
    assert risks(node("relu", {"x": given(1, 64, 1024, 1)})) == ["layout"]
    assert risks(node("relu", {"x": given(1, 64, 1, 1)})) == []
    assert risks(node("relu", {"x": given(1, 64, 1024, 5)})) == []


def test_a_value_that_the_engine_cannot_hold_is_a_risk() -> None:
    large = node("relu", {"x": given(1, 64, 224, 224)})
    assert risks(large) == ["layout"]
    assert risks(node("relu", {"x": given(1, 64, 112, 112)})) == []
    assert risks(node("relu", {"x": given(1, 64, 176, 176)}), on("M5 Pro")) == []
    assert risks(node("relu", {"x": given(1, 64, 176, 176)}), on("M4")) == ["layout"]


@pytest.mark.parametrize(
    ("chip", "outputs", "wanted"),
    [("M4", 4096, ["weights"]), ("M4", 4080, ["weights"]), ("M4", 4000, []), ("M4", 64, []),
     ("M1", 4096, []), ("M5", 4096, [])],
)  # fmt: skip
def test_weights_near_whole_mebibytes_per_part_are_a_risk_on_one_generation(
    chip: str, outputs: int, wanted: list[str]
) -> None:
    inputs = {"x": given(1, 4096), "weight": held(outputs, 4096)}
    assert risks(node("linear", inputs, kind(1, outputs)), on(chip)) == wanted


def test_weights_that_are_unpacked_have_no_such_risk() -> None:
    packed = Node("constexpr_lut_to_dense", (kind(4096, 4096),), name="w")
    inputs = {"x": given(1, 4096), "weight": Value(packed)}
    assert risks(node("linear", inputs, kind(1, 4096))) == []


def test_large_square_kernels_take_long_to_compile() -> None:
    assert risks(conv(given(1, 4, 64, 64), 13, 13, channels=4)) == ["kernel"]
    assert risks(conv(given(1, 4, 64, 64), 13, 3, channels=4)) == []


def test_a_table_with_scales_on_top_is_a_risk() -> None:
    table = Value(Node("constexpr_lut_to_dense", (kind(64, 64),), name="t"))
    scale = {"scale": np.ones((64, 1), np.float16)}
    both = Node(
        "constexpr_blockwise_shift_scale", (kind(64, 64),), {"data": table}, scale, name="w"
    )
    for weight, wanted in ((Value(both), ["quantization"]), (table, [])):
        inputs = {"x": given(1, 64), "weight": weight}
        assert risks(node("linear", inputs, kind(1, 64))) == wanted


def test_a_norm_of_three_dimensions_with_enumerated_shapes_is_a_risk() -> None:
    found = node("layer_norm", {"x": given(1, Dim("n"), 64)})
    assert risks(found, on(flexible="enumerated")) == ["flexible shape", "flexible shape"]


def test_programs_that_are_too_large_or_too_deep_are_a_risk() -> None:
    assert [r.kind for r in of_program(1.5e9, 10, on("A17 Pro").chip)] == ["size"]
    assert of_program(1.5e9, 10, on("M4").chip) == ()
    assert [r.kind for r in of_program(2.5e9, 10, on("M4").chip)] == ["size"]
    assert of_program(0, 386, on("M6").chip) == ()
    assert [r.kind for r in of_program(0, 387, on("M6").chip)] == ["size"]
    assert of_program(0, 387, on("M4").chip) == ()


def test_what_depends_on_constants_alone_is_done_before() -> None:
    for found in (
        node("add", {"x": held(4), "y": held(4)}, kind(4)),
        node("shape", {"x": given(4, 4)}, kind(2, dtype=INT32)),
        node("identity"),
    ):
        assert judge(found, on()).folded
    moving = node("shape", {"x": given(Dim("n"), 4)}, kind(2, dtype=INT32))
    assert not judge(moving, on()).folded
    for op in ("random_normal", "make_list"):
        assert not judge(node(op, {}, kind(4)), on()).folded


def test_a_branch_that_reads_constants_only_is_still_decided_when_it_runs() -> None:
    block = Block((), (), (held(4),))
    found = Node("cond", (kind(4),), {"pred": held(dtype=bool)}, blocks=(block, block), name="b")
    assert not judge(found, on()).folded


def test_every_fact_of_every_chip_has_a_source_and_a_known_confidence() -> None:
    known = {"measured", "vendor", "decompiled", "secondary", "inferred", "general"}
    for chip in chips().values():
        for fact in (*chip.facts.values(), *chip.limits.values()):
            assert fact.source in sources()
            assert fact.confidence in known
            assert fact.value is not None
    for name, row in operations().items():
        assert row.sources, name
        assert set(row.sources) <= set(sources()), name
        assert row.verdict in {"yes", "likely", "unlikely", "no", "folded"}, name


def in_half(made: Node) -> Node:
    """The same operation on fp16."""

    def halved(kind_: Any) -> Any:
        return (
            dataclasses.replace(kind_, dtype=np.dtype(np.float16)) if kind_.dtype == FP32 else kind_
        )

    def operand(given_: Any) -> Any:
        if isinstance(given_, tuple):
            return tuple(map(operand, given_))
        source = dataclasses.replace(given_.node, types=tuple(map(halved, given_.node.types)))
        return Value(source, given_.index)

    inputs = {name: operand(each) for name, each in made.inputs.items()}
    return dataclasses.replace(made, types=tuple(map(halved, made.types)), inputs=inputs)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_operation_has_a_verdict_and_a_workload(precision: str) -> None:
    allowed = set()
    for case in (case for case in CASES if case.index == 0):
        made = record(case, {})
        made = in_half(made) if precision == "fp16" else made
        work = workload(made, Sizes())
        numbers = (work.flops, work.read, work.written, work.weights, work.largest)
        assert all(np.isfinite(n) and n >= 0 for n in numbers), case.id
        for name in ("A14", "M4", "M6"):
            kinds(made, on(name))
        if "ne" in judge(made, on()).supported:
            allowed.add(case.op.name)
    if precision == "fp16":
        high = {
            n
            for n, row in operations().items()
            if row.verdict == "yes" and row.confidence == "high"
        }
        assert {"conv", "matmul", "linear", "softmax", "layer_norm", "concat", "relu"} <= allowed
        assert len(allowed & high) > 60
    else:
        # What does not compute in fp32, or changes it to something else.
        assert allowed <= {"cast", "quantize", "dequantize", "logical_and", "logical_or",
                           "logical_not", "logical_xor"}  # fmt: skip
