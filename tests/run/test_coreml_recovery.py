"""Recovery where Core ML runs: lost states, fp16 that overflows, and engines that did not load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import NumericalError, StateLost
from coreml_lab.run import compiler
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.executor import Interrupted
from coreml_lab.run.selection import widened
from tests.run.test_coreml_state import ONE, package
from tests.support.native import Double

__all__ = ["package"]  # a fixture

pytestmark = pytest.mark.slow  # a new worker imports coremltools: seconds

WEIGHT = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float16)
X = {"x": np.ones((2, 8), np.float32)}
WANTED = X["x"] @ WEIGHT.astype(np.float32)


@pytest.fixture(autouse=True)
def recovering() -> None:
    cl.configure(recover=True)


def compiled(precision: str = "fp16", **how: Any) -> cl.Model:
    def net(x: cl.Tensor) -> Any:
        return {"y": cl.ops.matmul(x, WEIGHT.astype(np.float32))}

    return cl.compile(net, x=cl.spec(2, 8), name="net", precision=precision, **how)


def overflowing(model: cl.Model) -> Any:
    """The program on Core ML, whose results are infinite from now on."""
    loaded: Any = model._executor.loaded
    run, batch = loaded.run, loaded.run_batch

    def over(found: dict[str, Any]) -> dict[str, Any]:
        return {k: np.full_like(v, np.inf) for k, v in found.items()}

    loaded.run = lambda *given: over(run(*given))
    loaded.run_batch = lambda given: [over(each) for each in batch(given)]
    return loaded


def names(model: cl.Model) -> list[str]:
    return [other.name for other in model._executor._alternatives]


def test_a_state_that_went_with_a_crash_is_told_and_every_engine_is_kept(
    mac: Double, package: Path
) -> None:
    model = cl.load(package)
    state, others = model.make_state(), names(model)
    model.predict(ONE, state=state)
    mac.fail("predict-segv")
    with pytest.raises(StateLost, match="the worker process that held it is gone"):
        model.predict(ONE, state=state)
    assert names(model) == others
    assert "portable" in others
    assert len(mac.calls("load")) == 1  # nothing was loaded in vain

    state = model.make_state()
    assert model.predict(ONE, state=state)["y"].tolist() == [[1] * 4]
    mac.fail("predict-error")
    assert model.predict(ONE, state=state)["y"].tolist() == [[2] * 4]
    assert model.incidents[-1].action == "Fallback to portable"


def test_an_interrupted_step_of_a_state_promises_nothing(mac: Double, package: Path) -> None:
    model = cl.load(package)
    state = model.make_state()
    mac.fail("predict-hang")
    mac.interrupted = "predicting"
    with pytest.raises(Interrupted) as caught:
        model.predict(ONE, state=state)
    assert "nothing was lost" not in caught.value.hint


@pytest.mark.parametrize("engine", ["auto", "coreml"])
def test_what_overflows_in_core_mls_fp16_is_computed_in_fp32_elsewhere(
    mac: Double, engine: str
) -> None:
    model = compiled(engine=engine)
    np.testing.assert_allclose(model.predict(X)["y"], WANTED, rtol=1e-2)
    assert model.incidents == ()
    overflowing(model)
    for _ in range(2):
        np.testing.assert_allclose(model.predict(X)["y"], WANTED, rtol=1e-2)
    (incident,) = model.incidents
    assert (incident.error, incident.action) == ("NumericalError", "Promote to portable")
    assert incident.outcome == "recovered"
    assert "Core ML, macOS 26.1, promoted to fp32 on portable; 1 incident" in repr(model)
    assert ACTIVITY.incidents[-1] == incident


def test_a_batch_that_overflows_is_computed_in_fp32_elsewhere(mac: Double) -> None:
    model = compiled()
    overflowing(model)
    for found in model.predict([X, X]):
        np.testing.assert_allclose(found["y"], WANTED, rtol=1e-2)
    assert [i.action for i in model.incidents] == ["Promote to portable"]


def test_what_is_not_finite_elsewhere_either_stays_with_core_ml(mac: Double) -> None:
    model = cl.compile(cl.ops.exp, x=cl.spec(2, 8), precision="fp16")
    loaded = model._executor.loaded
    for _ in range(2):
        (y,) = model.predict({"x": np.full((2, 8), 100, np.float32)}).values()
        assert np.isinf(y).all()
    (incident,) = model.incidents
    assert incident.outcome == "not finite in fp32 either: it stays"
    assert model._executor.loaded is loaded


def test_without_recovery_overflow_is_shown(mac: Double) -> None:
    model = compiled()
    overflowing(model)
    with cl.configure(recover=False):
        assert np.isinf(model.predict(X)["y"]).all()
    assert model.incidents == ()


def test_fp32_and_what_is_watched_have_nothing_to_be_promoted_to(mac: Double) -> None:
    assert compiled("fp32")._executor._promote is None
    watched = cl.compile(cl.ops.exp, x=cl.spec(2, 8), precision="fp16")
    for _ in range(2):
        with pytest.raises(NumericalError, match="exp"):
            watched.debug({"x": np.full((2, 8), 100, np.float32)})
    assert watched._debugged is not None
    assert watched._debugged[1]._executor._promote is None
    model = compiled()
    lone = [mac.engine()]  # no other engine is here
    assert widened(lone[0], lone, model.program, model.device, model.options) is None


@pytest.mark.parametrize("order", ["compile-error", "compile-segv"])
def test_an_engine_that_failed_to_load_is_an_incident_of_the_model(
    mac: Double, cache_dir: Path, order: str
) -> None:
    mac.fail(order)
    before = ACTIVITY.incident_total
    model = compiled()
    assert model.plan.engine == "portable"
    (incident,) = model.incidents
    assert incident.action == "Fallback to portable"
    assert incident.message in model.plan.reason
    assert ACTIVITY.incident_total == before + 1
    assert "1 incident" in repr(model)


def test_an_engine_that_is_not_meant_for_it_is_none(mac: Double) -> None:
    model = compiled("faithful")
    assert model.plan.engine == "portable"
    assert "it rounds as its hardware does" in model.plan.reason
    assert model.incidents == ()


def test_a_gate_sees_what_overflows_in_core_mls_fp16(
    mac: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.mlpackage"
    compiled().save(path)
    load, made = compiler.load, list[cl.Model]()

    def kept(*given: Any, **how: Any) -> Any:
        made.append(load(*given, **how))
        return made[-1]

    monkeypatch.setattr(compiler, "load", kept)
    assert cl.check(path, X, reference={"y": WANTED}, min_snr=20).passed
    assert made[-1].plan.engine == "coreml"
    assert made[-1]._executor._promote is None
