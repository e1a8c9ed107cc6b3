"""The course as a newcomer runs it: each notebook from top to bottom, in a kernel of its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
# The tour has a test of its own, in a browser.
ALL = sorted(FOLDER.glob("[0-9]*.ipynb"))
COURSE = [p for p in ALL if p.name != "00_tour.ipynb"]
# Seconds for a cell on a machine that others use, too; alone, a notebook takes less than 90.
PATIENCE = 240
ASKED = re.compile(r"\*\*Question\.\*\*(.*?)</details>", re.DOTALL)


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.parametrize("file", COURSE, ids=lambda p: p.stem)
def test_a_notebook_runs_from_top_to_bottom_and_leaves_no_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COREML_LAB_RECOVER", raising=False)  # which is off in tests
    shutil.copytree(FOLDER / "data", tmp_path / "data")
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources=place).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("file", ALL, ids=lambda p: p.stem)
def test_a_notebook_asks_hides_its_answers_and_says_what_to_read_next(file: Path) -> None:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert text.startswith(f"# {file.name[:2]} · ")
    assert text.count("**Question.**") == len(ASKED.findall(text)) >= 3
    assert all("<details><summary>Answer</summary>" in asked for asked in ASKED.findall(text))
    assert "## What to read next" in "".join(cells[-1]["source"])
    for link in re.findall(r"\]\(([^)#]+\.ipynb)\)", text):
        assert (FOLDER / link).is_file(), link
