"""Small programs made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Node, TensorType

F32 = np.dtype(np.float32)
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def given(name: str, *shape: int, dtype: Any = np.float32) -> Node:
    return Node("input", (TensorType(shape, np.dtype(dtype)),), name=name)
