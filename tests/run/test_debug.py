"""Debug mode: a run stops at the first operation that makes NaN or infinity, and names it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, InputError, NumericalError, Timeout
from coreml_lab.program.graph import Node, TensorType, Value
from coreml_lab.program.mil.tools import mb
from coreml_lab.run import selection
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.debug import Debugging
from coreml_lab.run.engine import Engine, Options
from coreml_lab.run.nonfinite import find
from coreml_lab.run.portable import PortableProgram
from tests.program.test_state import accumulator, packaged
from tests.support.stateful import build, state, tensor

X = np.array([1, 100, 250, 1.234], np.float32)
DEVICES = pytest.mark.parametrize("device", ["coreml", "cpu"])


def overflowing(x: Any) -> Any:
    # Finite in fp32; in fp16 the products are not, and their difference is NaN.
    return cl.ops.sub(cl.ops.mul(x, 300.0), cl.ops.mul(x, 299.0))


def stopped(model: Any, **inputs: Any) -> NumericalError:
    with pytest.raises(NumericalError) as caught:
        model.debug({k: np.asarray(v, np.float32) for k, v in inputs.items()})
    return caught.value


def test_an_overflow_of_fp16_names_the_operation_its_operands_and_what_to_try() -> None:
    model = cl.compile(overflowing, x=cl.spec(4), precision="faithful")
    assert np.isnan(model.predict({"x": X})["output"]).any()
    error = stopped(model, x=X)
    assert error.node.startswith("mul_0")
    told, result, x, y = error.message.splitlines()
    assert told.startswith("overflowing: mul 'mul_0")
    assert told.endswith("is the first to make 1 infinite of 4 values")
    assert result == "  result  fp16[4] from 300 to 30000, 1 infinite; inf at [2]"
    assert x == "  x       fp16[4] from 1 to 250; 250 at [2]"
    assert y == "  y       fp16[] 300"
    assert "fp16 ends at 65504" in error.hint


def test_widened_values_that_no_fp16_could_hold_do_not_stop_it() -> None:
    model = cl.compile(overflowing, x=cl.spec(4), precision="fp16")
    expected = model.predict({"x": X})["output"]
    np.testing.assert_array_equal(model.debug({"x": X})["output"], expected)
    assert np.isfinite(expected).all()


def test_the_reference_engine_rounds_so_it_stops() -> None:
    options = {"precision": "fp16", "device": "cpu", "engine": "reference"}
    model = cl.compile(overflowing, x=cl.spec(4), **options)
    assert stopped(model, x=X).node.startswith("mul_0")


@DEVICES
@pytest.mark.parametrize(
    ("name", "function", "x", "hint"),
    [
        ("sqrt", cl.ops.sqrt, [1, -1], "not defined below zero"),
        ("real_div", lambda x: cl.ops.real_div(1.0, x), [1, 0], "divides by zero"),
        ("exp", cl.ops.exp, [1, 100], "above 88.7"),
        ("mul", lambda x: cl.ops.mul(x, x), [1, 1e30], "too large"),
    ],
)
def test_each_kind_of_fault_has_its_own_advice(
    device: str, name: str, function: Any, x: Any, hint: str
) -> None:
    error = stopped(cl.compile(function, x=cl.spec(2), device=device), x=x)
    assert f"{name} " in error.message
    assert hint in error.hint


def attention(x: Any) -> dict[str, Any]:
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    scores = cl.ops.add(x, mask)
    return {"y": cl.ops.softmax(scores, axis=-1), "scores": cl.ops.mul(scores, 2.0)}


@DEVICES
def test_a_mask_of_minus_infinity_does_not_stop_it(device: str) -> None:
    model = cl.compile(attention, x=cl.spec(3, 3), device=device)
    found = model.debug({"x": np.ones((3, 3), np.float32)})
    assert np.isneginf(found["scores"]).sum() == 3
    assert np.isfinite(found["y"]).all()


@DEVICES
def test_a_mask_that_is_an_input_may_be_infinite_but_a_row_without_anything_is_nan(
    device: str,
) -> None:
    model = cl.compile(attention, x=cl.spec(3, 3), device=device)
    x = np.ones((3, 3), np.float32)
    x[1] = -np.inf
    error = stopped(model, x=x)
    assert error.message.startswith("attention: softmax 'y' (test_debug.py, line ")
    assert "is the first to make 3 NaN of 9 values" in error.message
    assert "axis" not in error.message
    assert "softmax over nothing but -inf" in error.hint


@DEVICES
def test_the_log_of_zero_is_intended_until_an_output_shows_it(device: str) -> None:
    def through(x: Any) -> Any:
        return cl.ops.exp(cl.ops.log(x, epsilon=0.0))

    def shown(x: Any) -> Any:
        return cl.ops.add(cl.ops.log(x, epsilon=0.0), 1.0)

    x = np.array([0, 1], np.float32)
    assert cl.compile(through, x=cl.spec(2), device=device).debug({"x": x})["output"][0] == 0
    error = stopped(cl.compile(shown, x=cl.spec(2), device=device), x=x)
    assert error.node.startswith("log_0")
    assert "log of zero" in error.hint


def test_the_largest_of_nothing_is_minus_infinity_by_definition() -> None:
    empty = Value(Node("input", (TensorType((0,), np.dtype("float32")),), name="x"))
    node = Node("reduce_max", (TensorType((), np.dtype("float32")),), {"x": empty})
    result = np.array(-np.inf, np.float32)
    assert find(node, {empty: np.zeros(0, np.float32)}, (result,)) is None


@DEVICES
def test_nan_in_an_input_is_told_before_anything_runs(device: str) -> None:
    model = cl.compile(overflowing, x=cl.spec(4), device=device)
    error = stopped(model, x=[1, np.nan, np.nan, 0])
    assert "input 'x' holds 2 NaN of 4 values" in error.message
    assert error.node == "x"


def test_an_output_whose_type_cannot_hold_its_value_is_told(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        return mb.cast(x=mb.mul(x=x, y=300.0), dtype="fp16", name="y")

    model = cl.load(build(tmp_path, body, {"x": (2,)}))
    assert np.isinf(model.predict({"x": X[1:3]})["y"]).any()
    error = stopped(model, x=X[1:3])
    assert "output 'y', made by cast 'y', is fp16, which ends at 65504" in error.message
    assert "1 larger values, up to 75000" in error.message


def looping(x: Any) -> Any:
    """Squares a number, so that it overflows in the eighth round."""
    return mb.while_loop(
        _cond=lambda i, y: mb.less(x=i, y=10.0),
        _body=lambda i, y: (mb.add(x=i, y=1.0), mb.mul(x=y, y=y, name="squared")),
        loop_vars=(mb.reduce_sum(x=mb.mul(x=x, y=0.0)), x),
        name="loop",
    )[1]


@DEVICES
def test_inside_a_loop_the_operation_and_the_loop_are_named(tmp_path: Path, device: str) -> None:
    model = cl.load(build(tmp_path, looping, {"x": (2,)}), device=device)
    model.debug({"x": np.ones(2, np.float32)})
    error = stopped(model, x=[1, 2])
    assert error.node == "squared"
    assert "mul 'squared'" in error.message
    assert "inside while_loop 'loop" in error.message


@DEVICES
def test_a_branch_that_hands_out_a_constant_infinity_does_not_stop_it(
    tmp_path: Path, device: str
) -> None:
    def body(x: Any) -> Any:
        return mb.cond(
            pred=mb.greater(x=mb.reduce_sum(x=x), y=0.0),
            _true_fn=lambda: mb.add(x=x, y=np.float32(-np.inf)),
            _false_fn=lambda: mb.sqrt(x=x, name="root"),
            name="either",
        )

    model = cl.load(build(tmp_path, body, {"x": (2,)}), device=device)
    (found,) = model.debug({"x": np.ones(2, np.float32)}).values()
    assert np.isneginf(found).all()
    assert stopped(model, x=[-1, -1]).node == "root"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@DEVICES
def test_a_state_changes_only_when_nothing_stopped(tmp_path: Path, device: str) -> None:
    import torch

    states = [state("total", 3), state("bias", 3)]
    inputs = [tensor("x", 3, dtype=np.float16)]
    example = (torch.zeros(3, dtype=torch.float16),)
    path = packaged(accumulator(), example, tmp_path, inputs=inputs, states=states)
    model = cl.load(path, device=device, precision="faithful")
    held = model.make_state()
    x = np.array([1, 2, 40000], np.float16)
    with pytest.raises(NumericalError, match="infinite"):
        model.debug({"x": x}, held)
    assert not held.read("total").any()
    model.debug({"x": np.ones(3, np.float16)}, held)
    assert held.read("total").tolist() == [1, 1, 1]
    held.write("total", np.full(3, np.nan, np.float16))
    with pytest.raises(NumericalError, match="state 'total' holds 3 NaN"):
        model.debug({"x": x}, held)


def test_the_mode_can_be_had_per_model_and_as_a_setting(tmp_path: Path) -> None:
    x = {"x": np.array([-1, 1], np.float32)}
    plain = cl.compile(cl.ops.sqrt, x=cl.spec(2))
    assert np.isnan(plain.predict(x)["output"][0])
    for model in (
        cl.compile(cl.ops.sqrt, x=cl.spec(2), debug=True),
        cl.load(plain.info.package, debug=True),
        cl.load(plain.info.package, debug=True).to("cpu"),
    ):
        assert "stopping at the first value that is not finite" in model.plan.title
        with pytest.raises(NumericalError):
            model.predict(x)
        assert model.trace(x, runs=1)[0].spans
    with cl.configure(debug=True):
        with pytest.raises(NumericalError):
            cl.load(plain.info.package).predict(x)
        assert np.isnan(cl.load(plain.info.package, debug=False).predict(x)["output"][0])
        with pytest.raises(NumericalError, match="sqrt"):
            cl.ops.sqrt(cl.tensor(x["x"])).numpy()
    assert np.isnan(cl.ops.sqrt(cl.tensor(x["x"])).numpy()[0])


def test_it_is_never_recovered_from_and_leaves_no_incident() -> None:
    before = ACTIVITY.incident_total
    with cl.configure(recover=True):
        stopped(cl.compile(overflowing, x=cl.spec(4), precision="faithful"), x=X)
    assert ACTIVITY.incident_total == before


def test_wrong_inputs_are_what_they_are_everywhere() -> None:
    with pytest.raises(InputError):
        cl.compile(overflowing, x=cl.spec(4)).debug({"x": X[:2]})


def test_debugging_gives_what_predict_gives() -> None:
    model, inputs = cl.zoo.digits(), cl.zoo.inputs("digits")
    expected = model.predict(inputs)
    for name, found in model.debug(inputs).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", [{}, {"device": "cpu"}])
def test_an_engine_that_a_watched_model_falls_back_to_is_watched(how: dict[str, Any]) -> None:
    x = {"x": np.array([-1, 1], np.float32)}
    with cl.configure(recover=True):
        model = cl.compile(cl.ops.sqrt, x=cl.spec(2), debug=True, **how)
        runner: Any = model._executor

        def broken(*_: Any) -> Any:
            raise EngineError("the kernel is broken")

        runner._loaded.run = broken
        for _ in range(2):
            with pytest.raises(NumericalError, match="sqrt"):
                model.predict(x)
        assert model.incidents[-1].outcome == "recovered, and stopped at what is not finite"
        assert model.predict({"x": np.ones(2, np.float32)})
        assert model.incidents[-1].action.startswith("Fallback to ")
        with pytest.raises(NumericalError, match="sqrt"):
            model.predict(x)


def test_a_gpu_is_looked_for_among_watched_engines_that_may_have_one() -> None:
    class Gpu(Engine):
        name, kinds, devices = "gpu", ("cuda",), ("cuda:0",)

        def load(self, *given: Any) -> Any:
            return given

    class Slow(Gpu):
        kinds = ("opencl",)

        @property
        def devices(self) -> Any:  # type: ignore[override]
            raise AssertionError("it was made to look for devices")

    program, options = cl.compile(cl.ops.sqrt, x=cl.spec(2)).program, Options()
    found = selection.watched([Slow(), Gpu()])
    assert not selection.drives(found[0], "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Debugging, "load", lambda self, *_: self.name)
        assert selection._on_a_gpu(found, program, options) == "gpu"


def test_a_model_that_left_its_engine_is_debugged_where_it_runs() -> None:
    with cl.configure(recover=True):
        model = cl.compile(cl.ops.exp, x=cl.spec(2))
        x = {"x": np.ones(2, np.float32)}
        (wanted,) = model.debug(x).values()

        def broken(*_: Any) -> Any:
            raise EngineError("the kernel is broken")

        runner: Any = model._executor
        runner._loaded.run = broken
        model.predict(x)
        moved = runner.fallen_back_to
        assert moved
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PortableProgram, "run", broken)  # it stays so
            np.testing.assert_allclose(*model.debug(x).values(), wanted, rtol=1e-5)
    assert model._debugged[1].plan.engine == moved


@pytest.mark.parametrize("how", [{"engine": "portable"}, {"engine": "reference"}])
def test_deadlines_hold_for_watched_runs(how: dict[str, Any]) -> None:
    w = np.eye(256, dtype=np.float32)

    def network(x: Any) -> Any:
        for _ in range(100):
            x = cl.ops.tanh(cl.ops.matmul(x, w))
        return x

    model = cl.compile(network, x=cl.spec(2048, 256), debug=True, **how)
    begin = time.monotonic()
    with pytest.raises(Timeout, match="was stopped"):
        model.predict({"x": np.ones((2048, 256), np.float32)}, deadline=0.05)
    assert time.monotonic() - begin < 1
