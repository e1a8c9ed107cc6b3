"""What an estimate of a program's placement says, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coreml_lab.explain.placing.reasons import Reason
from coreml_lab.explain.placing.tables import Chip
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Placement

ESTIMATED = Provenance.ESTIMATED


@dataclass(frozen=True)
class OpPlacement:
    """One operation: where it would run, where it could, and why not on the Neural Engine.

    Attributes:
        device: ``cpu``, ``gpu`` or ``ne``; "" for one that is done before the program runs.
        supported: every device that could run it, whatever the allowed compute units.
        reasons: what bars it from the Neural Engine; empty where nothing does.
        risks: what kept such operations from it, or slow on it, in some cases.
        time: estimated seconds on its device.
        weight: its share of what the planner is estimated to expect of all operations, 0 to 1.
        gain: seconds less per inference if its reasons were gone and nothing else changed.
    """

    node: str
    op: str
    where: str
    device: str
    supported: tuple[str, ...]
    reasons: tuple[Reason, ...]
    risks: tuple[Reason, ...]
    time: Quantity
    weight: float
    gain: Quantity


@dataclass(frozen=True)
class Stretch:
    """Operations that follow one another on one device; ``overhead`` is what it costs besides."""

    device: str
    nodes: tuple[str, ...]
    time: Quantity
    overhead: Quantity


@dataclass(frozen=True)
class Transition:
    """A change of device, before the operation ``node``."""

    node: str
    before: str
    after: str
    cost: Quantity


@dataclass(frozen=True)
class Change:
    """What would be gained if one reason were gone from all operations that have it.

    Attributes:
        kind: the reason's kind.
        what: the type of operation, or "program" for a reason that is the whole program's.
        nodes: the operations that it keeps from the Neural Engine, and nothing else does.
        gain: seconds less per inference, estimated; 0 where the planner would still not go there.
        transitions: how many there would be then.
        share: the share of operations on the Neural Engine then.
    """

    kind: str
    what: str
    nodes: tuple[str, ...]
    remedy: str
    confidence: str
    gain: Quantity
    transitions: int
    share: float


@dataclass(frozen=True)
class Estimated:
    """Everything that is estimated of a program on a chip."""

    program: str
    precision: str
    chip: Chip
    compute_units: str
    ops: tuple[OpPlacement, ...]
    stretches: tuple[Stretch, ...]
    transitions: tuple[Transition, ...]
    time: Quantity
    energy: Quantity
    planned: Quantity
    busy: Mapping[str, float]
    changes: tuple[Change, ...]
    risks: tuple[Reason, ...] = ()
    flexible: str = ""
    assumed: Mapping[str, int] = field(default_factory=dict)

    @property
    def placed(self) -> tuple[OpPlacement, ...]:
        """The operations that run: all but the folded."""
        return tuple(op for op in self.ops if op.device)

    def share(self, device: str) -> float:
        """The share of operations on a device, 0 to 1."""
        placed = self.placed
        return sum(op.device == device for op in placed) / len(placed) if placed else 0.0

    @property
    def overhead(self) -> Quantity:
        """Time between operations: submitting, waiting, changing devices."""
        seconds = sum(t.cost.value for t in self.transitions)
        seconds += sum(s.overhead.value for s in self.stretches)
        return Quantity(seconds, "s", ESTIMATED)

    def placements(self) -> tuple[Placement, ...]:
        """The same as rows of a plan, as Core ML's own has them."""
        return tuple(
            Placement(op.node, op.op, op.device, op.supported, op.weight) for op in self.placed
        )
