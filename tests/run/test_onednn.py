"""Layers as one kernel of oneDNN's give what the operations give, and only where they may."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Dim
from coreml_lab.run.engine import Options
from coreml_lab.run.reference import ReferenceEngine
from coreml_lab.run.steps import onednn
from coreml_lab.run.steps.ways import Way

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
if not onednn.usable(torch):
    pytest.skip("this PyTorch has no oneDNN", allow_module_level=True)
pytestmark = pytest.mark.torch

ops = cl.ops
RNG = np.random.default_rng(0)
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "none": lambda x: x,
    "relu": ops.relu,
    "relu6": ops.relu6,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "silu": ops.silu,
    "gelu": lambda x: ops.gelu(x, mode="EXACT"),
    "gelu_tanh": lambda x: ops.gelu(x, mode="TANH_APPROXIMATION"),
}
WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "uneven": {"pad_type": "same", "strides": [2, 2]},
    "depthwise": {"groups": 4, "pad_type": "custom", "pad": [1, 1, 1, 1]},
    "apart": {"dilations": [2, 2], "pad_type": "custom", "pad": [2, 2, 2, 2]},
}


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def conv(x: Any, *, filters: int = 8, **how: Any) -> Any:
    groups = how.get("groups", 1)
    weight, bias = normal(filters, 4 // groups, 3, 3), normal(filters)
    return ops.conv(x=x, weight=weight, bias=bias, **how)


def ways(function: Callable[..., Any], *shape: Any) -> tuple[Any, Any, Any]:
    """The program, planned in both ways."""
    model = cl.compile(function, x=cl.spec(*shape), engine="pytorch", device="cpu")
    from coreml_lab.run.pytorch import PyTorchEngine

    program: Any = PyTorchEngine().load(model.program, "cpu", Options())
    return model.program, program, program._planned(Way(channels_last=True, layers=True))


def computed(program: Any, plan: Any, x: Any) -> Any:
    with torch.inference_mode():
        (found,) = program._on_cpu(plan, {"x": x}, program.make_state()).values()
    return found


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("added", [False, True])
def test_a_convolution_with_what_follows_is_one_kernel(window: str, added: bool) -> None:
    how = WINDOWS[window]
    for kind in ACTIVATIONS if window == "plain" else ("none", "relu"):
        activation = ACTIVATIONS[kind]

        def network(x: Any, behind: Callable[[Any], Any] = activation) -> Any:
            first = conv(x, **how)
            # What is added comes from an operation that oneDNN has no part in.
            return behind(ops.add(x=first, y=ops.abs(conv(x, **how))) if added else first)

        source, program, plan = ways(network, 2, 4, 8, 10)
        x = normal(2, 4, 8, 10)
        (wanted,) = ReferenceEngine().load(source, "cpu", Options()).run({"x": x}).values()
        found = computed(program, plan, x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=kind)
        # Behind an addition oneDNN, as PyTorch calls it, has no activations.
        apart = added and kind not in {"none", "relu", "relu6"}
        assert len(plan.steps) == (3 + apart if added else 1), kind


def test_a_linear_layer_with_its_activation_is_one_kernel() -> None:
    for kind, activation in ACTIVATIONS.items():
        weight, bias = normal(5, 7), normal(5)

        def network(x: Any, behind: Callable[[Any], Any] = activation) -> Any:
            return behind(ops.linear(x=x, weight=weight, bias=bias))  # noqa: B023 - compiled at once

        source, program, plan = ways(network, 2, 3, 7)
        x = normal(2, 3, 7)
        (wanted,) = ReferenceEngine().load(source, "cpu", Options()).run({"x": x}).values()
        found = computed(program, plan, x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=kind)
        assert len(plan.steps) == 1, kind


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_what_is_not_a_number_stays_that(kind: str) -> None:
    weight = np.eye(4, dtype=np.float32)
    _, program, plan = ways(lambda x: ACTIVATIONS[kind](ops.linear(x=x, weight=weight)), 2, 4)
    found = computed(program, plan, np.array([[np.nan, 1, 2, 3], [1, 2, 3, 4]], np.float32))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_where_two_convolutions_meet_one_of_them_adds() -> None:
    source, program, plan = ways(lambda x: ops.relu(ops.add(x=conv(x), y=conv(x))), 1, 4, 6, 6)
    x = normal(1, 4, 6, 6)
    (wanted,) = ReferenceEngine().load(source, "cpu", Options()).run({"x": x}).values()
    np.testing.assert_allclose(computed(program, plan, x), wanted, rtol=1e-4, atol=1e-4)
    assert sorted(len(step.fused) for step in plan.steps) == [0, 2]


def test_what_is_added_is_only_read() -> None:
    how = {"filters": 4, "pad_type": "custom", "pad": [1, 1, 1, 1]}
    source, program, plan = ways(lambda x: ops.relu(ops.add(x=conv(x, **how), y=x)), 1, 4, 6, 6)
    x = normal(1, 4, 6, 6)
    before = x.copy()
    (wanted,) = ReferenceEngine().load(source, "cpu", Options()).run({"x": x}).values()
    np.testing.assert_allclose(computed(program, plan, x), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(x, before)
    assert [len(step.fused) for step in plan.steps] == [2]


def test_what_others_read_too_stays_a_value_of_its_own() -> None:
    def network(x: Any) -> Any:
        first = conv(x)
        return ops.mul(x=ops.relu(first), y=ops.sigmoid(first))

    source, program, plan = ways(network, 1, 4, 6, 6)
    x = normal(1, 4, 6, 6)
    (wanted,) = ReferenceEngine().load(source, "cpu", Options()).run({"x": x}).values()
    np.testing.assert_allclose(computed(program, plan, x), wanted, rtol=1e-4, atol=1e-4)
    assert not [step for step in plan.steps if step.fused]


def test_what_is_flexible_integral_or_of_one_dimension_is_left_alone() -> None:
    def found(function: Callable[..., Any], *shape: Any, dtype: str = "fp32") -> Any:
        model = cl.compile(function, x=cl.spec(*shape, dtype=dtype))
        return onednn.layers(model.program.graph)

    weight = normal(5, 7)
    assert found(lambda x: ops.linear(x=x, weight=weight), 2, 7)
    assert not found(lambda x: ops.linear(x=x, weight=weight), Dim("n", 1, 8), 7)
    assert not found(lambda x: ops.linear(x=x, weight=weight), 7)
    whole = RNG.integers(-3, 3, (5, 7)).astype(np.int32)
    assert not found(lambda x: ops.linear(x=x, weight=whole), 2, 7, dtype="int32")


@pytest.mark.parametrize("faster", [False, True])
def test_the_second_run_tries_it_and_the_trace_names_what_a_kernel_stands_for(
    monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    from coreml_lab.run.steps import trial

    monkeypatch.setattr(trial, "faster", lambda *_: faster)
    _, program, _ = ways(lambda x: ops.relu(conv(x)), 1, 4, 6, 6)
    x = normal(1, 4, 6, 6)
    first, second, third = (program.run({"x": x}) for _ in range(3))
    for one, other, more in zip(first.values(), second.values(), third.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(other, more)
    spans = program.trace({"x": x}, 1)[0].spans
    assert [span.op for span in spans] == (["relu"] if faster else ["conv", "relu"])
    assert len(spans[0].fused) == int(faster)


def test_a_pytorch_without_onednn_is_not_asked_for_it() -> None:
    ops_only = SimpleNamespace(mkldnn=SimpleNamespace(_linear_pointwise=None))
    backend = SimpleNamespace(mkldnn=SimpleNamespace(is_available=lambda: True))
    assert not onednn.usable(SimpleNamespace(ops=ops_only, backends=backend))
    backend.mkldnn.is_available = lambda: False
    assert not onednn.usable(SimpleNamespace(ops=torch.ops, backends=backend))
