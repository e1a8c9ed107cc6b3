"""What an inference costs besides time: CPU time and energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.explain.energy import energy
from coreml_lab.metrics import Quantity
from coreml_lab.program.graph import Array


@dataclass
class Spent:
    """Work whose CPU time is kept, of all threads of this process."""

    work: Callable[[], object]
    seconds: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        """Do it once."""
        start = time.process_time()
        self.work()
        self.seconds.append(time.process_time() - start)

    def ratio(self, other: Spent, count: int) -> float | None:
        """The median of its last runs by that of another; None where they took too little."""
        mine, others = (float(np.median(each.seconds[-count:])) for each in (self, other))
        return mine / others if others > 0 else None


@dataclass(frozen=True)
class Joules:
    """Energy per inference in two ways, of which one is compared with the same of another.

    Attributes:
        above: beyond what the idle machine draws, or an estimate, which knows nothing of idle.
        gross: idle power included.
    """

    above: Quantity
    gross: Quantity


def energy_of(model: Any, inputs: Mapping[str, Array], seconds: float) -> Joules:
    """Joules per inference, above idle and gross; each says itself where it is not known."""
    row = energy(model, inputs, seconds=seconds).main
    if row is None:
        why = "this machine has no counter, and no CPU time to estimate"
        return Joules(Quantity.unavailable("J", why), Quantity.unavailable("J", why))
    return Joules(row.above_idle, row.gross)
