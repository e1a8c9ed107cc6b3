"""coremltools without the frameworks that it converts from, in processes that convert nothing.

While it is imported, coremltools imports PyTorch, scikit-learn, XGBoost and others wherever they
are installed: three quarters of the time that takes. A kernel may convert from them later, and must
have them; a trial, the process that drives Core ML and a command in a terminal never do.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

# What coremltools 9.0 tries to import (its ``_deps``), but for SciPy, which it computes with.
FRAMEWORKS = (
    "executorch",
    "libsvm",
    "sklearn",
    "tensorflow",
    "torch",
    "torchao",
    "torchaudio",
    "torchvision",
    "transformers",
    "xgboost",
)


class _Asked:
    """Whether this process goes without them."""

    to_leave_out = False


def leave_out() -> None:
    """From now on this process imports coremltools without frameworks, if it has not yet.

    Only for processes that are ours: in them coremltools cannot convert from a framework any more.
    Everybody else, engines too, imports the frameworks as usual.
    """
    _Asked.to_leave_out = True


def are_left_out() -> bool:
    """Whether coremltools goes without them here."""
    return _Asked.to_leave_out


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Around the import of coremltools: what has not been imported yet cannot be found meanwhile.

    ``None`` in ``sys.modules`` is Python's own way to say so.
    """
    hidden = [name for name in FRAMEWORKS if _Asked.to_leave_out and name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
