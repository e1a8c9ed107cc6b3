"""Clean the notebooks: keep only what is listed here, and no outputs.

``python docs/notebooks.py`` cleans notebooks/ (or the files named), ``--check`` only says which
are not clean.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOK = ("cells", "metadata", "nbformat", "nbformat_minor")
METADATA = {"kernelspec": ("display_name", "language", "name"), "language_info": ("name",)}
CELL = ("cell_type", "id", "metadata", "source")
CELL_METADATA = ("tags",)


def _only(data: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: data[key] for key in keys if key in data}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    kept = _only(cell, CELL)
    kept["metadata"] = _only(cell.get("metadata", {}), CELL_METADATA)
    if cell["cell_type"] == "code":
        kept |= {"execution_count": None, "outputs": []}
    return dict(sorted(kept.items()))


def clean(text: str) -> str:
    """The notebook without what is not listed."""
    notebook = _only(json.loads(text), NOTEBOOK)
    notebook["cells"] = [_cell(cell) for cell in notebook["cells"]]
    notebook["metadata"] = {
        key: _only(notebook["metadata"][key], kept)
        for key, kept in METADATA.items()
        if key in notebook["metadata"]
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Clean, or with ``--check`` say what is not clean."""
    check = "--check" in arguments
    named = [Path(a) for a in arguments if not a.startswith("--")]
    dirty = 0
    for file in named or sorted(FOLDER.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in file.parts:
            continue
        text = file.read_text(encoding="utf-8")
        cleaned = clean(text)
        if cleaned == text:
            continue
        dirty += 1
        print(f"{file} is not clean" if check else f"{file} cleaned")
        if not check:
            file.write_text(cleaned, encoding="utf-8")
    return 1 if dirty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
