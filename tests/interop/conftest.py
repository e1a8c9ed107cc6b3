"""Our runtime at coremltools' seam, taken back after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.seam_models import network


@pytest.fixture
def runtime() -> Iterator[Any]:
    """Our runtime, installed for one test."""
    with cl.install_runtime() as installed:
        yield installed
    assert not installed.installed


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32)


@pytest.fixture
def package(runtime: Any, tmp_path: Path) -> str:
    """The network's package."""
    path = str(tmp_path / "net.mlpackage")
    network().save(path)
    return path
