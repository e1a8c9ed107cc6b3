"""Branches, loops and lists: both engines against Python, PyTorch and each other."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import NumericalError
from coreml_lab.program import mil
from coreml_lab.program.graph import listing
from coreml_lab.program.mil import inference
from coreml_lab.program.mil.tools import ct, get_new_symbol, mb, types
from coreml_lab.program.ops import OPS
from tests.support.packages import assert_same_when_compiled
from tests.support.stateful import build, save, tensor

pytestmark = pytest.mark.filterwarnings("ignore")
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")


def both(package: Path, feeds: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The first result on each engine."""
    model = cl.load(assert_same_when_compiled(package))
    assert model.plan.engine == "portable"
    return [next(iter(arm.predict(feeds).values())) for arm in (model, model.to("cpu"))]


def agree(package: Path, feeds: dict[str, Any], want: Any, tolerance: float = 1e-5) -> None:
    for got in both(package, feeds):
        assert got.shape == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def branching(x: Any) -> Any:
    """A branch inside a branch; one of them hands back what it was given."""
    total = mb.reduce_sum(x=x, axes=[0], keep_dims=False)
    return mb.cond(
        pred=mb.greater(x=total, y=0.0),
        _true_fn=lambda: mb.cond(
            pred=mb.greater(x=total, y=10.0),
            _true_fn=lambda: mb.mul(x=x, y=total),
            _false_fn=lambda: mb.identity(x=x),
        ),
        _false_fn=lambda: mb.sub(x=x, y=1.0),
    )


@pytest.mark.parametrize("scale", [-1.0, 1.0, 10.0])
def test_a_branch_runs_what_its_condition_says(scale: float, tmp_path: Path) -> None:
    x = np.array([1, 2, 3], np.float32) * np.float32(scale)
    package = build(tmp_path, branching, {"x": (3,)})
    agree(package, {"x": x}, x - 1 if scale < 0 else x * x.sum() if scale > 1 else x)


def test_a_branch_not_taken_is_not_run(tmp_path: Path) -> None:
    def function(x: Any, at: Any) -> Any:
        return mb.cond(
            pred=mb.less(x=mb.squeeze(x=at), y=np.int32(3)),
            _true_fn=lambda: mb.gather(x=x, indices=at, axis=0),
            _false_fn=lambda: mb.slice_by_size(x=x, begin=[0], size=[1]),
        )

    index = mb.TensorSpec(shape=(1,), dtype=types.int32)
    package = build(tmp_path, function, {"x": (3,), "at": index})
    x = np.array([5, 6, 7], np.float32)
    agree(package, {"x": x, "at": np.array([99], np.int32)}, [5])
    agree(package, {"x": x, "at": np.array([2], np.int32)}, [7])


def nested(x: Any, n: Any) -> Any:
    """for i in range(n): for j in range(i): x = x + w, with a captured weight."""
    weight = np.array([0.5, -1.0, 2.0], np.float32)

    def inner(i: Any, y: Any) -> Any:
        return mb.while_loop(
            _cond=lambda j, z: mb.less(x=j, y=i),
            _body=lambda j, z: (mb.add(x=j, y=1.0), mb.add(x=z, y=weight)),
            loop_vars=(mb.sub(x=i, y=i), y),
        )[1]

    return mb.while_loop(
        _cond=lambda i, y: mb.less(x=i, y=n),
        _body=lambda i, y: (mb.add(x=i, y=1.0), inner(i, y)),
        loop_vars=(mb.sub(x=n, y=n), x),
    )[1]


@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_loop_in_a_loop_reads_what_lies_around_it(n: int, tmp_path: Path) -> None:
    package = build(tmp_path, nested, {"x": (3,), "n": (1,)})
    x = np.array([1, 2, 3], np.float32)
    want = x + n * (n - 1) // 2 * np.array([0.5, -1.0, 2.0], np.float32)
    agree(package, {"x": x, "n": np.array([n], np.float32)}, want)


def counting(step: float) -> Any:
    """Adds ``step`` until ten is reached."""

    def function(x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda y: mb.less(x=y, y=10.0),
            _body=lambda y: mb.add(x=y, y=step),
            loop_vars=(x,),
        )

    return function


def test_the_graph_shows_blocks_and_its_key_depends_on_them(tmp_path: Path) -> None:
    keys = set()
    for i, step in enumerate((1.0, 1.0, 2.0)):
        folder = tmp_path / str(i)
        folder.mkdir()

        graph = mil.read(build(folder, counting(step), {"x": (1,)}))
        keys.add(graph.key())
    assert len(keys) == 2
    (loop,) = graph.ops
    assert [n.op for n in graph.nested] == ["less", "add"]
    assert {v.const.item() for v in loop.operands() if v.const is not None} == {10.0, 2.0}
    assert "  block 1(fp32[1])" in listing(graph)


def test_a_trace_counts_a_loop_once(tmp_path: Path) -> None:
    model = cl.load(build(tmp_path, nested, {"x": (3,), "n": (1,)}))
    feeds = {"x": np.zeros(3, np.float32), "n": np.array([5], np.float32)}
    for arm in (model, model.to("cpu")):
        (run,) = arm.trace(feeds, runs=1)
        # The portable engine also looks at the condition before the loop.
        assert 1 <= [s.op for s in run.spans].count("while_loop") <= 4
        assert {s.op for s in run.spans} <= {"sub", "while_loop"}
        assert sum(s.duration_ns for s in run.spans) <= run.duration_ns


def squares(x: Any) -> Any:
    """A list that grows: element i is x * i."""
    filled = mb.while_loop(
        _cond=lambda i, ls: mb.less(x=i, y=np.int32(5)),
        _body=lambda i, ls: (
            mb.add(x=i, y=np.int32(1)),
            mb.list_write(ls=ls, index=i, value=mb.mul(x=x, y=mb.cast(x=i, dtype="fp32"))),
        ),
        loop_vars=(np.int32(0), mb.make_list(init_length=1, elem_shape=(3,), dtype="fp32")),
    )[1]
    picked = mb.list_gather(ls=filled, indices=np.array([4, 0, 2], np.int32))
    last = mb.list_read(ls=filled, index=np.int32(3))
    length = mb.cast(x=mb.list_length(ls=filled), dtype="fp32")
    return mb.add(x=picked, y=mb.mul(x=last, y=length))


def test_a_list_grows_in_a_loop(tmp_path: Path) -> None:
    x = np.array([1, -2, 3], np.float32)
    want = np.stack([x * 4, x * 0, x * 2]) + x * 3 * 5
    agree(build(tmp_path, squares, {"x": (3,)}), {"x": x}, want)


def scattering(x: Any) -> Any:
    ls = mb.make_list(init_length=2, dynamic_length=True, elem_shape=(3,), dtype="fp32")
    ls = mb.list_scatter(ls=ls, indices=np.array([3, 1], np.int32), value=x)
    return mb.list_gather(ls=ls, indices=np.arange(4, dtype=np.int32))


def test_a_list_grows_where_several_elements_are_written(tmp_path: Path) -> None:
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    want = np.stack([x[0] * 0, x[1], x[0] * 0, x[0]])
    agree(build(tmp_path, scattering, {"x": (2, 3)}), {"x": x}, want)


def test_a_list_takes_sizes_that_are_known_when_it_runs(tmp_path: Path) -> None:
    batch = get_new_symbol("batch")

    def function(x: Any) -> Any:
        held = mb.make_list(init_length=2, elem_shape=(str(batch), np.int32(3)), dtype="fp32")
        filled = mb.while_loop(
            _cond=lambda i, ls: mb.less(x=i, y=np.int32(4)),
            _body=lambda i, ls: (
                mb.add(x=i, y=np.int32(1)),
                mb.list_write(ls=ls, index=i, value=mb.mul(x=x, y=mb.cast(x=i, dtype="fp32"))),
            ),
            loop_vars=(np.int32(0), held),
        )[1]
        return mb.list_gather(ls=filled, indices=np.array([3, 1], np.int32))

    given = [tensor("x", ct.RangeDim(1, 8), 3)]
    package = build(tmp_path, function, {"x": (batch, 3)}, inputs=given)
    for size in (1, 5):
        x = np.ones((size, 3), np.float32)
        agree(package, {"x": x}, np.stack([x * 3, x]))


def test_weights_inside_a_loop_are_counted_and_checked(tmp_path: Path) -> None:
    def looping(weight: Any) -> Any:
        def function(x: Any) -> Any:
            return mb.while_loop(
                _cond=lambda y: mb.less(x=mb.reduce_sum(x=y), y=10.0),
                _body=lambda y: mb.linear(x=y, weight=weight),
                loop_vars=(x,),
            )

        return function

    weight = np.full((30, 30), 2, np.float32)
    model = cl.load(build(tmp_path, looping(weight), {"x": (1, 30)}))
    assert sum(o.weight_bytes for o in model.info.ops) >= weight.nbytes
    (tmp_path / "bad").mkdir()
    with pytest.raises(NumericalError, match="NaN"):
        cl.load(build(tmp_path / "bad", looping(weight * np.nan), {"x": (1, 30)}))


def test_parameters_of_list_operations_are_mils() -> None:
    named = [o for o in OPS.values() if o.family == "lists"]
    assert len(named) == 6
    for op in named:
        given = {p.name: p.kind is p.KEYWORD_ONLY for p in op.signature.parameters.values()}
        assert given == inference.parameters(op.name)


@needs_torch
@pytest.mark.torch
def test_a_gated_recurrent_unit_agrees_with_pytorch(tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(4, 5, num_layers=2)

        def forward(self, x: Any) -> Any:
            return self.gru(x)[0]

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(6, 1, 4)
    package = save(tmp_path, torch.jit.trace(net, x), inputs=[tensor("x", 6, 1, 4)])
    assert "while_loop" in {n.op for n in mil.read(package).ops}
    agree(package, {"x": x.numpy()}, net(x).detach().numpy())


@needs_torch
@pytest.mark.torch
def test_a_scripted_loop_with_a_branch_agrees_with_pytorch(tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while bool(x.sum() < 50.0):
                x = x * 2.0
                if bool(x[0] > 5.0):  # noqa: SIM108 - a branch is what is tested
                    x = x + 1.0
                else:
                    x = x - 0.5
            return x

    x = torch.tensor([1.0, 2.0, 3.0])
    package = save(tmp_path, torch.jit.script(Net()), inputs=[tensor("x", 3)])
    agree(package, {"x": x.numpy()}, Net()(x).numpy())
