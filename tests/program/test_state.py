"""States: what a model remembers, on both engines, against PyTorch step by step."""

from __future__ import annotations

import importlib.util
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError
from coreml_lab.program import mil
from tests.support.packages import assert_same_when_compiled
from tests.support.stateful import build, save, state, tensor

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]


def accumulator() -> Any:
    """The model of coremltools' own guide: a sum that lives from call to call."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3, dtype=torch.float16))
            self.register_buffer("bias", torch.ones(3, dtype=torch.float16))

        def forward(self, x: Any) -> Any:
            self.total.add_(x)
            return self.total * 2 + self.bias

    return Net().eval()


def decoder(width: int, context: int) -> Any:
    """One attention head whose keys and values are kept: a step of a language model."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Linear(width, 3 * width)
            for name in ("keys", "values"):
                self.register_buffer(name, torch.zeros(1, context, width, dtype=torch.float16))

        def forward(self, x: Any, mask: Any) -> Any:
            query, key, value = self.project(x).chunk(3, dim=-1)
            end = mask.shape[-1]
            self.keys[:, end - 1 : end, :] = key
            self.values[:, end - 1 : end, :] = value
            kept = (b[:, :end, :].to(x.dtype) for b in (self.keys, self.values))
            keys, values = kept
            scores = query @ keys.transpose(-1, -2) * width**-0.5
            return (scores + mask).softmax(-1) @ values

    torch.manual_seed(0)
    return Net().eval()


def packaged(net: Any, example: tuple[Any, ...], folder: Path, *, inputs: Any, states: Any) -> Path:
    """The network in half precision, in which Core ML keeps its states."""
    import torch

    from coreml_lab.program.mil.tools import ct

    with torch.no_grad():
        traced = torch.jit.trace(net, example)
    precision = ct.precision.FLOAT16
    return save(folder, traced, states, inputs=inputs, compute_precision=precision)


@pytest.fixture
def accumulating(tmp_path: Path) -> Path:
    import torch

    states = [state("total", 3), state("bias", 3)]
    example = (torch.zeros(3, dtype=torch.float16),)
    inputs = [tensor("x", 3, dtype=np.float16)]
    package = packaged(accumulator(), example, tmp_path, inputs=inputs, states=states)
    return assert_same_when_compiled(package)


@pytest.mark.parametrize("device", ["coreml", "cpu"])
def test_a_state_lives_from_call_to_call(accumulating: Path, device: str) -> None:
    model = cl.load(accumulating).to(device)
    assert set(model.states) == {"total", "bias"}
    first, second = model.make_state(), model.make_state()
    x = np.array([1, 2, 3], np.float16)
    for i in range(1, 5):
        (got,) = model.predict({"x": x}, state=first).values()
        np.testing.assert_array_equal(got, x * 2 * i)
    np.testing.assert_array_equal(first.read("total"), x * 4)
    np.testing.assert_array_equal(second.read("total"), x * 0)
    first.write("total", np.zeros(3, np.float32))
    first.write("bias", np.ones(3, np.float16))
    (got,) = model.predict({"x": x}, first).values()
    np.testing.assert_array_equal(got, x * 2 + 1)
    assert first.read("total").dtype == np.float16


@pytest.mark.parametrize("device", ["coreml", "cpu"])
def test_a_batch_goes_through_one_state_in_order(accumulating: Path, device: str) -> None:
    model = cl.load(accumulating).to(device)
    x = np.ones(3, np.float16)
    results = model.predict([{"x": x}] * 3, state=model.make_state())
    assert [next(iter(r.values()))[0] for r in results] == [2, 4, 6]


def test_a_state_made_by_one_engine_serves_another(accumulating: Path) -> None:
    model = cl.load(accumulating)
    x, held = np.ones(3, np.float16), model.make_state()
    other = model.to("cpu").make_state()
    for arm in (model, model.to("cpu"), model):
        arm.predict({"x": x}, state=held)
        arm.predict({"x": x}, state=other)
    np.testing.assert_array_equal(held.read("total"), x * 3)
    np.testing.assert_array_equal(other.read("total"), x * 3)


def test_wrong_use_of_states_says_what_to_do(accumulating: Path) -> None:
    model = cl.load(accumulating)
    x = np.ones(3, np.float16)
    with pytest.raises(InputError, match="make_state"):
        model.predict({"x": x})
    held = model.make_state()
    with pytest.raises(InputError, match="there is no state 'kv'"):
        held.read("kv")
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        held.write("total", np.zeros(4, np.float16))
    plain = cl.compile(lambda y: y + 1, y=cl.spec(2))
    with pytest.raises(InputError, match="has no states"):
        plain.make_state()
    with pytest.raises(InputError, match="its states are none"):
        plain.predict({"y": np.zeros(2, np.float32)}, state=held)


def test_a_warm_cache_knows_the_states(accumulating: Path) -> None:
    names = [set(cl.load(accumulating).states) for _ in range(2)]
    assert names == [{"total", "bias"}] * 2
    graph = mil.read(accumulating)
    assert graph.updates["bias"].node is graph.states["bias"]
    assert graph.updates["total"].node is not graph.states["total"]


def test_a_trace_leaves_states_alone(accumulating: Path) -> None:
    model = cl.load(accumulating)
    for arm in (model, model.to("cpu")):
        assert len(arm.trace({"x": np.ones(3, np.float16)}, runs=2)) == 2


@pytest.mark.parametrize("device", ["coreml", "cpu"])
def test_a_decoder_keeps_its_keys_and_values(device: str, tmp_path: Path) -> None:
    import torch

    from coreml_lab.program.mil.tools import ct

    net, width, context = decoder(8, 12), 8, 12
    example = (torch.zeros(1, 1, width), torch.zeros(1, 1, 3))
    end = ct.RangeDim(1, context, default=3)
    inputs = [tensor("x", 1, 1, width), tensor("mask", 1, 1, end)]
    states = [state("keys", 1, context, width), state("values", 1, context, width)]
    model = cl.load(packaged(net, example, tmp_path, inputs=inputs, states=states)).to(device)
    fresh, held = decoder(8, 12), model.make_state()
    given: list[tuple[Any, Any]] = []
    for step in range(context):
        x = torch.randn(1, 1, width, generator=torch.Generator().manual_seed(step))
        mask = torch.zeros(1, 1, step + 1)
        with torch.no_grad():
            want = fresh(x, mask).numpy()
        (got,) = model.predict({"x": x.numpy(), "mask": mask.numpy()}, state=held).values()
        given.append((got, want))
    # Results that were handed out stay as they are while the bindings are used again.
    for got, want in given:
        np.testing.assert_allclose(got, want, atol=4e-3)
    np.testing.assert_allclose(held.read("keys"), fresh.keys.numpy(), atol=4e-3)


@pytest.mark.parametrize("device", ["coreml", "cpu"])
def test_loops_and_branches_change_states(device: str, tmp_path: Path) -> None:
    from coreml_lab.program.mil.tools import mb, types

    def bump(held: Any, factor: float, plus: float) -> None:
        new = mb.add(x=mb.mul(x=mb.read_state(input=held), y=np.float16(factor)), y=plus)
        mb.coreml_update_state(state=held, value=new)

    def function(x: Any, held: Any) -> Any:
        def body(i: Any) -> Any:
            bump(held, 1, np.float16(1))
            return mb.add(x=i, y=np.float16(1))

        def double() -> Any:
            bump(held, 2, np.float16(0))
            return mb.identity(x=n)

        start = (np.zeros(1, np.float16),)
        n = mb.while_loop(_cond=lambda i: mb.less(x=i, y=x), _body=body, loop_vars=start)
        result = mb.cond(
            pred=mb.greater(x=mb.squeeze(x=x), y=np.float16(2)),
            _true_fn=double,
            _false_fn=lambda: mb.add(x=n, y=np.float16(10)),
        )
        return mb.add(x=result, y=mb.read_state(input=held))

    specs = {
        "x": mb.TensorSpec((1,), dtype=types.fp16),
        "held": mb.StateTensorSpec((3,), dtype=types.fp16),
    }
    model = cl.load(build(tmp_path, function, specs, half=True)).to(device)
    (name,), kept = model.states, model.make_state()
    for count, want, left in ((2, 14, 2), (3, 13, 10), (0, 20, 10)):
        x = np.array([count], np.float16)
        (got,) = model.predict({next(iter(model.inputs)): x}, state=kept).values()
        np.testing.assert_array_equal(got, [want] * 3)
        np.testing.assert_array_equal(kept.read(name), [left] * 3)


def test_no_step_copies_the_state_to_the_host(tmp_path: Path) -> None:
    """NumPy reports its memory to tracemalloc: a copied state would show."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", torch.zeros(512, 1024, dtype=torch.float16))

        def forward(self, x: Any) -> Any:
            self.cache[3:4, :] = x
            return self.cache[2:4, :] * 2

    inputs = [tensor("x", 1, 1024, dtype=np.float16)]
    example = (torch.zeros(1, 1024, dtype=torch.float16),)
    states = [state("cache", 512, 1024)]
    model = cl.load(packaged(Net().eval(), example, tmp_path, inputs=inputs, states=states))
    held, x = model.make_state(), np.ones((1, 1024), np.float16)
    buffers = {held.current["cache"].data_ptr(), held.spare("cache").data_ptr()}
    model.predict({"x": x}, state=held)
    tracemalloc.start()
    for _ in range(20):
        model.predict({"x": x}, state=held)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 512 * 1024 * 2 / 4
    assert {held.current["cache"].data_ptr(), held.spare("cache").data_ptr()} == buffers
    np.testing.assert_array_equal(held.read("cache")[3], x[0])


def test_states_are_kept_as_fp32_and_hold_numbers_of_fp16(tmp_path: Path) -> None:
    import torch

    from coreml_lab.run.lowering.graph import lower

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("sums", torch.zeros(4, 8, dtype=torch.float16))

        def forward(self, x: Any) -> Any:
            self.sums[1:3, :] = self.sums[0:2, :] + x * 0.1
            return self.sums * 2

    inputs, example = [tensor("x", 2, 8, dtype=np.float16)], (torch.ones(2, 8).half(),)
    states = [state("sums", 4, 8)]
    package = packaged(Net().eval(), example, tmp_path, inputs=inputs, states=states)
    model = cl.load(package)
    kept, wanted = model.make_state(), model.to("cpu").make_state()
    x = np.linspace(0.1, 3, 16, dtype=np.float16).reshape(2, 8)
    for _ in range(3):
        model.predict({"x": x}, state=kept)
        model.to("cpu").predict({"x": x}, state=wanted)
    inside = kept.current["sums"].numpy()
    assert inside.dtype == np.float32
    np.testing.assert_array_equal(inside, inside.astype(np.float16))
    np.testing.assert_allclose(kept.read("sums"), wanted.read("sums"), rtol=1e-3)
    assert kept.bytes_per_step == 2 * 4 * 8 * 4
    # Nothing converts or copies the whole: an update reads the state and makes the new one.
    lowered = lower(mil.read(package), wide_states=True)
    (makes,) = (n for n in lowered.model.graph.node if "sums_out" in n.output)
    assert makes.op_type == "ScatterND"
    assert not {n.op_type for n in lowered.model.graph.node if "sums" in n.input} & {"Cast"}
