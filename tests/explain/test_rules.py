"""Every rule of the advisor: a program in which it finds something, and one without that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter
from coreml_lab.explain.advisor import RULES, advise
from coreml_lab.explain.facts import facts
from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.estimate import estimate
from coreml_lab.explain.suggestion import Seen, Suggestion
from coreml_lab.improve.actions import KINDS
from coreml_lab.improve.looking import wished
from coreml_lab.program import description, mil, tracing
from coreml_lab.program.graph import Dim, Graph
from coreml_lab.program.program import describe
from coreml_lab.records import Recording, Run
from tests.improve.nets import mixed, weights
from tests.support.advised import (
    MS,
    Network,
    attention,
    behind,
    convolutional,
    deep,
    gelu,
    heavy,
    indexed,
    integers,
    looped,
    normalized,
    pruned,
    relu,
    split,
    twice,
    wide_norm,
)
from tests.support.fakes import PLANS, recording

SOURCES = set(tables.sources())


def traced(network: Network, *shape: Any, **changes: Any) -> Seen:
    """A program as its author wrote it, before any pass."""
    graph = tracing.bake(tracing.trace(network, {"x": cl.spec(*shape)}, "coreml"))
    return seen(graph, **changes)


def compiled(network: Network, *shape: Any, precision: str = "fp16", **changes: Any) -> Seen:
    """A program after Core ML's passes."""
    model = cl.compile(network, x=cl.spec(*shape), precision=precision)
    return seen(model.program.graph, model.info, **changes)


def seen(graph: Graph, info: Any = None, runs: tuple[Run, ...] = (), **changes: Any) -> Seen:
    info = info or describe(graph, name="net", key="k", package="", function="", size=0)
    info = dataclasses.replace(info, **changes)
    made: Recording = recording(program=info, plan=PLANS["coreml"], runs=runs)
    return Seen(facts(made), graph, estimate(graph, info, tables.chip("M4"), "ALL"), made)


def stored(action: str, **how: Any) -> Seen:
    edit = cl.edit(mixed()).apply(action, weight_threshold=64, **how)
    model = edit.model
    return seen(model.program.graph, model.info)


def enumerated(count: int) -> Seen:
    found = compiled(relu, Dim("n", 1, 64), 8)
    (port,) = found.facts.program.inputs
    few = dataclasses.replace(port, enumerated=tuple((n, 8) for n in range(1, count + 1)))
    program = dataclasses.replace(found.facts.program, inputs=(few,))
    return dataclasses.replace(found, facts=dataclasses.replace(found.facts, program=program))


def with_output(dtype: str) -> Seen:
    found = compiled(convolutional(), 1, 3, 128, 128)
    (port,) = found.facts.program.outputs
    program = dataclasses.replace(
        found.facts.program, outputs=(dataclasses.replace(port, dtype=dtype),)
    )
    return dataclasses.replace(found, facts=dataclasses.replace(found.facts, program=program))


def islands(skip: bool) -> Seen:
    model = mixed()
    names = [op.name for op in model.info.ops if op.op == "conv"] if skip else []
    half = cl.edit(model).apply("float16", skip=names).model
    return seen(half.program.graph, half.info)


def unread() -> Seen:
    graph = tracing.bake(
        tracing.trace(lambda x, y: cl.ops.relu(x), {"x": cl.spec(2, 3), "y": cl.spec(2)}, "coreml")
    )
    return seen(graph)


# Rule -> where it finds something, and where it does not.
CASES: dict[str, tuple[Callable[[], Seen], Callable[[], Seen]]] = {
    "int8_weights": (lambda: traced(heavy, 1, 512), lambda: stored("int8_weights")),
    "tables_of_6_bits": (
        lambda: traced(lambda x: cl.ops.linear(x, weight=weights(4096, 512)), 1, 512),
        lambda: traced(lambda x: cl.ops.linear(x, weight=weights(512, 512)), 1, 512),
    ),
    "blocks_off_the_engine": (
        lambda: stored("quantize_weights", dtype="int4", granularity="per_block", block_size=8),
        lambda: stored("int8_weights"),
    ),
    "left_whole": (
        lambda: seen(
            (made := stored("int8_weights")).graph,
            dataclasses.replace(
                made.facts.program,
                ops=tuple(
                    dataclasses.replace(op, weight_bytes=10**6) if op.op == "conv" else op
                    for op in made.facts.program.ops
                ),
            ),
        ),
        lambda: stored("int8_weights"),
    ),
    "many_zeros": (
        lambda: traced(pruned, 1, 64),
        lambda: traced(lambda x: cl.ops.linear(x, weight=weights(256, 64)), 1, 64),
    ),
    "equal_weights": (
        lambda: traced(twice, 1, 64),
        lambda: traced(heavy, 1, 512),
    ),
    "too_large_for_one_program": (
        lambda: traced(relu, 1, 8, size_bytes=3_000_000_000),
        lambda: traced(relu, 1, 8, size_bytes=300_000_000),
    ),
    "int4_for_the_gpu": (
        lambda: seen(
            (made := traced(heavy, 1, 512)).graph,
            dataclasses.replace(
                made.facts.program,
                ops=tuple(
                    dataclasses.replace(op, weight_bytes=op.weight_bytes * 100)
                    for op in made.facts.program.ops
                ),
            ),
        ),
        lambda: traced(heavy, 1, 512),
    ),
    "fp16": (
        lambda: compiled(convolutional(), 1, 3, 64, 64, precision="fp32"),
        lambda: compiled(convolutional(), 1, 3, 64, 64),
    ),
    "islands": (lambda: islands(True), lambda: islands(False)),
    "whole_numbers": (
        lambda: compiled(integers, 1, 8, 32, 32),
        lambda: compiled(convolutional(), 1, 3, 64, 64),
    ),
    "unsupported_operations": (
        lambda: compiled(split, 1, 256, 64, 64),
        lambda: compiled(convolutional(), 1, 3, 64, 64),
    ),
    "operands_known_late": (
        lambda: compiled(indexed, 1, 64),
        lambda: compiled(convolutional(), 1, 3, 64, 64),
    ),
    "beyond_its_limits": (
        lambda: compiled(lambda x: cl.ops.conv(x, weight=weights(8, 3, 21, 21)), 1, 3, 64, 64),
        lambda: compiled(convolutional(), 1, 3, 64, 64),
    ),
    "short_last_dimension": (
        lambda: compiled(lambda x: cl.ops.relu(cl.ops.add(x, x)), 64, 1024, 1),
        lambda: compiled(lambda x: cl.ops.relu(cl.ops.add(x, x)), 64, 1024),
    ),
    "int8_activations": (
        lambda: compiled(deep(3), 1, 64, 64, 64),
        lambda: compiled(deep(2), 1, 64, 64, 64),
    ),
    "few_segments": (
        lambda: compiled(split, 1, 256, 64, 64),
        lambda: compiled(convolutional(), 1, 3, 64, 64),
    ),
    "strides_of_outputs": (
        lambda: compiled(convolutional(), 1, 3, 100, 100),
        lambda: compiled(convolutional(), 1, 3, 128, 128),
    ),
    "fold_into_convolutions": (
        lambda: traced(wide_norm, 1, 3, 16, 16),
        lambda: compiled(wide_norm, 1, 3, 16, 16),
    ),
    "operations_taken_apart": (
        lambda: traced(normalized, 2, 64),
        lambda: compiled(lambda x: cl.ops.layer_norm(x, axes=[-1]), 2, 64),
    ),
    "layouts_undone": (
        lambda: traced(
            lambda x: cl.ops.transpose(cl.ops.transpose(x, perm=[1, 0]), perm=[1, 0]), 2, 3
        ),
        lambda: traced(lambda x: cl.ops.relu(cl.ops.transpose(x, perm=[1, 0])), 2, 3),
    ),
    "images_of_one_column": (
        lambda: traced(
            lambda x: cl.ops.conv(x, weight=np.ones((4, 4, 3, 1), np.float32)), 1, 4, 9, 1
        ),
        lambda: traced(
            lambda x: cl.ops.conv(x, weight=np.ones((4, 4, 1, 3), np.float32)), 1, 4, 1, 9
        ),
    ),
    "pads_by_themselves": (
        lambda: traced(behind(0.0), 1, 4, 9, 9),
        lambda: traced(behind(1.0), 1, 4, 9, 9),
    ),
    "linear_as_convolution": (
        lambda: traced(heavy, 1, 4, 512),
        lambda: traced(heavy, 1, 512),
    ),
    "inputs_nobody_reads": (unread, lambda: traced(relu, 2, 3)),
    "one_shape": (
        lambda: compiled(relu, Dim("n", 1, 64), 8),
        lambda: compiled(relu, 4, 8),
    ),
    "fewer_enumerated_shapes": (lambda: enumerated(40), lambda: enumerated(4)),
    "half_outputs": (lambda: with_output("fp32"), lambda: with_output("fp16")),
    "pictures": (
        lambda: traced(convolutional(), 1, 3, 64, 64),
        lambda: traced(relu, 1, 8, 64, 64),
    ),
    "small_calls_in_a_loop": (
        lambda: traced(relu, 2, 3, runs=looped(100, MS // 10, MS // 100)),
        lambda: traced(relu, 2, 3, runs=looped(100, 5 * MS, MS // 100)),
    ),
    "pauses_between_calls": (
        lambda: traced(relu, 2, 3, runs=looped(20, MS, 500 * MS)),
        lambda: traced(relu, 2, 3, runs=looped(20, MS, MS)),
    ),
}
NAMES = [rule.__name__ for rule in RULES]


def by(name: str, shown: Seen) -> list[Suggestion]:
    rule = next(r for r in RULES if r.__name__ == name)
    return list(rule(shown))


def test_every_rule_is_tried_both_ways() -> None:
    assert set(CASES) | ELSEWHERE == set(NAMES)


ELSEWHERE = {"small_enough_for_the_cpu", "states_in_the_way"}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_what_it_is_about(name: str) -> None:
    found = by(name, CASES[name][0]())
    assert found
    for suggestion in found:
        assert suggestion.title
        assert suggestion.why.endswith(".")
        assert suggestion.evidence
        assert suggestion.action or suggestion.advice
        assert set(suggestion.sources) <= SOURCES | OTHERS
        if suggestion.action is not None:
            assert suggestion.action.name in KINDS


# Findings that concern no placement, and so are not in its tables.
OTHERS = {"CT-DOCS", "DAC-120", "FLUID-730"}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_says_nothing_of_a_program_without_it(name: str) -> None:
    assert by(name, CASES[name][1]()) == []


@pytest.mark.parametrize(("network", "kind"), [(gelu, "gelu"), (attention, "attention")])
def test_gelu_and_attention_written_out_are_seen(network: Network, kind: str) -> None:
    (found,) = by("operations_taken_apart", traced(network, 1, 8, 64))
    assert any(kind in text for text in found.evidence)


def test_a_program_of_little_work_is_for_the_cpu() -> None:
    tiny = compiled(convolutional(64), 1, 3, 64, 64)
    assert tiny.placed is not None
    found = by("small_enough_for_the_cpu", tiny)
    assert bool(found) == (tiny.placed.time.value < 0.25e-3 and tiny.placed.share("ne") > 0)
    large = compiled(split, 1, 256, 128, 128)
    assert large.placed is not None
    assert large.placed.time.value > 0.25e-3
    assert not by("small_enough_for_the_cpu", large)


def test_without_the_file_only_what_the_recording_tells_is_said() -> None:
    whole = traced(heavy, 1, 4, 512, runs=looped(100, MS // 10, MS // 100))
    alone = Seen(whole.facts, recording=whole.recording)
    assert {s.rule for s in advise(alone)} == {
        "int8_weights",
        "small_calls_in_a_loop",
        "tables_of_6_bits",
    }


def test_suggestions_can_be_asked_for_by_goal_and_target() -> None:
    shown = compiled(convolutional(), 1, 3, 64, 64, precision="fp32")
    assert {s.rule for s in advise(shown, goal="size")} <= {"int8_weights", "tables_of_6_bits"}
    assert "fp16" in {s.rule for s in advise(shown, target="ne")}
    assert "fp16" not in {s.rule for s in advise(shown, target="gpu")}
    assert advise(shown, goal="memory") == advise(shown, goal="size")


def test_what_can_be_done_by_itself_and_is_certain_comes_first() -> None:
    found = advise(compiled(split, 1, 256, 64, 64))
    acts = [s.action is not None for s in found]
    assert acts == sorted(acts, reverse=True)
    assert True in acts
    assert False in acts


def test_a_wish_names_a_goal_and_a_chip() -> None:
    assert wished("M1", "size").chip == "M1"
    assert wished("ane", None).target == "ne"
    assert wished("cpu", None).target == "any"
    with pytest.raises(UnknownParameter, match="goal='speed'"):
        wished(None, "speed")
    with pytest.raises(UnknownParameter):
        wished("M99", None)


def test_descriptions_are_those_of_files(tmp_path: Any) -> None:
    edit = cl.edit(mixed()).apply("float16")
    path = edit.save(tmp_path / "net.mlpackage")
    graph = mil.read(path)
    info = describe(graph, name="net", key="", package=path, function="", size=0)
    shown = seen(graph, description.apply(info, mil.describe(path)))
    assert "fp16" not in {s.rule for s in advise(shown)}
