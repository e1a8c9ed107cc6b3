"""Operations of two arms are matched by name; what either fuses is one group in both."""

from __future__ import annotations

from coreml_lab.explain.comparison_ops import grouped
from coreml_lab.metrics import Provenance
from coreml_lab.records import OpSpan, Run


def run(*rows):
    spans = []
    for node, op, milliseconds, *fused in rows:
        spans.append(
            OpSpan(
                node,
                op,
                "e",
                "cpu",
                0,
                milliseconds * 1_000_000,
                0,
                Provenance.MEASURED,
                tuple(fused),
            )
        )
    return Run(0, 0, 0, tuple(spans), instrumented=True)


def test_operations_of_the_same_name_are_compared_also_in_another_precision():
    (group,) = grouped([run(("conv", "conv", 2))], [run(("conv_cast_fp16", "conv", 5))])
    assert (group.time.value, group.baseline.value) == (0.002, 0.005)
    assert group.difference.value == -0.003


def test_what_one_arm_fuses_is_one_group_in_both():
    fused = run(("conv", "conv", 4, "relu"), ("softmax", "softmax", 1))
    apart = run(("conv", "conv", 3), ("relu", "relu", 2), ("softmax", "softmax", 1))
    found = grouped([fused], [apart])
    assert [(g.node, set(g.nodes)) for g in found] == [
        ("conv", {"conv", "relu"}),
        ("softmax", {"softmax"}),
    ]
    assert (found[0].time.value, found[0].baseline.value) == (0.004, 0.005)


def test_groups_overlap_through_both_arms():
    left = run(("a", "x", 1, "b"), ("c", "x", 1))
    right = run(("a", "x", 1), ("b", "x", 1, "c"))
    (group,) = grouped([left], [right])
    assert set(group.nodes) == {"a", "b", "c"}


def test_an_operation_of_one_arm_only_differs_by_all_of_its_time():
    found = grouped([run(("a", "x", 1))], [run(("a", "x", 1), ("b", "x", 7))])
    assert found[0].node == "b"
    assert found[0].time.provenance is Provenance.UNAVAILABLE
    assert found[0].difference.value == -0.007


def test_engines_own_work_is_a_row_of_its_own():
    found = grouped([run(("a", "x", 1), ("r", "[reorder]", 3))], [run(("a", "x", 1))])
    assert found[0].node == "engine's own work"
    assert found[0].difference.value == 0.003


def test_differences_add_up_to_the_difference_of_the_sums():
    left = run(("a", "x", 4, "b"), ("c", "x", 2), ("r", "[reorder]", 1))
    right = run(("a", "x", 1), ("b", "x", 1), ("c", "x", 9))
    assert sum(g.difference.value for g in grouped([left], [right])) == 0.007 - 0.011


def test_apportioned_times_stay_apportioned():
    span = OpSpan("a", "x", "coreml", "ne", 0, 1, 0, Provenance.APPORTIONED)
    (group,) = grouped([Run(0, 0, 1, (span,))], [run(("a", "x", 1))])
    assert group.time.provenance is Provenance.APPORTIONED
    assert group.baseline.provenance is Provenance.MEASURED
    assert group.difference.provenance is Provenance.APPORTIONED
