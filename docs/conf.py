"""The manual, as Sphinx builds it: ``make docs-site`` writes it to site/, warnings are errors.

Everything comes from this folder, the code and its docstrings; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import manual  # noqa: E402 - beside this file

from coreml_lab import __version__  # noqa: E402

project = "coreml_lab"
author = "the founders of coreml_lab"
copyright = "the founders of coreml_lab, Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["*.py"]
nitpicky = True
# Links to headings, as GitHub names them.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"coreml_lab {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"


def setup(app: Any) -> None:
    """Let pages be completed from the code while they are read."""
    app.connect("source-read", manual.complete)
