"""Installing: every name is replaced where it is bound, and put back."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.interop import calibration, runtime, seam
from tests.support.seam_models import network

ROOT = Path(cl.__file__).parents[1]
# A fresh interpreter each: what is installed before or after coremltools is imported.
USE = """
import numpy as np
from coremltools.converters.mil import Builder as mb
@mb.program(input_specs=[mb.TensorSpec(shape=(2,))], opset_version=ct.target.iOS17)
def program(x):
    return mb.add(x=x, y=np.float32(1), name="y")
model = ct.convert(program, compute_precision=ct.precision.FLOAT32)
print(model.predict({"x": np.ones(2, np.float32)})["y"].tolist())
"""
FIRST = "import coreml_lab as cl; cl.install_runtime(); import coremltools as ct"
AFTER = "import coremltools as ct; import coreml_lab as cl; cl.install_runtime()"
MAC = "import coremltools as ct; u = ct.models.utils; u._is_macos = lambda: True; "
MAC += "u._macos_version = lambda: (10, 12); import coreml_lab as cl; cl.install_runtime()"


def bound() -> dict[tuple[str, str], Any]:
    """Everything in coremltools that an installation may touch."""
    names = {*seam.CLASSES, "_is_macos", "_macos_version", "_update_tensor_range"}
    found = {
        (module, name): vars(m)[name]
        for module, m in sys.modules.items()
        if module.partition(".")[0] == "coremltools" and isinstance(m, types.ModuleType)
        for name in names | {"libcoremlpython"}
        if name in vars(m)
    }
    recorder = vars(calibration.ModelDebugger)["record_intermediate_output"]
    return found | {("ModelDebugger", "record"): recorder}


@pytest.mark.parametrize("begin", [FIRST, AFTER, MAC], ids=["first", "after", "mac"])
def test_unmodified_coremltools_predicts(begin: str) -> None:
    command = [sys.executable, "-c", begin + USE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[2.0, 2.0]"


def test_everything_is_put_back() -> None:
    with cl.install_runtime():
        pass  # what the first installation imports stays imported
    before = bound()
    with cl.install_runtime():
        changed = {name for name, value in bound().items() if before.get(name) is not value}
        assert ("coremltools.models.model", "_MLModelProxy") in changed
        assert ("coremltools.models._compiled_model", "_macos_version") in changed
        assert ("ModelDebugger", "record") in changed
    assert bound() == before
    assert "coremltools.libcoremlpython" not in sys.modules


def test_a_module_that_was_imported_meanwhile_is_put_back_too() -> None:
    module = types.ModuleType("coremltools.made_for_this_test")
    with cl.install_runtime():
        from coremltools.libcoremlpython import _MLModelProxy
        from coremltools.models.utils import _is_macos

        module._MLModelProxy, module._is_macos = _MLModelProxy, _is_macos
        sys.modules[module.__name__] = module
    try:
        assert module._MLModelProxy is None
        assert not module._is_macos()
    finally:
        del sys.modules[module.__name__]


def test_a_native_module_that_is_there_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import coremltools

    real = types.ModuleType("coremltools.libcoremlpython")
    real._MLModelProxy = type("_MLModelProxy", (), {})
    monkeypatch.setitem(sys.modules, real.__name__, real)
    monkeypatch.setattr(coremltools, "libcoremlpython", real, raising=False)
    monkeypatch.setattr(coremltools.models.model, "_MLModelProxy", real._MLModelProxy)
    with cl.install_runtime():
        assert coremltools.models.model._MLModelProxy is seam.ModelProxy
        assert coremltools.libcoremlpython is not real
    assert coremltools.models.model._MLModelProxy is real._MLModelProxy
    assert coremltools.libcoremlpython is real
    assert sys.modules[real.__name__] is real


def test_installations_nest_and_only_the_last_one_takes_everything_back() -> None:
    import coremltools

    outer = cl.install_runtime()
    with cl.install_runtime() as inner:
        outer.uninstall()
        outer.uninstall()
        assert not outer.installed
        assert inner.installed
        assert coremltools.models.model._MLModelProxy is seam.ModelProxy
        assert repr(inner) == "Runtime(installed)"
    assert repr(inner) == "Runtime(not installed)"
    assert not runtime.INSTALLED


def test_on_a_mac_too_it_takes_the_place_of_core_ml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "MAC", True)
    asked: list[str | None] = []
    load = seam.compiler.load

    def told(*args: Any, engine: str | None, **given: Any) -> Any:
        asked.append(engine)
        return load(*args, engine=engine, **given)

    monkeypatch.setattr(seam.compiler, "load", told)
    with cl.install_runtime():
        network()
        with cl.configure(engine="reference"):
            network()
    assert asked == ["portable", None]
