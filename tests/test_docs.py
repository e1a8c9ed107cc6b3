"""The documents: tables are fresh, links lead somewhere, commands exist, nothing is private."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import coreml_lab as cl
from coreml_lab import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NOTEBOOKS = sorted(
    p for p in ROOT.glob("notebooks/**/*.ipynb") if ".ipynb_checkpoints" not in p.parts
)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def script(name: str) -> ModuleType:
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a clone: which files belong to the project is not known")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_reference_is_fresh() -> None:
    fresh = script("tables").page()
    assert (ROOT / "docs/reference.md").read_text(encoding="utf-8") == fresh, "run: make docs"


def test_the_table_of_operations_is_fresh_and_complete() -> None:
    from coreml_lab.program.mil.inference import forms

    fresh = script("operations").page()
    assert (ROOT / "docs/operations.md").read_text(encoding="utf-8") == fresh, "run: make docs"
    for name in forms():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", fresh, re.MULTILINE)
        assert all(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]), row
    # Whoever cannot has a reason: a dash is followed by the mark of one.
    assert not re.search(r"—(?!\[\^)", fresh)


def test_the_page_about_placement_and_what_it_is_calibrated_by_are_fresh() -> None:
    for name, file in (("calibration", "coreml_lab/explain/data/calibration.json"),
                       ("placement", "docs/placement.md")):  # fmt: skip
        fresh = script(name).page()
        assert (ROOT / file).read_text(encoding="utf-8") == fresh, "run: make docs"


def test_the_table_of_layers_is_fresh_and_complete() -> None:
    layers = script("layers")
    fresh = layers.page()
    assert (ROOT / "docs/layers.md").read_text(encoding="utf-8") == fresh, "run: make docs"
    for kind in layers.kinds():
        (row,) = re.findall(rf"^\| `{kind}` \|.*$", fresh, re.MULTILINE)
        assert all(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]), row
    for kind, file in layers.ELSEWHERE.items():
        told = (ROOT / layers.TESTS / file).read_text(encoding="utf-8")
        assert kind in told or re.sub("Like|Static|Dynamic", "", kind) in told, kind


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_commands_that_the_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets, page.name
        assert set(re.findall(r"`coreml-lab ([a-z]+)", text)) <= set(cli.COMMANDS), page.name


def test_the_public_names_that_the_documents_use_exist() -> None:
    for page in PAGES:
        used = set(re.findall(r"\bcl\.([a-zA-Z_]+)", page.read_text(encoding="utf-8")))
        assert used <= set(dir(cl)), page.name


def test_the_extras_are_those_of_the_design() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = "torch opencl openvino nvidia tune models course test docs all"
    assert set(project["optional-dependencies"]) == set(names.split())


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    releases = re.findall(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == cl.__version__


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_is_stored_clean(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert script("notebooks").clean(text) == text, "run: python docs/notebooks.py"


def test_cleaning_keeps_only_what_is_listed(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code",
        "id": "a",
        "source": "1",
        "execution_count": 7,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "at 0x7f"}],
        "metadata": {"tags": ["slow"], "execution": {"iopub.status.busy": "now"}},
    }
    notebook = {
        "cells": [cell],
        "metadata": {"kernelspec": {"name": "python3", "path": "x"}, "widgets": {}},
        "nbformat": 4,
        "nbformat_minor": 5,
        "extra": 1,
    }
    file = tmp_path / "n.ipynb"
    file.write_text(json.dumps(notebook))
    assert script("notebooks").main(["--check", str(file)]) == 1
    assert script("notebooks").main([str(file)]) == 1
    assert script("notebooks").main(["--check", str(file)]) == 0
    cleaned = json.loads(file.read_text())
    assert cleaned["cells"][0]["outputs"] == []
    assert cleaned["cells"][0]["metadata"] == {"tags": ["slow"]}
    assert cleaned["metadata"] == {"kernelspec": {"name": "python3"}}
    assert "extra" not in cleaned


def test_no_file_names_a_machine_or_an_index() -> None:
    # Letters in brackets, so that this file does not name them either.
    private = re.compile(r"(?<![\w.~])/(wor[k]|roo[t])/|pypi\.or[g]|registry\.npmj[s]")
    for file in tracked():
        if file.suffix not in {".png", ".svg", ".gif", ".bin"}:
            found = private.search(file.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{file.relative_to(ROOT)} names {found}"
