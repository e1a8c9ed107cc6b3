"""The packages hold exactly what they should: `make dist` builds them and runs this.

Without ``DIST`` they are built here, which takes a network: part of `make check-all`.
"""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import coreml_lab as cl

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LICENCES = {"LICENSE", "LICENSES/elkjs.txt"}
FRONT = {
    f"coreml_lab/widgets/static/{name}"
    for name in ("dashboard.js", "dashboard.css", "inspector.js", "inspector.css", "layout.js")
}


def tracked(*below: str) -> set[str]:
    """The repository's own files, by their paths."""
    told = subprocess.run(
        ["git", "ls-files", *below], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if told.returncode:
        pytest.skip("not a clone: which files belong to the project is not known")
    return set(told.stdout.split("\n")) - {""}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one wheel and one sdist."""
    if "DIST" in os.environ:
        return ROOT / os.environ["DIST"]
    # Not "build" itself: the folder of that name, where documents are made, is a package, too.
    pytest.importorskip("build.__main__", reason="the packages are built by: make dist")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "-o", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def wheel(dist: Path) -> zipfile.ZipFile:
    """The wheel."""
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.sweep
def test_the_wheel_is_the_package_its_front_end_the_course_and_licences(
    wheel: zipfile.ZipFile,
) -> None:
    info = f"coreml_lab-{cl.__version__}.dist-info/"
    code = {name for name in tracked("coreml_lab") if not name.endswith(".gitkeep")}
    course = {f"coreml_lab/{name}" for name in tracked("notebooks")}
    records = {"METADATA", "RECORD", "WHEEL", "entry_points.txt"}
    records |= {f"licenses/{name}" for name in LICENCES}
    assert set(wheel.namelist()) == code | FRONT | course | {info + name for name in records}


@pytest.mark.sweep
def test_the_wheel_says_what_the_project_says(wheel: zipfile.ZipFile) -> None:
    (name,) = [n for n in wheel.namelist() if n.endswith("METADATA")]
    told = email.message_from_bytes(wheel.read(name))
    assert told["Version"] == cl.__version__
    assert told["License-Expression"] == PROJECT["license"]
    assert set(told.get_all("License-File") or ()) == LICENCES
    assert set(told.get_all("Provides-Extra") or ()) == set(PROJECT["optional-dependencies"])


@pytest.mark.sweep
def test_the_sdist_is_the_repository_and_the_front_end(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as file:
        found = {n.name.partition("/")[2] for n in file.getmembers() if n.isfile()}
    left_out = re.compile(r"\.(ci|github)/|\.pre-commit|.*\.gitkeep$")
    wanted = {name for name in tracked() if not left_out.match(name)}
    assert {n for n in wanted | FRONT if not n.startswith(".")} <= found
    assert not {n for n in found if n.startswith(("js/node_modules", "site/", "build/", ".venv"))}


def test_licences_of_what_the_wheel_bundles_are_named_and_enclosed() -> None:
    import json

    bundled = json.loads((ROOT / "js/package.json").read_text())["dependencies"]
    lock = json.loads((ROOT / "js/package-lock.json").read_text())["packages"]
    for name in bundled:
        offered = lock[f"node_modules/{name}"]["license"].split(" OR ")
        assert set(offered) & set(PROJECT["license"].split(" AND ")), name
    texts = [(ROOT / name).read_text(encoding="utf-8").lower() for name in LICENCES]
    assert len(texts) == 1 + len(bundled)
    assert PROJECT["license-files"] == ["LICENSE", "LICENSES/*"]


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT


def test_every_requirement_has_a_range() -> None:
    extras = PROJECT["optional-dependencies"].values()
    for line in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]:
        assert re.search(r"[<>=~]|^types-|^coreml-lab\[", line), line


def test_workflows_use_actions_by_their_commit_and_may_only_read() -> None:
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        text = file.read_text(encoding="utf-8")
        for action in re.findall(r"uses: (.*)", text):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", action), action
        assert "\npermissions:\n  contents: read\n" in text
        granted = re.findall(r"^ +(\S+): write", text, re.MULTILINE)
        assert set(granted) <= {"id-token"}, file.name
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")
