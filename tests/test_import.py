"""Importing the package: quick, and without the heavy libraries."""

from __future__ import annotations

import ast
import importlib
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import coreml_lab as cl

ROOT = Path(cl.__file__).parents[1]
HEAVY = (
    "coremltools",
    "onnxruntime",
    "onnx",
    "torch",
    "ipywidgets",
    "anywidget",
    "bokeh",
    "IPython",
)
MAY_TAKE_S = 0.3
# Runs in a fresh interpreter: seconds of the import, and which heavy libraries it loaded.
PROBE = f"""
import sys, time
begin = time.perf_counter()
import coreml_lab
seconds = time.perf_counter() - begin
print(seconds, [name for name in {HEAVY!r} if name in sys.modules])
"""


def fresh(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_import_is_quick_and_loads_nothing_heavy() -> None:
    answers = [fresh(PROBE).split(" ", 1) for _ in range(5)]
    assert {loaded for _, loaded in answers} == {"[]"}
    assert statistics.median(float(seconds) for seconds, _ in answers) < MAY_TAKE_S


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    code = "import sys, coreml_lab.cli as c; c.parser(); print(*sys.modules)"
    assert not set(HEAVY) & set(fresh(code).split())


@pytest.mark.parametrize("name", sorted(cl._PUBLIC))
def test_a_public_name_is_what_the_table_says(name: str) -> None:
    module, attribute = cl._PUBLIC[name]
    found = getattr(cl, name)
    home = importlib.import_module(module)
    assert found is (getattr(home, attribute) if attribute else home)
    assert name in dir(cl)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = cl.lod


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in sorted((ROOT / "coreml_lab").rglob("*.py"))
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_every_module_opens_with_a_sentence() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "coreml_lab").rglob("*.py"))
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert silent == []
