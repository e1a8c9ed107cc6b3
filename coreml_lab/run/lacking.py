"""What is not installed here, what it would bring, and the command that brings it."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable

from coreml_lab import models

# Extra -> a module that it brings, and what for.
EXTRAS = {
    "torch": ("torch", "PyTorch, GPUs"),
    "openvino": ("openvino", "OpenVINO"),
    "opencl": ("tinygrad", "OpenCL devices"),
    "tune": ("optuna", "cl.tune"),
    "course": ("sklearn", "the course, k-means"),
}


def lacking(
    here: Callable[[str], object] = importlib.util.find_spec,
    unfetched: Callable[[], tuple[str, ...]] = models.missing,
    python: str = sys.executable,
) -> tuple[tuple[str, str], ...]:
    """What it is for, and the exact command, for each that is not here.

    Args:
        here: false for a module that is not installed.
        unfetched: the real models that are not here.
        python: the interpreter that is to have it.
    """
    found = [
        (what, f"{shlex.quote(python)} -m pip install 'coreml-lab[{extra}]'")
        for extra, (module, what) in EXTRAS.items()
        if not here(module)
    ]
    if unfetched():
        found.append(("real models", f"{shlex.quote(python)} -m coreml_lab models"))
    return tuple(found)
