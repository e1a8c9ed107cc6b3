"""A Mac with Core ML, and a report of what was seen there for its owner to send in.

``MACOS_ON_DOUBLE=1`` runs the same tests on the strict double instead, which shows that the tests
themselves work; the report then says that it is simulated.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.probes import apple
from coreml_lab.run import compiler
from coreml_lab.run.coreml import Host
from coreml_lab.run.native import ENTRY
from coreml_lab.run.native.link import Link
from coreml_lab.run.native.process import worker
from tests.support import native

HERE = "tests/macos/"
REPORT = Path(os.environ.get("MACOS_REPORT", ".bench/macos-report.json"))
DOUBLE = os.environ.get("MACOS_ON_DOUBLE") == "1"
ROWS: list[dict[str, Any]] = []


@pytest.fixture(scope="session")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The worker to start: the product's own, or the one with the double in it."""
    patch = pytest.MonkeyPatch()
    if DOUBLE:
        patch.setenv("SEAM_DOUBLE", str(tmp_path_factory.mktemp("double")))
    name = native.ENTRY if DOUBLE else ENTRY
    yield name
    worker(name).stop()
    patch.undo()


@pytest.fixture(autouse=True)
def core_ml(entry: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but Core ML, and nothing kept from an earlier run."""
    cl.configure(engine="coreml", recover=False)
    if DOUBLE:
        given = compiler.engines
        double = native.Double(Path(os.environ["SEAM_DOUBLE"]))
        monkeypatch.setattr(
            compiler, "engines", lambda: (double.engine(compiler.cache()), *given()[1:])
        )


@pytest.fixture
def link(entry: str) -> Iterator[Link]:
    """The line to the worker, to ask what the product never asks."""
    with worker(entry).session() as found:
        yield found


@pytest.fixture
def note(record_property: Any) -> Any:
    """Write facts into the report: ``note(name=value)``."""

    def write(**facts: Any) -> None:
        for name, value in facts.items():
            record_property(name, value)

    return write


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what each test here came to."""
    if report.nodeid.startswith(HERE) and (report.when == "call" or report.failed):
        row = {"test": report.nodeid.removeprefix(HERE), "outcome": report.outcome}
        crash = getattr(report.longrepr, "reprcrash", None)
        row |= {"error": crash.message} if crash is not None else {}
        ROWS.append({**row, "seconds": round(report.duration, 3), **dict(report.user_properties)})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report where anything was seen."""
    if ROWS:
        path = session.config.rootpath / REPORT
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**environment(), "tests": ROWS}, indent=1, default=str))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say where the report is."""
    if ROWS:
        terminalreporter.write_line(f"{REPORT}: what was seen; please attach it to an issue")


def environment() -> dict[str, Any]:
    """What the report is about."""
    host = Host.here()
    chip = apple.kernel_text("machdep.cpu.brand_string") if sys.platform == "darwin" else ""
    versions = ("coreml-lab", "coremltools", "numpy")
    return {
        "simulated": DOUBLE,
        "system": f"{host.system} {host.version} {host.build}".strip(),
        "machine": f"{chip} {platform.machine()}".strip(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in versions},
    }
