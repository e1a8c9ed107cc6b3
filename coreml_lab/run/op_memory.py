"""What an engine's allocator says of each operation: bytes in use while it ran."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from coreml_lab.errors import EngineError
from coreml_lab.program.graph import Array

HINT = "cl.footprint(model, inputs) estimates it from the values' sizes"


@dataclass(frozen=True)
class OpMemory:
    """One kernel; bytes are above what the program holds before a run: weights are not in them.

    Attributes:
        node: the operation that does the work.
        fused: the others it stands for.
        live: in use when it ended, or at most while it ran, by what the source tells.
        made: what is in use more, or less, after it.
    """

    node: str
    op: str
    fused: tuple[str, ...]
    live: int
    made: int


@dataclass(frozen=True)
class MemoryTrace:
    """One inference, as the allocator counted it.

    Attributes:
        ops: in the order in which they ran.
        held: bytes in use before the run: weights in the engine's form, where it keeps them there.
        source: who counted, and how.
    """

    ops: tuple[OpMemory, ...]
    held: int
    source: str

    @property
    def peak(self) -> int:
        """The most that was in use at once, above what is held."""
        return max((op.live for op in self.ops), default=0)

    @property
    def at(self) -> str:
        """The operation that ran then."""
        return max(self.ops, key=lambda op: op.live).node if self.ops else ""


@runtime_checkable
class Accounting(Protocol):
    """A loaded program whose allocator tells what it holds, operation by operation."""

    def account(self, inputs: Mapping[str, Array]) -> MemoryTrace:
        """One instrumented inference, and what was held in it."""
        ...


@dataclass(frozen=True)
class Mark:
    """What an allocator says as a kernel ends: bytes in use, and how many more than before."""

    start_ns: int
    duration_ns: int
    in_use: int
    delta: int


def levels(marks: Sequence[Mark], every: Iterable[Mark]) -> tuple[list[tuple[int, int]], int]:
    """Live and made of each mark above what was in use before the first, and that.

    What runs inside a kernel's time (the kernels of a loop's body) counts as that kernel's.
    """
    if not marks:
        return [], 0
    inner = sorted(every, key=lambda m: m.start_ns)
    first = min((*marks, *inner), key=lambda m: m.start_ns)
    held = first.in_use - first.delta
    starts = [m.start_ns for m in inner]
    found = []
    for mark in marks:
        begin = bisect_left(starts, mark.start_ns)
        end = bisect_left(starts, mark.start_ns + mark.duration_ns)
        inside = (m.in_use for m in inner[begin:end])
        found.append((max((mark.in_use, *inside)) - held, mark.delta))
    return found, held


def mark(event: Mapping[str, Any]) -> Mark:
    """A kernel's event in ONNX Runtime's profile (times there are in microseconds).

    Raises:
        EngineError: where this version does not write down what is in use.
    """
    args = event["args"]
    try:
        in_use = int(args["mem_bytes_requested_in_use"])
        delta = int(args["mem_requested_in_use_delta"])
    except KeyError:
        told = "this version of ONNX Runtime does not record what its arena holds"
        raise EngineError(told, hint=HINT) from None
    return Mark(event["ts"] * 1000, event["dur"] * 1000, in_use, delta)
