"""tinygrad on a real OpenCL device: networks, data-dependent sizes, states, spans, refusals."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import EngineUnavailable, UnsupportedOp
from coreml_lab.program.graph import Array, Dim, Graph
from coreml_lab.run import tinygrad_onnx
from coreml_lab.run.engine import Options
from coreml_lab.run.lowering.lowered import opened
from coreml_lab.run.tinygrad_onnx import TinygradEngine, TinygradProgram, opencl_devices
from tests.support.op_cases import (
    CASES,
    Case,
    Results,
    assert_agrees,
    expected,
    parameters,
    run_together,
)
from tests.support.seam_models import counter

pytestmark = [
    pytest.mark.skipif(not opencl_devices(), reason=TinygradEngine().available().reason),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("opencl"),  # compiling for two at once helps nobody
]

RNG = np.random.default_rng(0)


def small(device: str = "opencl:0") -> cl.Model:
    kernel = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight = RNG.standard_normal((5, 4)).astype(np.float32)

    def net(x: cl.Tensor) -> cl.Tensor:
        y = ops.relu(ops.conv(x, kernel, pad_type="same"))
        return ops.softmax(ops.linear(ops.reduce_mean(y, axes=[2, 3]), weight=weight))

    return cl.compile(net, x=cl.spec(1, 3, 8, 8), device=device)


def loaded(net: Any, **inputs: Any) -> TinygradProgram:
    """The engine alone: a model would go on with another engine where this one fails."""
    model = cl.compile(net, device="opencl:0", **inputs)
    return TinygradEngine().load(model.program, "opencl:0", Options())


def test_a_network_on_opencl_equals_the_portable_engine() -> None:
    model = small()
    assert model.plan.engine == "tinygrad"
    assert "OpenCL" in model.plan.title
    portable = model.to("coreml")
    for seed in range(4):  # the third run and later replay captured kernels
        x = np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)
        for name, array in portable.predict({"x": x}).items():
            np.testing.assert_allclose(model.predict({"x": x})[name], array, rtol=1e-4, atol=1e-5)


def test_spans_are_device_times_of_the_operations() -> None:
    model = small()
    runs = model.trace({"x": np.ones((1, 3, 8, 8), np.float32)}, runs=2)
    assert len(runs) == 2
    told = {n for s in runs[1].spans for n in (s.node, *s.fused)}
    assert {op.name for op in model.info.ops} <= told
    assert any(s.duration_ns > 0 for s in runs[1].spans)
    assert sum(s.duration_ns for s in runs[1].spans) <= runs[1].duration_ns


def test_each_input_shape_gets_kernels_of_its_own() -> None:
    model = cl.compile(lambda x: ops.exp(x) + 1, x=cl.spec(Dim("n", 1, 8), 3), device="opencl")
    for size in (2, 5, 2, 5, 2):
        x = RNG.standard_normal((size, 3)).astype(np.float32)
        (y,) = model.predict({"x": x}).values()
        np.testing.assert_allclose(y, np.exp(x) + 1, rtol=1e-5)


def test_only_the_captured_runs_of_the_latest_shapes_are_kept() -> None:
    program = loaded(ops.exp, x=cl.spec(Dim("n", 1, 40)))
    kept = program._replays
    for size in range(1, tinygrad_onnx.REPLAYS + 1):
        program.run({"x": np.zeros(size, np.float32)})
    first = program.run({"x": np.zeros(1, np.float32)})  # the one of size 2 is now the oldest
    program.run({"x": np.zeros(40, np.float32)})
    assert len(kept) == tinygrad_onnx.REPLAYS
    sizes = [shape[0] for key in kept for _, shape in key]
    assert 1 in sizes
    assert 2 not in sizes
    np.testing.assert_array_equal(next(iter(first.values())), [1])


@pytest.mark.parametrize(
    "net",
    [
        lambda x: {"double": x * 2, "view": x.reshape(6)},
        lambda x: {"view": x.reshape(6), "same": x},
        lambda x: {"double": x * 2, "row": x[0:1], "turned": x.transpose()},
        lambda x: {"view": x.reshape(6), "fixed": ops.range_1d(start=0.0, end=4.0, step=1.0)},
    ],
)
def test_a_result_that_is_an_input_seen_otherwise_is_this_runs_input(net: Any) -> None:
    program = loaded(net, x=cl.spec(2, 3))
    reference = cl.compile(net, x=cl.spec(2, 3), device="cpu", engine="reference")
    for step in range(5):  # the third run and later replay captured kernels
        feeds = {"x": np.full((2, 3), step, np.float32) + np.arange(3, dtype=np.float32)}
        found = program.run(feeds)
        for name, array in reference.predict(feeds).items():
            np.testing.assert_array_equal(found[name], array)


def test_a_program_of_constants_alone_can_be_run_again_and_again() -> None:
    program = loaded(lambda x: {"fixed": ops.range_1d(start=0.0, end=4.0, step=1.0)}, x=cl.spec(2))
    for _ in range(4):
        found = program.run({"x": np.zeros(2, np.float32)})
        np.testing.assert_array_equal(found["fixed"], [0, 1, 2, 3])


def test_sizes_that_depend_on_data_are_never_replayed() -> None:
    model = cl.compile(
        ops.reshape,
        x=cl.spec(12),
        shape=cl.spec(2, dtype=np.int32),
        device="opencl",
    )
    x = np.arange(12, dtype=np.float32)
    for shape in ((3, 4), (4, 3), (2, 6), (6, 2), (12, 1)):
        (y,) = model.predict({"x": x, "shape": np.array(shape, np.int32)}).values()
        np.testing.assert_array_equal(y, x.reshape(shape))


def test_states_carry_from_step_to_step(tmp_path: Path) -> None:
    package = tmp_path / "counter.mlpackage"
    counter().save(str(package))
    model = cl.load(package, device="opencl")
    state, x = model.make_state(), np.array([[1, 2, 3, 4]], np.float16)
    for step in range(1, 5):
        (y,) = model.predict({"x": x}, state=state).values()
        np.testing.assert_array_equal(y, step * x)


def test_an_op_tinygrad_lacks_is_refused_by_name_and_runs_elsewhere() -> None:
    ih, hh = (RNG.standard_normal((8, n)).astype(np.float32) for n in (3, 2))
    h = np.zeros((1, 2), np.float32)

    def net(x: cl.Tensor) -> Any:
        return ops.lstm(x, h, h, weight_ih=ih, weight_hh=hh)[0]

    with pytest.raises(UnsupportedOp, match="LSTM"):
        cl.compile(net, x=cl.spec(4, 1, 3), device="opencl", engine="tinygrad")
    model = cl.compile(net, x=cl.spec(4, 1, 3), device="opencl")
    assert "tinygrad has no ONNX operator LSTM; the rest of it stays" in model.plan.reason
    assert "1 ops on portable (coreml:0)" in model.plan.title


def test_without_the_package_or_a_driver_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tinygrad_onnx, "opencl_devices", tuple)
    monkeypatch.setattr(tinygrad_onnx.sys, "platform", "linux")
    assert "pocl-opencl-icd" in TinygradEngine().available().reason
    monkeypatch.setattr(tinygrad_onnx, "package_version", lambda name: "")
    assert "pip install" in TinygradEngine().available().reason
    with pytest.raises(EngineUnavailable):
        small("opencl:7")


def run(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    bare: Any = type("Bare", (), {"graph": graph})
    read = functools.partial(TinygradProgram, device="opencl:0")
    return opened(bare, None, read, faithful=False).run(feeds)


@functools.cache
def results(family: str) -> Results:
    cases = [c for c in LOWERED if c.op.family == family]
    return run_together(cases, run, alone=lambda c: bool(c.limit("portable")))


LOWERED = [
    c
    for c in CASES
    if c.op.onnx is not None
    # Like OpenVINO, it does not carry NaN through max, min and comparisons.
    and not any(a.dtype.kind == "f" and np.isnan(a).any() for a in c.fed)
]


@pytest.mark.sweep
@pytest.mark.parametrize("case", parameters("portable", cases=LOWERED))
def test_tinygrad_agrees_with_the_body_or_refuses(case: Case) -> None:
    got = results(case.op.family)[case.id]
    if isinstance(got, Exception):
        pytest.skip(f"refused: {got}")
    assert_agrees(got, expected(case))


def test_random_numbers_are_the_portable_engines_for_a_seed_and_new_without() -> None:
    def net(x: cl.Tensor) -> dict[str, cl.Tensor]:
        return {
            "seeded": ops.random_normal([30, 20], seed=3) + x,
            "fresh": ops.random_uniform([30, 20]) + x,
        }

    model = cl.compile(net, x=cl.spec(1), device="opencl:0")
    assert model.plan.engine == "tinygrad"
    feeds = {"x": np.zeros(1, np.float32)}
    # The third run and later replay captured kernels.
    runs = [model.predict(feeds) for _ in range(4)]
    seeded = model.to("coreml").predict(feeds)["seeded"]
    for one in runs:
        np.testing.assert_allclose(one["seeded"], seeded, atol=1e-5)
    assert len({one["fresh"].tobytes() for one in runs}) == len(runs)


def test_any_thread_may_be_the_one_that_compiles() -> None:
    def first(scale: float) -> Any:
        """What a new program, which nobody has compiled, gives for ones."""
        model = cl.compile(
            lambda x: x * np.float32(scale), x=cl.spec(3), engine="tinygrad", device="opencl:0"
        )
        return next(iter(model.predict({"x": np.ones(3, np.float32)}).values()))

    scales = [float(n) for n in np.random.default_rng().uniform(1, 9, 3)]
    found = [first(scales[0])]
    for scale in scales[1:]:
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(first, scale).result())
    np.testing.assert_allclose(found, [[s] * 3 for s in scales], rtol=1e-6)
