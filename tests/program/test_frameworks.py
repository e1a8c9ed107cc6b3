"""coremltools without the frameworks that it converts from, where a process asks for that."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import coreml_lab as cl
from coreml_lab.errors import CompileError
from coreml_lab.program import frameworks

# In a process of its own: what coremltools brought with it, and that engines find it afterwards.
PROBE = """
import importlib.util, sys
from coreml_lab.program import frameworks
frameworks.leave_out()
from coreml_lab.program import mil
mil.ready()
from coreml_lab.program.mil import tools
import tqdm
print(type(tqdm.tqdm.get_lock()).__module__)
print([name for name in frameworks.FRAMEWORKS if name in sys.modules])
print(importlib.util.find_spec("torch") is not None, tools.ct.optimize.coreml.OpPalettizerConfig)
import coreml_lab as cl
made = cl.compile(cl.ops.relu, x=cl.spec(2, 3))
print(cl.edit(made).apply("clean").model.predict({"x": [[-1, 0, 1], [2, 3, 4]]}))
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks._Asked, "to_leave_out", True)


def test_coremltools_works_without_them_and_others_still_find_them() -> None:
    root = Path(cl.__file__).parents[1]
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    lock, brought, found, result = done.stdout.splitlines()[:4]
    assert lock == "_thread"  # a semaphore between processes would outlive a killed trial
    assert brought == "[]"
    assert found.split()[0] == str(importlib.util.find_spec("torch") is not None)
    assert "[0., 0., 1.]" in result


@pytest.mark.usefixtures("asked")
def test_what_is_imported_already_stays_and_the_rest_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frameworks, "FRAMEWORKS", ("json", "wave"))
    sys.modules.pop("wave", None)
    with frameworks.left_out():
        assert importlib.import_module("json")
        with pytest.raises(ImportError):
            importlib.import_module("wave")
    assert importlib.import_module("wave")


def test_a_kernel_that_did_not_ask_imports_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "FRAMEWORKS", ("wave",))
    sys.modules.pop("wave", None)
    with frameworks.left_out():
        assert importlib.import_module("wave")


def test_a_process_that_left_them_out_says_that_it_cannot_convert(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from coreml_lab.program.mil import conversion  # before: this process goes on with all of them

    monkeypatch.setattr(frameworks._Asked, "to_leave_out", True)
    recorded = conversion.Recorded(None, {}, {}, {})
    with pytest.raises(CompileError, match="without PyTorch"):
        conversion.convert(recorded, tmp_path / "n.mlpackage", precision="fp32", target=None)
