"""Operations, named as in MIL, and the friendly spellings above them (``sugar``)."""

from __future__ import annotations

import importlib
from typing import Any

from coreml_lab.program.ops.registry import OPS, Law, Limit, Op, op

FAMILIES = (
    "arithmetic",
    "unary",
    "comparison",
    "activation",
    "linear",
    "attention",
    "recurrent",
    "convolution",
    "pooling",
    "normalization",
    "reduction",
    "shape",
    "joining",
    "filling",
    "random",
    "slicing",
    "gather",
    "resizing",
    "resampling",
    "detection",
    "scatter",
    "selection",
    "quantization",
    "stored",
    "lists",
    "state",
)

# MIL's operations that have no declaration, and where they are instead.
ELSEWHERE = {
    "const": "a leaf of the graph: its array",
    "_const_symbolic": "coremltools' own while it converts; a file has a plain const instead",
    "cond": "control flow: a node with blocks, which each engine runs itself",
    "while_loop": "control flow: a node with blocks, which each engine runs itself",
    "classify": "outside of the program: the model makes label and dictionary of the probabilities",
}

for _family in FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")

# A family's module may bear the name of one of its ops: here the name means the op.
globals().update({name: declared for name, declared in OPS.items() if not declared.stored})

__all__ = ["ELSEWHERE", "FAMILIES", "OPS", "Law", "Limit", "Op", "op"]


def __getattr__(name: str) -> Any:
    """A friendly spelling of ``sugar``."""
    sugar = importlib.import_module(f"{__name__}.sugar")
    if name in sugar.__all__:
        return getattr(sugar, name)
    raise AttributeError(
        f"coreml_lab.ops has no operation {name!r}; available: {', '.join(sorted(__dir__()))}"
    )


def __dir__() -> list[str]:
    sugar = importlib.import_module(f"{__name__}.sugar")
    return sorted({*sugar.__all__, *(n for n, o in OPS.items() if not o.stored)})
