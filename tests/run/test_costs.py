"""What operations cost: learned from recordings, kept per machine, estimated otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.metrics import Provenance
from coreml_lab.program.cache import Cache
from coreml_lab.program.digest import digests
from coreml_lab.program.graph import Block, Graph, Node, TensorType, Value
from coreml_lab.records import OpInfo, Recording
from coreml_lab.run.compiler import cache
from coreml_lab.run.engine import Options
from coreml_lab.run.split import learned
from coreml_lab.run.split.costs import SPEEDS, Costs, Work, key, observed, work
from tests.support.fakes import MS
from tests.support.fakes import recording as fake

PLACE = "portable|cpu||"


def recording(**changes: Any) -> Recording:
    """A recording whose operations are known by their work, here their names."""
    made = fake(**changes)
    ops = tuple(dataclasses.replace(op, work=op.name) for op in made.program.ops)
    return dataclasses.replace(made, program=dataclasses.replace(made.program, ops=ops))


def spans(source: Recording, **durations: int) -> Recording:
    """The recording, with other durations for some operations, in every instrumented run."""
    runs = tuple(
        dataclasses.replace(
            run,
            spans=tuple(
                dataclasses.replace(s, duration_ns=durations.get(s.node, s.duration_ns))
                for s in run.spans
            ),
        )
        for run in source.runs
    )
    return dataclasses.replace(source, runs=runs)


def test_a_recording_tells_the_median_of_each_kind_of_operation() -> None:
    found = observed(recording())
    linear = found[PLACE + "linear|linear_2"]
    assert linear.seconds == pytest.approx(1e-3)
    assert linear.provenance is Provenance.MEASURED


def test_a_fused_kernel_is_shared_out_by_estimates_and_says_so() -> None:
    found = observed(recording())
    conv, relu = (found[PLACE + k] for k in ("conv|conv_0", "relu|relu_1"))
    assert conv.seconds + relu.seconds == pytest.approx(2e-3)
    assert conv.seconds > relu.seconds > 0
    assert {conv.provenance, relu.provenance} == {Provenance.APPORTIONED}


def test_the_engines_own_work_and_flexible_shapes_teach_nothing() -> None:
    assert not any("reorder" in name for name in observed(recording()))
    assert key(OpInfo("a", "relu", ("n", 8), "fp32")) == ""
    assert observed(fake()) == {}  # as files have it that were written before
    model = cl.compile(cl.ops.exp, x=cl.spec(cl.Dim("n", 1, 8), 4))
    assert [op.work for op in model.program.info.ops] == [""]
    assert observed(recording(runs=())) == {}


def test_what_was_learned_is_kept_and_the_median_of_several_recordings_counts(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path)
    assert learned.costs(cache) == Costs()
    for milliseconds in (1, 9, 3):
        assert learned.learn(cache, spans(recording(), linear_2=milliseconds * MS)) == 3
    cost = learned.costs(cache).learned[PLACE + "linear|linear_2"]
    assert cost.seconds == pytest.approx(3e-3)
    assert cost.provenance is Provenance.MEASURED
    assert len(cache.entries()) == 1


def test_only_the_latest_recordings_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for milliseconds in (1, *[5] * learned.KEPT, *[7] * learned.KEPT):
        learned.learn(cache, spans(recording(), linear_2=milliseconds * MS))
    cost = learned.costs(cache).learned[PLACE + "linear|linear_2"]
    assert cost.seconds == pytest.approx(7e-3)


def test_a_damaged_entry_is_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    learned.learn(cache, recording())
    (file,) = tmp_path.glob(f"*/{learned.FILE}")
    file.write_text("{")
    assert learned.costs(cache) == Costs()
    assert learned.learn(cache, recording()) == 3


def test_profiling_a_model_teaches_its_next_plan(cache_dir: Path) -> None:
    model = cl.compile(lambda x: cl.ops.tanh(cl.ops.exp(x)), x=cl.spec(64, 64))
    before = cl.plan(model)
    assert "0 of" in str(before)
    cl.profile(model, {"x": np.zeros((64, 64), np.float32)}, runs=3)
    # Beside other work the engine that was timed may look slower than another's rule of thumb.
    assert "2 of" in str(cl.plan(model))
    known = learned.costs(cache()).learned
    assert {(k.split("|")[3], c.provenance) for k, c in known.items()} == {
        ("exp", Provenance.MEASURED),
        ("tanh", Provenance.MEASURED),
    }


def test_an_unwritable_cache_spoils_no_profile(tmp_path: Path) -> None:
    model = cl.compile(cl.ops.exp, x=cl.spec(4))
    (tmp_path / "file").write_text("")
    cl.configure(cache_dir=tmp_path / "file" / "cache")
    assert cl.profile(model, {"x": np.zeros(4, np.float32)}, runs=2).spans


def test_estimates_follow_arithmetic_and_memory() -> None:
    def one(op: str, shape: tuple[int, ...], *reads: tuple[int, ...], **attrs: Any) -> float:
        kinds = [TensorType(s, np.dtype(np.float32)) for s in reads]
        inputs = {f"i{n}": Value(Node("input", (k,), name=f"i{n}")) for n, k in enumerate(kinds)}
        node = Node(op, (TensorType(shape, np.dtype(np.float32)),), inputs, attrs, name="n")
        assert Graph({"y": Value(node)}).ops
        return work(node, OpInfo("n", op, shape, "fp32")).flops

    kernel = np.zeros((8, 4, 3, 3), np.float32)
    assert one("conv", (1, 8, 10, 10), (1, 4, 12, 12), weight=kernel) == 2 * 4 * 9 * 800
    assert one("linear", (5, 8), (5, 16), weight=np.zeros((8, 16), np.float32)) == 2 * 16 * 40
    assert one("matmul", (5, 8), (5, 16), (16, 8)) == 2 * 16 * 40
    assert one("relu", (5, 8), (5, 8)) == 40


def test_every_default_is_a_finite_speed_and_none_claims_to_be_measured() -> None:
    for (engine, kind), speed in SPEEDS.items():
        assert min(speed.call, speed.step, speed.flops, speed.memory, speed.watts) > 0
        node = Node("relu", (TensorType((8,), np.dtype(np.float32)),), name="n")
        (cost,) = Costs().table(
            engine, f"{kind}:0", [work(node, OpInfo("n", "relu", (8,), "fp32"))]
        )
        assert cost.provenance is Provenance.ESTIMATED
        assert cost.seconds >= speed.step


def kinds(source: Any, **inputs: Any) -> list[str]:
    """The keys of a program's operations."""
    return [key(op) for op in cl.compile(source, **inputs).program.info.ops]


def test_operations_of_one_result_and_different_operands_are_different_kinds() -> None:
    def total(count: int) -> list[str]:
        return kinds(lambda x: cl.ops.reduce_sum(x, axes=[1]), x=cl.spec(1, count))

    assert total(4) == total(4)
    assert set(total(4)).isdisjoint(total(2000))

    def product(inner: int) -> list[str]:
        return kinds(cl.ops.matmul, x=cl.spec(8, inner), y=cl.spec(inner, 8))

    assert set(product(2)).isdisjoint(product(3000))


def test_parameters_count_by_their_values_and_weights_by_their_types() -> None:
    def summed(axis: int) -> list[str]:
        return kinds(lambda x: cl.ops.reduce_sum(x, axes=[axis]), x=cl.spec(4, 4))

    assert summed(0) != summed(1)

    def scaled(value: float) -> list[str]:
        weight = np.full((8, 8), value, np.float32)
        return kinds(lambda x: cl.ops.matmul(x, weight), x=cl.spec(1, 8))

    assert scaled(1.0) == scaled(2.0)


def graph(*inner: int) -> Graph:
    """A product with weights that a fixed operation makes of fewer numbers."""
    kind, held = (TensorType(s, np.dtype(np.float32)) for s in ((4, 4), inner))
    data = Value(Node("const", (held,), attrs={"val": np.ones(inner, np.float32)}, name="data"))
    wide = Value(Node("tile", (kind,), {"x": data}, name="wide"))
    x = Value(Node("input", (kind,), name="x"))
    return Graph({"y": Value(Node("matmul", (kind,), {"x": x, "y": wide}, name="product"))})


def test_the_fixed_operations_that_come_along_count() -> None:
    one, other = (digests(g, g.ops)["product"] for g in (graph(4, 1), graph(1, 4)))
    assert one != other
    again = graph(4, 1)
    assert one == digests(again, again.ops)["product"]


def test_a_loop_is_another_kind_where_it_runs_more_often() -> None:
    def loop(count: float) -> str:
        kind, flag = TensorType((), np.dtype(np.float32)), TensorType((), np.dtype(np.bool_))
        i = Node("input", (kind,), name="i")
        end = Node("const", (kind,), attrs={"val": np.float32(count)}, name="end")
        given = {"x": Value(i), "y": Value(end)}
        less, more = Node("less", (flag,), given, name="less"), Node("add", (kind,), given)
        blocks = tuple(Block((i,), (n,), (Value(n),)) for n in (less, more))
        start = Value(Node("input", (kind,), name="x"))
        node = Node("while_loop", (kind,), {"loop_vars": (start,)}, blocks=blocks, name="loop")
        return digests(Graph({"y": Value(node)}), (node,))["loop"]

    assert loop(3) == loop(3) != loop(300)


def test_options_that_change_times_are_part_of_where_they_were_measured(tmp_path: Path) -> None:
    known = Cache(tmp_path)
    options = Options(threads=1, faithful=True, packed="fast")
    taught = dataclasses.replace(recording(), live=(SimpleNamespace(options=options), None))
    learned.learn(known, taught)
    costs = learned.costs(known)
    linear = Work("n", "linear|linear_2", 1.0, 1.0, 0.0, 1.0)
    assert learned.how(options) == "1 threads, faithful, packed fast"
    assert learned.how(Options()) == ""
    for how, kind in ((learned.how(options), "measured"), ("", "estimated")):
        (cost,) = dataclasses.replace(costs, how=how).table("portable", "cpu", [linear])
        assert cost.provenance.value == kind


def test_what_was_learned_under_other_keys_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    known = Cache(tmp_path)
    monkeypatch.setattr(learned, "FORM", learned.FORM - 1)
    learned.learn(known, recording())
    assert learned.costs(known).learned
    monkeypatch.undo()
    assert learned.costs(known) == Costs()
