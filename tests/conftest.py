"""What every test gets: a clean environment, a cache of its own session, no recovery.

The compile cache is shared by the tests of one session, so that a program is compiled once.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.run import breaker
from coreml_lab.run.coreml import Host

# Where the real models are is the machine's business, not the tests'.
KEPT = {"COREML_LAB_MODELS_DIR"}
# The generators of random numbers that test modules share among their tests, as they began.
BEGUN: dict[np.random.Generator, Any] = {}


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compile cache of this test session; one per worker of pytest-xdist."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def interruptible() -> None:
    """Ctrl-C means what it means at a terminal; shells start background jobs without it."""
    # Before each test: one before it, or a library (also one that Python knows nothing of), may
    # have had it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def clean_environment(session_cache: Path) -> Iterator[None]:
    """No ``COREML_LAB_*`` of the developer's; processes that tests start use the same cache."""
    patch = pytest.MonkeyPatch()
    for name in os.environ:
        if name.startswith(config.PREFIX) and name not in KEPT:
            patch.delenv(name)
    patch.setenv("COREML_LAB_CACHE_DIR", str(session_cache))
    patch.setenv("COREML_LAB_RECOVER", "0")
    # Which engine is faster differs from run to run; tests that want the choice turn it on.
    patch.setenv("COREML_LAB_RIVALS", "0")
    # Fixtures of wider scope run before any test's own settings.
    patch.setattr(config._Current, "value", config.from_environment(os.environ))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def default_settings(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that a test changed do not reach the next one."""
    monkeypatch.setattr(config._Current, "value", config.from_environment(os.environ))
    breaker.forget()


@pytest.fixture(autouse=True)
def no_core_ml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests mean the same on every machine: only those for Macs reach Core ML itself."""
    if sys.platform == "darwin" and request.node.get_closest_marker("macos") is None:
        monkeypatch.setattr(Host, "here", staticmethod(lambda: Host("a Mac", "left out")))


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """An empty compile cache of this test's own, in force."""
    folder = tmp_path / "cache"
    cl.configure(cache_dir=folder)
    return folder


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember where the generators of the modules begin."""
    for module in {getattr(item, "module", None) for item in session.items} - {None}:
        for value in vars(module).values():
            if isinstance(value, np.random.Generator):
                BEGUN[value] = value.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """A test draws the same numbers alone, in company, and in another order."""
    for generator, state in BEGUN.items():
        generator.bit_generator.state = state


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what this machine lacks."""
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install torch")
    on_double = os.environ.get("MACOS_ON_DOUBLE") == "1"
    if item.get_closest_marker("macos") and sys.platform != "darwin" and not on_double:
        pytest.skip(f"this is {platform.system()}, not macOS")
    if item.get_closest_marker("models") and (missing := cl.models.missing()):
        pytest.skip(f"the real models {', '.join(missing)} are not here: coreml-lab models")
