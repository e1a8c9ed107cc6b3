"""Core ML itself, on a Mac: every path of the native engine, and what only a Mac can tell."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineCrashed, EngineError
from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import Dim
from coreml_lab.program.mil.tools import TARGET, ct, mb, types
from coreml_lab.run.coreml import HINTS, UNITS
from coreml_lab.run.native.link import Watch
from coreml_lab.run.native.messages import Compile, Load, Predict
from tests.support.packages import identity, save
from tests.support.stateful import build
from tests.support.stateful import save as keep

pytestmark = [pytest.mark.macos, pytest.mark.slow]

WEIGHT = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) / 8
X = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 5, 3), np.uint8)
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
ASKED = Watch("asking", 60)


def network(x: Any) -> Any:
    return {"y": cl.ops.softmax(cl.ops.relu(cl.ops.matmul(x, WEIGHT)))}


def expected(x: Any) -> Any:
    e = np.exp(np.maximum(x @ WEIGHT, 0))
    return e / e.sum(-1, keepdims=True)


def compiled(precision: str = "fp32") -> Any:
    return cl.compile(network, x=cl.spec(4, 64), name="net", precision=precision)


def loaded(model: Any) -> Any:
    """The program in the worker."""
    assert model.plan.engine == "coreml"
    return model._executor._loaded


def test_the_processors_core_ml_has(link: Any, note: Any) -> None:
    note(units=link.ready.units, worker=link.ready.version)
    assert "cpu" in link.ready.units


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("units", UNITS)
def test_a_network_agrees_with_numpy(units: str, precision: str, note: Any) -> None:
    cl.configure(compute_units=units)
    model = compiled(precision)
    found, times = model.predict({"x": X})["y"], []
    for _ in range(50):
        begin = time.perf_counter_ns()
        model.predict({"x": X})
        times.append((time.perf_counter_ns() - begin, loaded(model).times))
    apart = float(np.abs(found - expected(X)).max())
    note(
        load_ns=loaded(model).load_ns,
        run_ns=median(t for t, _ in times),
        **{
            f"{f.name}_ns": median(getattr(t, f.name) or 0 for _, t in times)
            for f in dataclasses.fields(times[0][1])
        },
        largest_difference=apart,
        dtype=found.dtype.name,
    )
    assert apart < TOLERANCE[precision]


@pytest.mark.parametrize("units", UNITS)
def test_the_plan_names_operations_and_devices(units: str, note: Any) -> None:
    cl.configure(compute_units=units)
    plan = compiled("fp16").plan
    note(reason=plan.reason, placements=[dataclasses.astuple(p) for p in plan.placements])
    assert plan.placements
    assert {p.node for p in plan.placements} >= {op.name for op in compiled("fp16").info.ops}
    assert {p.device for p in plan.placements} <= {"cpu", "gpu", "ne"}


def test_a_trace_adds_up(note: Any) -> None:
    (run,) = compiled().trace({"x": X}, runs=1)
    note(spans=[(s.op, s.device, s.duration_ns, s.provenance.value) for s in run.spans])
    assert sum(s.duration_ns for s in run.spans) == pytest.approx(run.duration_ns, rel=0.01)
    assert Provenance.APPORTIONED in {s.provenance for s in run.spans}


@pytest.mark.parametrize(("hint", "value"), [(k, v) for k, found in HINTS.items() for v in found])
def test_each_optimization_hint_is_taken(hint: str, value: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlpackage", identity, [ct.TensorType("x", (4, 64))], (4, 64))
    model = cl.load(path, hints={hint: value})
    np.testing.assert_allclose(model.predict({"x": X})["y"], X, atol=1e-3)


def test_a_batch_equals_its_examples() -> None:
    model = compiled()
    for found, x in zip(model.predict([{"x": X}, {"x": -X}]), (X, -X), strict=True):
        np.testing.assert_allclose(found["y"], expected(x), atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32", "bool"])
def test_each_element_type_comes_back(dtype: str) -> None:
    model = cl.compile(lambda x: {"y": cl.ops.identity(x)}, x=cl.spec(3, dtype=dtype))
    values = np.array([0, 1, 1], model.inputs["x"].dtype)
    found = model.predict({"x": values})["y"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype


def test_a_flexible_dimension_takes_every_size() -> None:
    model = cl.compile(lambda x: {"y": cl.ops.mul(x, 2.0)}, x=cl.spec(Dim("n", 1, 8), 3))
    for n in (1, 8, 3):
        x = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        np.testing.assert_allclose(model.predict({"x": x})["y"], x * 2, rtol=1e-3)


def test_scalars_pass() -> None:
    model = cl.compile(lambda x: {"y": cl.ops.add(x, 1.0)}, x=cl.spec())
    assert float(model.predict({"x": 2.0})["y"]) == 3


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_images_go_in_as_pictures(colour: str, tmp_path: Path) -> None:
    layout = getattr(ct.colorlayout, colour)
    inputs = [ct.ImageType("x", (1, 3, 4, 5), color_layout=layout, scale=0.5)]
    path = save(tmp_path / "m.mlpackage", identity, inputs, (1, 3, 4, 5))
    planes = PIXELS.transpose(2, 0, 1)[None].astype(np.float32) * 0.5
    found = cl.load(path).predict({"x": PIXELS})["y"]
    np.testing.assert_allclose(found, planes if colour == "RGB" else planes[:, ::-1], atol=0.1)


def test_a_classifier_tells_its_label(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.mlpackage",
        lambda x: mb.softmax(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False), name="p"),
        [ct.TensorType("x", (1, 3, 4, 5))],
        (1, 3, 4, 5),
        classifier_config=ct.ClassifierConfig(["cat", "dog", "eel"], predicted_feature_name="is"),
    )
    x = np.zeros((1, 3, 4, 5), np.float32)
    x[:, 1] = 2
    found = cl.load(path).predict({"x": x})
    assert found["is"] == "dog"
    (chances,) = (v for k, v in found.items() if k != "is")
    assert list(chances) == ["cat", "dog", "eel"]


def test_each_function_is_the_one_that_runs(tmp_path: Path) -> None:
    both = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("one", 1), ("two", 2)):

        def scaled(x: Any, factor: int = factor) -> Any:
            return mb.mul(x=x, y=np.float32(factor), name="y")

        inputs = [ct.TensorType("x", (4, 64))]
        path = save(tmp_path / f"{name}.mlpackage", scaled, inputs, (4, 64), target=ct.target.iOS18)
        both.add_function(str(path), "main", name)
    both.default_function_name = "one"
    ct.utils.save_multifunction(both, str(tmp_path / "both.mlpackage"))
    for function, factor in (("one", 1), ("two", 2)):
        model = cl.load(tmp_path / "both.mlpackage", function=function)
        np.testing.assert_allclose(model.predict({"x": X})["y"], X * factor, atol=1e-2)


def counter(folder: Path) -> Any:
    half = {"shape": (1, 4), "dtype": types.fp16}
    specs = [mb.TensorSpec(**half), mb.StateTensorSpec(**half)]

    @mb.program(input_specs=specs, opset_version=TARGET)
    def program(x: Any, total: Any) -> Any:
        y = mb.add(x=x, y=mb.read_state(input=total), name="y")
        mb.coreml_update_state(state=total, value=y)
        return y

    return cl.load(keep(folder, program, compute_precision=ct.precision.FLOAT16))


@pytest.mark.parametrize("units", UNITS)
def test_a_state_counts_and_is_read_and_written(units: str, tmp_path: Path) -> None:
    cl.configure(compute_units=units)
    model = counter(tmp_path)
    state, one = model.make_state(), {"x": np.ones((1, 4), np.float16)}
    assert [float(model.predict(one, state=state)["y"][0, 0]) for _ in range(3)] == [1, 2, 3]
    assert state.read("total").tolist() == [[3] * 4]
    state.write("total", np.full((1, 4), 7, np.float16))
    assert float(model.predict(one, state=state)["y"][0, 0]) == 8
    assert float(model.predict(one, state=model.make_state())["y"][0, 0]) == 1


@pytest.mark.parametrize(
    ("what", "fed"),
    [
        ("int64", {"x": np.ones((4, 64), np.int64)}),
        ("uint8", {"x": np.ones((4, 64), np.uint8)}),
        ("bool", {"x": np.ones((4, 64), bool)}),
        ("shape", {"x": np.ones((4, 63), np.float32)}),
        ("rank", {"x": np.ones(64, np.float32)}),
        ("missing", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_core_ml_refuses_a_wrong_input(what: str, fed: Any, entry: str, note: Any) -> None:
    model = compiled()
    with loaded(model)._process.session() as link:
        handle = loaded(model).loaded(link)
        with pytest.raises(EngineError) as caught:
            link.ask(Predict(handle, link.inputs.put([fed])), ASKED)
    note(text=caught.value.message)
    assert not isinstance(caught.value, EngineCrashed)
    np.testing.assert_allclose(model.predict({"x": X})["y"], expected(X), atol=1e-4)


def test_core_ml_refuses_an_index_out_of_range(tmp_path: Path, note: Any) -> None:
    path = build(
        tmp_path,
        lambda i: mb.gather(x=np.arange(4, dtype=np.float32), indices=i, axis=0, name="y"),
        {"i": mb.TensorSpec((2,), dtype=types.int32)},
    )
    model = cl.load(path)
    assert model.predict({"i": np.array([1, 3], np.int32)})["y"].tolist() == [1, 3]
    with pytest.raises(EngineError) as caught:
        model.predict({"i": np.array([1, 9], np.int32)})
    note(text=caught.value.message)


def test_core_ml_refuses_a_package_and_a_function_that_are_not_there(link: Any, note: Any) -> None:
    model = compiled()
    request = loaded(model)._request
    for name, wrong in (
        ("package", Compile("nowhere.mlpackage", "nowhere.mlmodelc")),
        ("compiled", dataclasses.replace(request, compiled="nowhere.mlmodelc")),
        ("function", dataclasses.replace(request, function="nothing")),
    ):
        assert isinstance(wrong, Compile | Load)
        with pytest.raises(EngineError) as caught:
            link.ask(wrong, ASKED)
        note(**{name: caught.value.message})


def test_fresh_inputs_do_not_crash_the_worker_later(entry: str) -> None:
    model = compiled()
    with loaded(model)._process.session() as link:
        pid = link.process.pid
    for _ in range(3):
        for seed in range(100):
            x = np.random.default_rng(seed).normal(size=(4, 64)).astype(np.float32)
            model.predict({"x": x})
        time.sleep(2)
    assert loaded(model)._process.pid == pid


def test_a_killed_worker_is_replaced() -> None:
    model = compiled()
    pid = loaded(model)._process.pid
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    np.testing.assert_allclose(model.predict({"x": X})["y"], expected(X), atol=1e-4)
    assert loaded(model)._process.pid not in {None, pid}
