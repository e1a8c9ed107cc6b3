"""Where in the user's code an operation was written, in words for messages."""

from __future__ import annotations

import inspect
from types import FrameType

# Code that records on behalf of somebody: his line is the one that matters.
INNER = ("coreml_lab.program.", "coreml_lab.run.")


def caller() -> str:
    """``net.py, line 12``, or ``Cell In[3], line 4``: the innermost line that is not ours."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(INNER):
        frame = frame.f_back
    return "" if frame is None else f"{_source(frame)}, line {frame.f_lineno}"


def _source(frame: FrameType) -> str:
    """A file's name, or what IPython calls the cell: its code knows its shell."""
    name = frame.f_code.co_filename
    shell = frame.f_globals.get("get_ipython")
    if callable(shell) and hasattr(shell(), "compile"):
        found = shell().compile.format_code_name(name)
        if found is not None and found[0] == "Cell":
            return " ".join(found)
    # Much faster than a Path, and this is asked for every operation.
    return name.replace("\\", "/").rpartition("/")[2]
