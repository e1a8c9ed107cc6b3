"""The strict double itself: it refuses what coremltools' binding refuses, and dies as that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import coreml_lab

pytestmark = pytest.mark.slow

ROOT = Path(coreml_lab.__file__).parents[1]
BEGIN = """
import sys, time
import numpy as np
from tests.support import seam_double
seam_double.install()
from coremltools.libcoremlpython import _MLModelProxy as Proxy
from tests.support.seam_models import counter, network
"""
ASK = """
def told(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken"

model = network()
path, proxy = model.get_compiled_model_path(), model.__proxy__
x = np.ones((1, 8), np.float32)
stateful = counter()
state = stateful.make_state().__proxy__
frozen = x.copy()
frozen.flags.writeable = False
whole = {"x": x.copy()}
print(json.dumps({
    "positional": told(lambda: Proxy(path, "ALL", "", {})),
    "keyword": told(lambda: Proxy(path=path, compute_units="ALL", function_name="", hints={})),
    "few": told(lambda: Proxy(path, "ALL", "")),
    "kind": told(lambda: Proxy(path, 1, "", {})),
    "hint": told(lambda: Proxy(path, "ALL", "", {"reshapeFrequency": "Often"})),
    "value": told(lambda: Proxy(path, "ALL", "", {"reshapeFrequency": True})),
    "units": told(lambda: Proxy(path, "NE", "", {})),
    "right": told(lambda: proxy.predict(whole, None)),
    "alone": told(lambda: proxy.predict(whole)),
    "int64": told(lambda: proxy.predict({"x": x.astype("int64")}, None)),
    "half": told(lambda: proxy.predict({"x": x.astype("float16")}, None)),
    "frozen": told(lambda: proxy.predict({"x": frozen}, None)),
    "shape": told(lambda: proxy.predict({"x": np.ones((1, 7), np.float32)}, None)),
    "batch": told(lambda: proxy.batchPredict((whole,))),
    "written": told(lambda: state.write_state("total", np.ones((1, 4), np.float32))),
    "narrow": told(lambda: state.write_state("total", np.ones((1, 4), np.float16))),
    "unknown": told(lambda: state.read_state("nothing")),
}))
"""
# What nobody else holds is let go of a second later, and fatal; what is held is not.
LATE = """
held = [{"x": np.ones((1, 8), np.float32)} for _ in range(3)]
model = network()
for each in held:
    model.__proxy__.predict(dict(each), None)
if sys.argv[1] == "forget":
    each = held = None
time.sleep(2.5)
print("alive")
"""


def run(
    tmp_path: Path, code: str, *arguments: str, **given: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SEAM_DOUBLE": str(tmp_path), "PYTHONPATH": str(ROOT), **given}
    command = [sys.executable, "-c", BEGIN + code, *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_it_refuses_what_the_binding_refuses(tmp_path: Path) -> None:
    done = run(tmp_path, "import json\n" + ASK)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    taken = {name for name, text in told.items() if text == "taken"}
    assert taken == {"positional", "right", "written"}
    pybind = {name for name, text in told.items() if text.startswith("TypeError")}
    assert pybind == {"keyword", "few", "kind", "value", "alone", "batch"}
    for name in ("int64", "half", "frozen", "narrow"):
        assert told[name] == "RuntimeError: value type not convertible"
    for name in ("hint", "units", "shape", "unknown"):
        assert told[name].startswith("RuntimeError: ")


@pytest.mark.parametrize(("how", "code"), [("keep", 0), ("forget", -signal.SIGSEGV)])
def test_it_lets_go_of_inputs_late_and_fatally_where_nobody_holds_them(
    tmp_path: Path, how: str, code: int
) -> None:
    done = run(tmp_path, LATE, how)
    assert done.returncode == code, done.stderr
    assert ("alive" in done.stdout) == (code == 0)


def test_the_tests_for_macs_work_on_it_and_write_their_report(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "macos", "-p", "no:cacheprovider"]
    command += ["tests/macos", "-k", "processors or adds_up or refuses or activation-relu-"]
    environment = {**os.environ, "MACOS_ON_DOUBLE": "1", "MACOS_REPORT": str(report)}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    data = json.loads(report.read_text(encoding="utf-8"))
    assert data["simulated"] is True
    rows = {row["test"]: row for row in data["tests"]}
    assert {row["outcome"] for row in rows.values()} == {"passed"}
    assert rows["test_core_ml.py::test_the_processors_core_ml_has"]["units"] == ["cpu", "gpu", "ne"]
    assert (
        "not convertible"
        in rows["test_core_ml.py::test_core_ml_refuses_a_wrong_input[int64-]"]["text"]
    )
