"""What to do when a run fails: error -> steps, as a table read by one loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from coreml_lab.errors import (
    DeviceLost,
    EngineCrashed,
    EngineError,
    LabError,
    NumericalError,
    OutOfMemory,
    StateLost,
    Timeout,
    UnsupportedOp,
)
from coreml_lab.run.engine import Loaded

Load = Callable[[], Loaded]


class Promotion(NamedTuple):
    """What loads a program with fp32 arithmetic, and on which engine, where that is another one."""

    load: Load
    engine: str = ""


class Alternative(NamedTuple):
    """An engine to fall back to.

    Attributes:
        name: what it is called.
        load: loads the program there.
        promote: loads it there with fp32 arithmetic.
        device: where that is; "" where it is found out then.
    """

    name: str
    load: Load
    promote: Promotion | None = None
    device: str = ""


@dataclass(frozen=True)
class Retry:
    """Try again, waiting ``delay_s`` before the first time and twice as long each further time."""

    times: int = 2
    delay_s: float = 0.05


@dataclass(frozen=True)
class Restart:
    """Load the program again where it was, and run it there."""


@dataclass(frozen=True)
class SplitBatch:
    """Halve the batch, run the halves, join the results; down to single items."""


@dataclass(frozen=True)
class Promote:
    """Compute in fp32 what overflowed in fp16."""


@dataclass(frozen=True)
class Fallback:
    """Run it on the next engine that has its ops: on this device, then a GPU, then the CPU."""


Step = Retry | Restart | SplitBatch | Promote | Fallback

# The first row whose error matches; its steps are taken in order until one of them works.
POLICY: tuple[tuple[type[LabError], tuple[Step, ...]], ...] = (
    (OutOfMemory, (SplitBatch(), Fallback())),
    (DeviceLost, (Retry(), Restart(), Fallback())),
    (EngineCrashed, (Restart(), Fallback())),
    # It took what its engine allows; nothing is tried where the time of the call is over.
    (Timeout, (Fallback(),)),
    # What a state held is nowhere any more.
    (StateLost, ()),
    (NumericalError, (Promote(),)),
    (UnsupportedOp, (Fallback(),)),
    (EngineError, (Fallback(),)),
)
# Errors that speak against the device itself, not against the program.
OF_THE_DEVICE = (DeviceLost, EngineCrashed, Timeout)


def steps(error: LabError) -> tuple[Step, ...]:
    """What to try after ``error``, in order; nothing where the fault is the caller's."""
    return next((actions for kind, actions in POLICY if isinstance(error, kind)), ())
