"""A device that is not the CPU, played by the CPU: asking it for what it holds is noticed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from coreml_lab.program.graph import Array, Graph
from coreml_lab.run.steps.border import Types, queued
from coreml_lab.run.steps.plan import plan
from coreml_lab.run.steps.space import Space

ASKING = {
    getattr(torch.Tensor, name)
    for name in ("item", "tolist", "numpy", "cpu", "__int__", "__bool__", "__float__", "__index__",
                 "__array__", "__iter__", "nonzero")
}  # fmt: skip


class RemoteSpace(Space):
    """Counts what is moved to it."""

    def __init__(self) -> None:
        super().__init__(torch)
        self.device = SimpleNamespace(type="cuda")
        self.made = 0

    def moved(self, array: Array) -> Any:
        self.made += 1
        return torch.from_numpy(np.array(array))

    def arange(self, *bounds: Any, **options: Any) -> Any:
        return torch.arange(*bounds, **options)

    def full(self, size: Any, value: Any, dtype: Any = None) -> Any:
        return torch.full(size, value, dtype=dtype)


class Remote:
    """A program there."""

    def __init__(self, graph: Graph) -> None:
        self.space = RemoteSpace()
        self.plan = plan(graph, self.space)
        self.types = Types(
            {k: n.type for k, n in graph.inputs.items()},
            {},
            {k: v.type for k, v in graph.outputs.items()},
        )

    def run(self, feeds: Mapping[str, Array]) -> Any:
        given = {k: torch.from_numpy(np.array(feeds[k])) for k in self.plan.inputs}
        with torch.inference_mode():
            return queued(self.plan, given, {}, self.types)


class _Watch(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function in ASKING:
            raise AssertionError(f"the device was asked: {function.__name__}")
        return function(*args, **(kwargs or {}))


@contextmanager
def asking_is_an_error() -> Iterator[None]:
    """Whoever reads a tensor in here fails."""
    with _Watch():
        yield
