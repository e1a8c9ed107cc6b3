"""A place: an engine on a device, as a plan sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coreml_lab.run.split.costs import Speed, speed

GPUS = frozenset({"cuda", "metal", "opencl"})


@dataclass(frozen=True)
class Place:
    """An engine on a device.

    Attributes:
        lacks: operations that cannot run there, and why.
        handicap: how much more than elsewhere a second of work counts.
    """

    engine: str
    device: str
    lacks: Mapping[str, str] = field(default_factory=dict, hash=False)
    handicap: float = 1.0

    @property
    def speed(self) -> Speed:
        """The rule of thumb for it."""
        return speed(self.engine, self.device)

    @property
    def gpu(self) -> bool:
        """Whether it is a device of its own, to which little work is not sent."""
        return self.device.partition(":")[0] in GPUS

    def __str__(self) -> str:
        return f"{self.engine} ({self.device})"
