"""Programs for which PyTorch uses as many threads as they were given, while they run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from coreml_lab.program.graph import Array
from coreml_lab.records import Run
from coreml_lab.run.op_memory import MemoryTrace
from coreml_lab.run.state import State
from coreml_lab.run.steps.program import PyTorchProgram


class _Held:
    """How many runs have set the number now, and what it was before the first of them."""

    lock = threading.Lock()
    runs = 0
    usual = 0


@contextmanager
def limited(torch: Any, number: int) -> Iterator[None]:
    """PyTorch uses ``number`` threads inside of one operation, until the block ends.

    PyTorch keeps a number for each thread that calls it, and begins a new one with that which was
    set last, anywhere: whoever comes while somebody holds it goes back to the usual one, too.
    """
    with _Held.lock:
        if not _Held.runs:
            _Held.usual = torch.get_num_threads()
        _Held.runs += 1
    try:
        _set(torch, number)
        yield
    finally:
        with _Held.lock:
            _set(torch, _Held.usual)
            _Held.runs -= 1


def _set(torch: Any, number: int) -> None:
    if torch.get_num_threads() != number:  # to ask takes a tenth of the time
        torch.set_num_threads(number)


class Threaded(PyTorchProgram):
    """A program with a number of threads of its own; others, and the user's, keep theirs."""

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference."""
        with limited(self._torch, self._options.threads):
            return super().run(inputs, state)

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` inferences with a span per op."""
        with limited(self._torch, self._options.threads):
            return super().trace(inputs, runs)

    def account(self, inputs: Mapping[str, Array]) -> MemoryTrace:
        """What PyTorch's allocator held, operation by operation, in one inference."""
        with limited(self._torch, self._options.threads):
            return super().account(inputs)
