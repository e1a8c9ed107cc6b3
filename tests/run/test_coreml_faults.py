"""What befalls the Core ML worker: one clear error or a recovery, and the next run works."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineCrashed, EngineError, ExecutionError, OutOfMemory, Timeout
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.executor import Interrupted
from coreml_lab.run.native import link
from coreml_lab.run.native.process import Worker
from tests.support.native import Double

pytestmark = pytest.mark.slow  # a new worker imports coremltools: seconds

WEIGHT = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
X = {"x": np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)}
WANTED = np.maximum(X["x"] @ WEIGHT, 0)


def network(x: Any) -> Any:
    return {"y": cl.ops.relu(cl.ops.matmul(x, WEIGHT))}


def compiled() -> Any:
    return cl.compile(network, x=cl.spec(2, 8), name="net")


def works(model: Any) -> None:
    np.testing.assert_allclose(model.predict(X)["y"], WANTED, rtol=1e-5)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("predict-segv", "was ended by SIGSEGV while predicting"),
        ("predict-kill", "was ended by SIGKILL while predicting"),
        ("predict-exit", "ended with status 3 while predicting"),
    ],
)
def test_a_crash_in_predict_is_one_error_and_the_next_run_has_a_new_worker(
    mac: Double, order: str, words: str
) -> None:
    model = compiled()
    works(model)
    before = mac.worker.pid
    mac.fail(order)
    with pytest.raises(EngineCrashed, match=words):
        model.predict(X)
    works(model)
    assert mac.worker.pid not in {None, before}
    assert len(mac.calls("compile")) <= 1  # what was compiled is still there


def test_recovery_starts_a_new_worker_and_leaves_an_incident(mac: Double) -> None:
    cl.configure(recover=True)
    model = compiled()
    mac.fail("predict-segv")
    works(model)
    incident = ACTIVITY.incidents[-1]
    assert (incident.error, incident.action) == ("EngineCrashed", "Restart")
    assert incident.outcome == "recovered"


@pytest.mark.parametrize("stage", ["compile", "load", "plan"])
def test_a_crash_while_a_model_is_built_is_named(mac: Double, cache_dir: Path, stage: str) -> None:
    mac.fail(f"{stage}-segv")
    if stage == "plan":  # a convenience: the program runs without it
        model = compiled()
        assert "was ended by SIGSEGV while planning" in model.plan.reason
    else:
        with pytest.raises(EngineCrashed, match=f"while {stage.removesuffix('e')}ing"):
            compiled()
        model = compiled()
    works(model)
    assert mac.pending == []


def test_a_refusal_to_compile_is_core_mls_own_words_or_the_portable_engine(
    mac: Double, cache_dir: Path
) -> None:
    mac.fail("compile-error")
    with pytest.raises(EngineError, match="while compiling: Unable to compute the prediction"):
        compiled()
    mac.fail("compile-error")
    cl.configure(recover=True)
    model = compiled()
    assert model.plan.engine == "portable"
    assert "while compiling" in model.plan.reason
    assert "fell back" in model.plan.reason
    works(model)


def test_a_prediction_that_core_ml_refuses_goes_to_the_portable_engine(mac: Double) -> None:
    model = compiled()
    mac.fail("predict-error")
    with pytest.raises(EngineError, match="while predicting: Unable to compute the prediction"):
        model.predict(X)
    works(model)
    mac.fail("predict-error")
    cl.configure(recover=True)
    recovering = compiled()
    works(recovering)
    assert ACTIVITY.incidents[-1].action == "Fallback to portable"


def test_a_wrong_result_is_seen_in_a_comparison(mac: Double) -> None:
    from coreml_lab.explain.agreement import agree

    model = compiled()
    right = model.predict(X)
    mac.fail("predict-wrong")
    (found,) = agree(model.predict(X), right)
    assert not found.identical
    (found,) = agree(model.predict(X), right)
    assert found.identical


def test_memory_that_runs_out_is_told_and_the_worker_stays(mac: Double) -> None:
    model = compiled()
    works(model)
    before = mac.worker.pid
    mac.fail("predict-memory")
    with pytest.raises(OutOfMemory, match="ran out of memory while predicting: std::bad_alloc"):
        model.predict(X)
    works(model)
    assert mac.worker.pid == before


def test_a_hang_past_the_deadline_ends_the_worker(mac: Double) -> None:
    model = compiled()
    works(model)
    mac.fail("predict-hang")
    with (
        cl.configure(deadline=0.5),
        pytest.raises(Timeout, match="still predicting after") as caught,
    ):
        model.predict(X)
    assert "deadline" in caught.value.hint
    assert mac.worker.pid is None
    works(model)


def test_a_compiler_that_hangs_is_ended_and_tells_how_far_it_was(
    mac: Double, cache_dir: Path
) -> None:
    works(compiled())
    cl.cache().clear()
    mac.fail("compile-hang")
    with cl.configure(worker_timeout=0.5), pytest.raises(Timeout, match="still compiling after"):
        compiled()
    told = [p for p in mac.progress if p.stage == "compiling"]
    assert told[-1].seconds > 0.5
    assert told[-1].memory > 10_000_000
    works(compiled())


def test_a_plan_that_takes_too_long_is_not_asked_for_again(mac: Double, cache_dir: Path) -> None:
    mac.fail("plan-hang")
    with cl.configure(worker_timeout=10.0):
        works(compiled())
    model = compiled()
    works(model)
    assert "still planning after" in model.plan.reason
    assert len(mac.calls("plan")) == 1


def test_a_compiler_that_takes_too_much_memory_is_ended(mac: Double, cache_dir: Path) -> None:
    mac.fail("compile-bloat")
    with (
        cl.configure(worker_memory=1_200_000_000),
        pytest.raises(OutOfMemory, match=r"GiB while compiling, more than the 1\.12 GiB allowed"),
    ):
        compiled()
    works(compiled())


@pytest.mark.parametrize("order", ["predict-hang", "predict-slow"])
def test_an_interrupt_leaves_a_usable_engine(
    mac: Double, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if order == "predict-slow":
        monkeypatch.setattr(link, "GRACE", 60.0)
    model = compiled()
    works(model)
    before = mac.worker.pid
    mac.fail(order)
    mac.interrupted = "predicting"
    with pytest.raises(Interrupted, match="net: interrupted after"):
        model.predict(X)
    works(model)  # the answer that came too late is not taken for this one
    # A short wait is sat out, so that nothing need be loaded again; a hang is not.
    assert (mac.worker.pid == before) == (order == "predict-slow")


def test_an_interrupt_while_compiling_leaves_a_usable_engine(mac: Double, cache_dir: Path) -> None:
    works(compiled())
    cl.cache().clear()
    mac.fail("compile-hang")
    mac.interrupted = "compiling"
    with pytest.raises(KeyboardInterrupt):
        compiled()
    works(compiled())


def test_inputs_are_kept_until_core_ml_has_let_go_of_them(mac: Double) -> None:
    model = compiled()
    before = mac.worker.pid
    end = time.monotonic() + 2.5  # the double kills its process for what nobody else holds
    while time.monotonic() < end:
        works(model)
        time.sleep(0.1)
    assert mac.worker.pid == before


def test_threads_that_predict_load_and_unload_at_once_get_their_own_results(mac: Double) -> None:
    shared = compiled()

    def job(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=(2, 8)).astype(np.float32)
        model = shared if seed % 2 else compiled()
        for _ in range(5):
            found = model.predict({"x": x})["y"]
            np.testing.assert_allclose(found, np.maximum(x @ WEIGHT, 0), rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(job, range(16)))


def test_a_package_that_was_moved_after_loading_does_not_stop_a_restart(
    mac: Double, tmp_path: Path
) -> None:
    source = tmp_path / "net.mlpackage"
    shutil.copytree(compiled().program.package, source)
    cl.configure(recover=True)
    model = cl.load(source, engine="coreml")
    name = next(iter(model.inputs))
    model.predict({name: X["x"]})
    source.rename(tmp_path / "elsewhere.mlpackage")
    mac.worker.stop()
    assert model.predict({name: X["x"]})
    mac.fail("predict-exit")
    assert model.predict({name: X["x"]})
    assert (model.incidents[-1].action, model.incidents[-1].outcome) == ("Restart", "recovered")


def _in_child(model: Any, answers: Any) -> None:
    answers.put(model.predict(X)["y"])


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_kernel_has_a_worker_of_its_own(mac: Double) -> None:
    model = compiled()
    works(model)
    before = mac.worker.pid
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(model, answers))
    child.start()
    np.testing.assert_allclose(answers.get(timeout=60), WANTED, rtol=1e-5)
    child.join(30)
    works(model)
    assert mac.worker.pid == before


def test_a_worker_that_does_not_start_is_one_error() -> None:
    absent = Worker("coreml_lab.run.no_such_worker")
    with pytest.raises(EngineCrashed, match=r"while starting.*No module named"), absent.session():
        pass


def test_recovery_that_fails_too_tells_the_whole_story(mac: Double) -> None:
    cl.configure(recover=True)
    model = cl.compile(network, x=cl.spec(2, 8), name="net", engine="coreml")
    for order in ("predict-segv", "predict-exit"):  # the run, and the one after the restart
        mac.fail(order)
    with pytest.raises(ExecutionError, match=r"recovery failed \(Restart\)") as caught:
        model.predict(X)
    assert isinstance(caught.value.__cause__, EngineCrashed)
    assert mac.pending == []
    works(model)


def test_a_model_is_loaded_again_by_a_worker_whose_number_is_the_models_own(mac: Double) -> None:
    model = compiled()
    loaded = model._executor._loaded
    loaded._request = dataclasses.replace(loaded._request, handle=777)
    loaded._place[:] = [-1, 777]
    works(model)
    mac.worker._generations = itertools.chain([777], itertools.count(1000))
    mac.fail("predict-exit")
    with pytest.raises(EngineCrashed):
        model.predict(X)
    works(model)
    assert mac.worker._link is not None
    assert mac.worker._link.generation == 777
