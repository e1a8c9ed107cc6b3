"""coremltools, imported quietly, and the one lock its global state needs."""

from __future__ import annotations

import logging
import threading
import warnings

# The block being written lives in a module global of coremltools, so only one thread may write at a time.
LOCK = threading.RLock()

with warnings.catch_warnings():
    # It warns about every optional framework it has not been tested with, and that this is not a Mac.
    warnings.simplefilter("ignore")
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - its customary name
    from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
    from coremltools.converters.mil.mil.types.symbolic import is_symbolic
    from coremltools.converters.mil.mil.types.type_mapping import (
        nptype_from_builtin,
        numpy_type_to_builtin_type,
    )

TARGET = ct.target.iOS18

__all__ = [
    "LOCK", "TARGET", "Function", "Program", "SSAOpRegistry", "ct", "get_new_symbol", "is_symbolic", "mb", "nptype_from_builtin",
    "numpy_type_to_builtin_type", "types",
]  # fmt: skip
