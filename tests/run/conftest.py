"""The native engine on the strict double: one worker for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.run import compiler
from tests.support import seam_double
from tests.support.native import Double, clear


@pytest.fixture(scope="session")
def double_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where orders and calls are; the worker looks for it in its environment."""
    folder = tmp_path_factory.mktemp("double")
    patch = pytest.MonkeyPatch()
    patch.setenv(seam_double.VARIABLE, str(folder))
    yield folder
    Double(folder).worker.stop()
    patch.undo()


@pytest.fixture
def double(double_folder: Path) -> Double:
    """The double, with nothing ordered and nothing asked."""
    clear(double_folder)
    return Double(double_folder)


@pytest.fixture
def mac(double: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """A made-up Mac: its native engine comes first, as on a real one."""
    cl.configure(worker_timeout=120.0)  # what hangs for good is a fault of the test
    given = compiler.engines

    def engines() -> tuple[Any, ...]:
        native, *others = given()
        return double.engine(native.cache, native.limits), *others

    monkeypatch.setattr(compiler, "engines", engines)
    return double
