"""A module of PyTorch's becomes a program: converted, called by names, its buffers states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CompileError, GraphError, UnknownParameter
from coreml_lab.run.activity import ACTIVITY

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch
X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


class Net(torch.nn.Module):  # type: ignore[misc]
    """A network whose results have names, that trains differently, and holds a plain tensor."""

    def __init__(self, shift: float = 1.0) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        self.drop, self.shift = torch.nn.Dropout(0.5), torch.tensor([[shift, 0, 0, 0]])

    def forward(self, x: Any, scale: Any = None) -> Any:
        y = self.drop(torch.relu(self.norm(self.conv(x)))).mean((2, 3)) + self.shift
        return {"scores": y if scale is None else y * scale, "best": y.argmax(1), "none": None}


class Summing(torch.nn.Module):  # type: ignore[misc]
    """A module that remembers."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("total", torch.full((3,), start))

    def forward(self, x: Any, mask: Any, at: Any) -> Any:
        self.total.add_(x)
        return torch.where(mask, self.total * 1.0, x - 1)[at]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with cl.configure(cache_dir=tmp_path):
        yield


def test_a_module_computes_what_pytorch_computes_and_is_left_as_it_was() -> None:
    net = Net().train()
    model = cl.compile(net, x=cl.spec(1, 3, 8, 8))
    assert net.training
    assert net.norm.training
    assert int(net.norm.num_batches_tracked) == 0
    assert (model.name, list(model.outputs)) == ("Net", ["scores", "best"])
    found, wanted = model.predict({"x": X}), net.eval()(torch.from_numpy(X))
    np.testing.assert_allclose(found["scores"], wanted["scores"].detach(), rtol=1e-5, atol=1e-5)
    assert found["best"].tolist() == wanted["best"].tolist()


def test_the_same_module_is_found_in_the_cache_and_another_one_is_not() -> None:
    net = Net()
    cl.compile(net, x=cl.spec(1, 3, 8, 8))
    before = ACTIVITY.cache_hits
    cl.compile(net, x=X)
    assert ACTIVITY.cache_hits == before + 1
    net.shift = torch.tensor([[5.0, 0, 0, 0]])  # part of its recording, and no parameter
    shifted = cl.compile(net, x=X).predict({"x": X})["scores"]
    wanted = net.eval()(torch.from_numpy(X))["scores"].detach()
    np.testing.assert_allclose(shifted, wanted, rtol=1e-5, atol=1e-5)
    assert ACTIVITY.cache_hits == before + 1


def test_dimensions_may_be_flexible_and_inputs_that_are_optional_given() -> None:
    net, batch = Net().eval(), cl.Dim("n", 1, 4)
    model = cl.compile(net, x=cl.spec(batch, 3, 8, 8), scale=np.full((1, 4), 2, np.float32))
    assert [p.shape for p in model.info.outputs] == [("n", 4), ("n",)]
    many, scale = np.repeat(X, 3, 0), np.float32([[1, 2, 3, 4]])
    found = model.predict({"x": many, "scale": scale})["scores"]
    wanted = net(torch.from_numpy(many), torch.from_numpy(scale))["scores"].detach()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_buffer_that_is_written_to_is_a_state_and_inputs_have_the_types_asked_for() -> None:
    module = Summing()
    how = {"mask": cl.spec(3, dtype=bool), "at": cl.spec(2, dtype="int64")}
    model = cl.compile(module, x=cl.spec(3), **how)
    assert [p.dtype for p in model.info.inputs] == ["fp32", "bool", "int64"]
    assert module.total.tolist() == [0, 0, 0]
    state = model.make_state()
    assert state.names == ("total",)
    given = {"x": np.ones(3, np.float32), "mask": np.array([True, False, True]), "at": [2, 1]}
    assert model.predict(given, state=state)["output"].tolist() == [1, 0]
    assert model.predict(given, state=state)["output"].tolist() == [2, 0]
    with pytest.raises(GraphError, match="'total' is written to, and does not begin with zeros"):
        cl.compile(Summing(1.0), x=cl.spec(3), **how)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["scripted", "exported"])
def test_a_module_may_be_recorded_already(kind: str) -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU()).eval()
    x = np.float32([[1, 2, 3]])
    given = torch.from_numpy(x)
    made = torch.jit.script(plain) if kind == "scripted" else torch.export.export(plain, (given,))
    found = cl.compile(made, input=cl.spec(1, 3)).predict({"input": x})["output"]
    np.testing.assert_allclose(found, plain(given).detach(), rtol=1e-5, atol=1e-5)


def test_an_older_system_and_fp16_may_be_asked_for() -> None:
    model = cl.compile(Net().eval(), x=X, target="iOS16", precision="fp16", name="small")
    assert (model.info.precision, model.name) == ("fp16", "small")
    with pytest.raises(UnknownParameter, match="no target 'iOS9'"):
        cl.compile(Net(), x=X, target="iOS9")
    with pytest.raises(UnknownParameter, match="only modules"):
        cl.compile(lambda x: x + 1.0, x=cl.spec(2), target="iOS16")


class Refused(torch.nn.Module):  # type: ignore[misc]
    """What coremltools has no conversion for, or what is no result."""

    def forward(self, x: Any) -> Any:
        return torch.linalg.svdvals(x) if x.ndim == 2 else [x, [x]]


def test_errors_say_what_was_called_with_what_and_what_to_try(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for specs, words in (({}, "has no inputs"), ({"y": X}, r"forward\(x, scale=None\) cannot")):
        with pytest.raises(UnknownParameter, match=words):
            cl.compile(Net(), **specs)
    with pytest.raises(UnknownParameter, match="x='a' is no input: str"):
        cl.compile(Net(), x="a")
    with pytest.raises(GraphError, match=r"Net\(x: fp32\[3\]\) cannot be recorded: RuntimeError"):
        cl.compile(Net(), x=cl.spec(3))
    with pytest.raises(GraphError, match="output 'output_1' is a list"):
        cl.compile(Refused(), x=cl.spec(3))
    with pytest.raises(CompileError, match="linalg_svdvals"):
        cl.compile(Refused(), x=cl.spec(3, 3))
    assert capfd.readouterr() == ("", "")


def test_functions_take_examples_too() -> None:
    model = cl.compile(lambda x: x * 2.0, x=np.ones(3, np.float32))
    assert model.predict({"x": np.ones(3, np.float32)})["output"].tolist() == [2, 2, 2]
