"""Operations, named as in MIL, and the friendly spellings above them (``sugar``)."""

from __future__ import annotations

import importlib
from typing import Any

from coreml_lab.program.ops.registry import OPS, Limit, Op, op

FAMILIES = (
    "arithmetic", "comparison", "activation", "linear", "convolution", "pooling", "normalization", "reduction", "shape", "gather", "stored",
)  # fmt: skip

for _family in FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")

__all__ = ["FAMILIES", "OPS", "Limit", "Op", "op"]


def __getattr__(name: str) -> Any:
    """An op by its MIL name, or a friendly spelling of ``sugar``."""
    if name in OPS and not OPS[name].stored:
        return OPS[name]
    sugar = importlib.import_module(f"{__name__}.sugar")
    if name in sugar.__all__:
        return getattr(sugar, name)
    raise AttributeError(f"coreml_lab.ops has no operation {name!r}; available: {', '.join(sorted(__dir__()))}")


def __dir__() -> list[str]:
    sugar = importlib.import_module(f"{__name__}.sugar")
    return sorted({*sugar.__all__, *(n for n, o in OPS.items() if not o.stored)})
