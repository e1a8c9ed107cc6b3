"""The native engine, from kernel through worker and coremltools to the strict double and back."""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import (
    EngineError,
    EngineUnavailable,
    NumericalError,
    ProbeError,
    UnknownParameter,
)
from coreml_lab.metrics import Provenance
from coreml_lab.probes.process import memory
from coreml_lab.probes.protocol import Target
from coreml_lab.program import mil
from coreml_lab.program.graph import Dim
from coreml_lab.program.mil.tools import ct, mb
from coreml_lab.records import Recording
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.coreml import Announcer, CoreMLEngine, Host
from coreml_lab.run.native.link import Progress, Watch
from coreml_lab.run.native.messages import Parcel, Predict, Unload
from coreml_lab.run.worker import ready
from tests.support.native import MAC, Double
from tests.support.packages import identity, save
from tests.support.stateful import build

WEIGHT = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)


HERE = Host.here.__wrapped__


def network(x: Any) -> Any:
    weight = WEIGHT.astype(np.float16) if x.dtype == np.float16 else WEIGHT
    return {"y": cl.ops.relu(cl.ops.matmul(x, weight))}


def compiled(**given: Any) -> Any:
    return cl.compile(network, x=cl.spec(2, 8), name="net", **given)


def expected(x: Any) -> Any:
    return np.maximum(x @ WEIGHT, 0)


def test_a_mac_predicts_with_core_ml_in_another_process(mac: Double) -> None:
    model = compiled()
    np.testing.assert_allclose(model.predict({"x": X})["y"], expected(X), rtol=1e-5)
    assert (model.plan.engine, model.plan.title) == ("coreml", "Core ML, macOS 26.1")
    assert mac.worker.pid is not None
    assert "coremltools.libcoremlpython" not in sys.modules
    assert mac.calls("predict") == [[{"x": "float32[2, 8]"}]]


def test_what_was_compiled_and_planned_once_is_kept(mac: Double, cache_dir: Path) -> None:
    for _ in range(2):
        compiled().predict({"x": X})
        assert len(mac.calls("compile")) == len(mac.calls("plan")) == 1
    assert len(mac.calls("load")) == 2
    with cl.configure(compute_units="CPU_ONLY"):
        compiled()
    assert len(mac.calls("compile")) == 2
    for entry in cl.cache().entries():
        if entry.key.endswith("-coreml"):
            next(f for f in entry.path.rglob("*") if f.suffix == ".bin").write_bytes(b"damaged")
    compiled().predict({"x": X})
    assert len(mac.calls("compile")) == 3


def test_without_a_cache_the_compiled_model_lives_as_long_as_the_program(double: Double) -> None:
    program = compiled(engine="portable").program
    loaded = double.engine().load(program, "coreml:0", cl.compile(network, x=cl.spec(2, 8)).options)
    folder = Path(loaded._home.compiled(None)).parent
    assert folder.is_dir()
    np.testing.assert_allclose(loaded.run({"x": X})["y"], expected(X), rtol=1e-5)
    del loaded
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("units", ["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"])
def test_compute_units_and_hints_reach_core_ml(mac: Double, tmp_path: Path, units: str) -> None:
    path = save(tmp_path / "m.mlpackage", identity, [ct.TensorType("x", (2, 8))], (2, 8))
    hints: dict[str, str | bool] = {
        "reshapeFrequency": "Infrequent",
        "specializationStrategy": "FastPrediction",
        "allowLowPrecisionAccumulationOnGPU": True,
    }
    model = cl.load(path, compute_units=units, hints=hints)
    np.testing.assert_array_equal(model.predict({"x": X})["y"], X)
    assert mac.calls("load") == [[units, "", {k: str(v) for k, v in hints.items()}]]
    assert model.plan.title.endswith(units) != (units == "ALL")


def test_unknown_units_and_hints_are_one_error(tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlpackage", identity, [ct.TensorType("x", (2, 8))], (2, 8))
    wrong: tuple[tuple[str, dict[str, Any]], ...] = (
        ("units 'NE'", {"compute_units": "NE"}),
        ("reshape=", {"hints": {"reshape": "Frequent"}}),
        ("reshapeFrequency='Often'", {"hints": {"reshapeFrequency": "Often"}}),
    )
    for words, given in wrong:
        with pytest.raises(UnknownParameter, match=words):
            cl.load(path, **given)


def test_the_plan_tells_where_core_ml_means_to_run_each_operation(mac: Double) -> None:
    model = compiled()
    found = {p.op: (p.device, p.weight) for p in model.plan.placements}
    assert found == {"matmul": ("ne", 0.5), "relu": ("cpu", 0.5)}
    assert model.plan.placements[0].supported == ("cpu", "gpu", "ne")
    assert compiled().plan.placements == model.plan.placements  # from the cache
    with cl.configure(compute_units="CPU_AND_GPU"):
        assert compiled().plan.placements[0].device == "gpu"


def test_a_trace_spreads_core_mls_own_time_and_shows_what_comes_on_top(mac: Double) -> None:
    run = compiled().trace({"x": X}, runs=3)[-1]
    parts = {s.op: s for s in run.spans}
    assert list(parts) == ["[copy]", "[convert]", "[framework]", "matmul", "relu"]
    for name, kind in (("[copy]", Provenance.MEASURED), ("matmul", Provenance.APPORTIONED)):
        assert parts[name].provenance is kind
        assert parts[name].duration_ns > 0
    assert (parts["matmul"].device, parts["[copy]"].device) == ("ne", "coreml:0")
    assert sum(s.duration_ns for s in run.spans) == pytest.approx(run.duration_ns, abs=len(parts))
    assert parts["matmul"].duration_ns == pytest.approx(parts["relu"].duration_ns, abs=1)


def test_a_plan_survives_json(mac: Double) -> None:
    recording = cl.profile(compiled(), {"x": X}, runs=2, warmup=0)
    again = Recording.from_json(recording.to_json())
    assert again.plan == recording.plan
    assert again.plan.placements
    assert "NaN" not in json.dumps(json.loads(recording.to_json()))


def test_without_a_plan_the_program_runs_and_the_reason_is_told(
    mac: Double, cache_dir: Path
) -> None:
    mac.fail("plan-error")
    model = compiled()
    assert model.plan.placements == ()
    assert "plan is not known" in model.plan.reason
    (run,) = model.trace({"x": X}, runs=1)
    assert [s.op for s in run.spans] == ["[copy]", "[convert]", "[framework]", "[predict]"]
    assert {s.provenance for s in run.spans} == {Provenance.MEASURED}


def test_half_floats_are_fed_as_float32_and_come_back_as_half(mac: Double) -> None:
    model = cl.compile(network, x=cl.spec(2, 8, dtype="fp16"), precision="fp16")
    found = model.predict({"x": X.astype(np.float16)})["y"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected(X), atol=0.02)
    assert mac.calls("predict") == [[{"x": "float32[2, 8]"}]]


def test_large_arrays_make_the_shared_file_grow(mac: Double) -> None:
    model = cl.compile(lambda x: {"y": cl.ops.mul(x, 2.0)}, x=cl.spec(Dim("n", 1, 1 << 21)))
    kept = []
    for n in (10, 1 << 20, 100, 1 << 21):
        x = np.arange(n, dtype=np.float32)
        kept.append((model.predict({"x": x})["y"], x * 2))
    for found, wanted in kept:  # results are the caller's own: later runs do not write into them
        np.testing.assert_array_equal(found, wanted)
    assert len(mac.calls("predict")) == 4


def test_a_compiled_model_is_loaded_as_it_is(mac: Double, tmp_path: Path) -> None:
    path = build(tmp_path, lambda x: mb.add(x=x, y=np.float32(1), name="y"), {"x": (2, 8)})
    folder = tmp_path / "net.mlmodelc"
    folder.mkdir()
    mil.compile_folder(path, folder)
    alone = cl.load(folder)
    assert alone.plan.engine == "portable"
    assert "not made by Core ML's own compiler" in alone.plan.reason
    (folder / "coremldata.bin").write_bytes(b"as Core ML's compiler leaves it")
    np.testing.assert_array_equal(cl.load(folder).predict({"x": X})["y"], X + 1)
    assert (mac.calls("compile"), len(mac.calls("predict"))) == ([], 1)


def test_a_list_of_inputs_is_given_to_core_ml_as_one_batch(mac: Double) -> None:
    model, before = compiled(), ACTIVITY.total
    inputs = (X, -X, X * 2)
    for result, x in zip(model.predict([{"x": x} for x in inputs]), inputs, strict=True):
        np.testing.assert_allclose(result["y"], expected(x), rtol=1e-5)
    assert mac.calls("batch") == [[3]]
    assert ACTIVITY.total - before == 3
    assert model.predict([]) == []
    assert len(model.predict([{"x": X}])) == 1
    assert (len(mac.calls("batch")), len(mac.calls("predict"))) == (1, 1)


def test_a_batch_that_fails_is_run_one_by_one(mac: Double) -> None:
    model = compiled()
    mac.fail("batch-error")
    with pytest.raises(EngineError, match="while predicting"):
        model.predict([{"x": X}] * 2)
    cl.configure(recover=True)
    model = compiled()
    mac.fail("batch-error")
    assert len(model.predict([{"x": X}] * 2)) == 2
    assert len(mac.calls("predict")) == 2
    assert (ACTIVITY.incidents[-1].action, ACTIVITY.incidents[-1].outcome) == (
        "SplitBatch",
        "recovered",
    )


def test_runs_that_are_watched_are_measured_one_by_one(mac: Double) -> None:
    model = compiled()
    with cl.profile(spans=False) as profile:
        model.predict([{"x": X}] * 2)
    assert len(profile.recording.runs) == len(mac.calls("predict")) == 2


def test_models_that_are_gone_are_unloaded_by_the_next_session(mac: Double) -> None:
    gc.collect()  # what earlier models held
    model, other = compiled(), compiled()
    _, handle = model._executor._loaded._place
    del model
    gc.collect()
    assert [request.handle for _, request in mac.worker._later] == [handle]
    other.predict({"x": X})
    assert not mac.worker._later
    with mac.worker.session() as link, pytest.raises(EngineError, match=str(handle)):
        link.ask(Predict(handle, Parcel("", ())), Watch("predicting"))


def test_memory_tells_what_core_mls_process_holds_and_what_was_copied(mac: Double) -> None:
    model = compiled()
    model.predict({"x": X})
    before = cl.memory()["coreml:0"]
    model.predict({"x": X})
    after = cl.memory()["coreml:0"]
    assert after.sent.value - before.sent.value == X.nbytes
    assert after.received.value - before.received.value == X.nbytes
    assert 50e6 < after.live.value <= after.peak.value
    assert after.live.provenance is Provenance.MEASURED
    mac.worker.stop()
    assert cl.memory()["coreml:0"].live.provenance is Provenance.UNAVAILABLE


@pytest.mark.slow
def test_neither_process_grows_with_predictions_and_loads(mac: Double) -> None:
    def held() -> tuple[float, float]:
        gc.collect()
        return memory(Target(os.getpid()))()[0], mac.worker.memory()[0]

    def work(rounds: int, runs: int) -> None:
        for _ in range(rounds):
            model = compiled()
            for _ in range(runs):
                model.predict({"x": X})

    work(30, 10)
    before = held()
    work(60, 30)
    grown = [(after - first) / 2**20 for first, after in zip(before, held(), strict=True)]
    assert max(grown) < 25, f"grown by {grown} MiB, kernel and worker"


def test_thousands_of_dropped_models_do_not_stop_the_line(mac: Double) -> None:
    model = compiled()
    with mac.worker.session() as link:
        for handle in range(10_000, 40_000):
            mac.worker.later(link.generation, Unload(handle))
    np.testing.assert_allclose(model.predict({"x": X})["y"], expected(X), rtol=1e-5)
    assert not mac.worker._later


def test_long_waits_are_told_to_the_dashboard_and_then_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tell = Announcer()
    for seconds in (0.1, 3.0, 10.1, 15.0, 20.1):
        tell(Progress("compiling", seconds, 2.5 * 2**30))
    assert ACTIVITY.stage == "Core ML is compiling: 20 s, holding 2.5 GiB"
    assert [r.getMessage()[:28] for r in caplog.records] == [
        "Core ML is compiling: 10 s, ",
        "Core ML is compiling: 20 s, ",
    ]
    tell(Progress("", 0, 0))
    assert ACTIVITY.stage == ""


def test_off_a_mac_the_reason_is_told_and_no_process_is_started() -> None:
    engine = CoreMLEngine(host=Host("Linux"))
    assert engine.available().reason == "this is Linux, not macOS"
    assert engine.devices == ()
    program = compiled(engine="portable").program
    with pytest.raises(EngineUnavailable, match="this is Linux, not macOS"):
        engine.load(program, "coreml:0", compiled(engine="portable").options)
    assert "this is" in next(text for name, text in cl.doctor().engines if name == "coreml")


def test_a_mac_is_known_by_its_version_and_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    told = {"kern.osversion": "25B78", "machdep.cpu.brand_string": "Apple M4"}
    monkeypatch.setattr("coreml_lab.probes.apple.kernel_text", told.__getitem__)
    find = HERE
    assert find() == MAC

    def refuse(name: str) -> str:
        raise ProbeError(name)

    monkeypatch.setattr("coreml_lab.probes.apple.kernel_text", refuse)
    assert (find().build, find().chip) == (platform.release(), platform.machine())


def test_the_devices_of_a_mac_name_both_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "here", staticmethod(lambda: MAC))
    (found,) = (d for d in cl.devices() if d.name == "coreml:0")
    assert (found.title, found.engines) == ("Core ML", ("coreml", "portable"))


def test_a_mac_without_what_it_takes_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "older than 12" in CoreMLEngine(host=Host("macOS", "11.7")).available().reason
    assert CoreMLEngine(host=MAC).available().available
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "not installed" in CoreMLEngine(host=MAC).available().reason


def test_faithful_rounding_stays_with_the_portable_engine_and_says_so(mac: Double) -> None:
    model = compiled(precision="faithful")
    assert model.plan.engine == "portable"
    assert "it rounds as its hardware does" in model.plan.reason
    assert mac.calls("load") == []


def test_results_inside_are_shown_by_the_portable_engine_and_it_says_so(mac: Double) -> None:
    model = compiled(debug=True)
    assert model.plan.engine == "portable"
    assert "a package's own outputs" in model.plan.reason
    with pytest.raises(EngineUnavailable, match="not the results inside"):
        cl.diff(compiled(), compiled(), {"x": X})


def test_a_native_model_is_debugged_on_the_portable_engine(mac: Double) -> None:
    model = compiled()
    np.testing.assert_allclose(model.debug({"x": X})["y"], expected(X), rtol=1e-5)
    assert mac.calls("predict") == []
    with pytest.raises(NumericalError, match="input 'x' holds 16 NaN"):
        model.debug({"x": X * np.float32(np.nan)})


def test_a_coremltools_without_its_native_part_is_a_reason() -> None:
    # The worker's own first word, on this machine, which has none.
    assert "has no native part for this machine" in ready().refusal


def test_where_the_worker_cannot_run_core_ml_the_portable_engine_serves_and_says_so(
    mac: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.native.ENTRY", "coreml_lab.run.worker")
    try:
        for _ in range(2):
            model = compiled()
            assert model.plan.engine == "portable"
            assert "no native part" in model.plan.reason
            assert mac.worker.pid is None  # it would refuse for ever
        np.testing.assert_allclose(model.predict({"x": X})["y"], expected(X), rtol=1e-5)
        assert next(mac.worker._generations) == 2  # it was not asked twice
    finally:
        mac.worker.stop()
