"""The shortest way through a row of operations: which device runs which stretch. Pure.

The planner of Core ML on an M4 was found to weigh so: every operation costs what it is estimated
to take on its device; every stretch on the Neural Engine costs a launch, every change of device a
switch, and a program that ends on the Neural Engine its output (source 751K: 440 of 482 programs
placed alike, 41 ties, 1 otherwise; docs/placement.md).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coreml_lab.explain.placing.tables import DEVICES

Costs = Mapping[str, float]
# Sums in another order differ by as much.
TIE = 1e-12


@dataclass(frozen=True)
class Fixed:
    """What stretches cost besides their operations, in seconds.

    Attributes:
        launch: to begin a stretch on a device.
        output: to end the program there.
        switch: to change devices.
    """

    launch: Mapping[str, float] = field(default_factory=dict)
    output: Mapping[str, float] = field(default_factory=dict)
    switch: float = 0.0

    def begin(self, device: str) -> float:
        """What the first operation's device costs."""
        return self.launch.get(device, 0.0)

    def enter(self, before: str, device: str) -> float:
        """What going on from one device to another costs."""
        return 0.0 if before == device else self.switch + self.launch.get(device, 0.0)


@dataclass(frozen=True)
class Route:
    """The cheapest devices, one per operation, and what they cost in seconds."""

    devices: tuple[str, ...]
    seconds: float

    @property
    def stretches(self) -> tuple[tuple[str, int, int], ...]:
        """(device, first operation, one behind the last) of each stretch."""
        cuts = [i for i in range(1, len(self.devices)) if self.devices[i] != self.devices[i - 1]]
        ends = [*cuts, len(self.devices)]
        return tuple(
            (self.devices[first], first, end)
            for first, end in zip([0, *cuts], ends, strict=True)
            if end > first
        )

    @property
    def transitions(self) -> int:
        """How often the device changes."""
        return _changes(self.devices)


class Map:
    """Every cheapest way to and from each operation: the route, and what changing one gains."""

    def __init__(self, costs: Sequence[Costs], fixed: Fixed) -> None:
        self._costs, self._fixed = costs, fixed
        self._to, self._from_ = self._forward()

    @property
    def route(self) -> Route:
        """The cheapest route; ties go to the one with fewer changes, then to the CPU."""
        if not self._costs:
            return Route((), 0.0)
        final = {d: c + self._fixed.output.get(d, 0.0) for d, c in self._to[-1].items()}
        least = min(final.values())
        tied = [self._back(d) for d in _ordered(final) if final[d] <= least + TIE]
        return Route(min(tied, key=_changes), least)

    def _back(self, device: str) -> tuple[str, ...]:
        """The cheapest way that ends on a device."""
        devices = [device]
        for came in reversed(self._from_[1:]):
            devices.append(came[devices[-1]])
        return tuple(reversed(devices))

    def with_op(self, index: int, device: str, seconds: float) -> float:
        """The cheapest route's cost if operation ``index`` could run on ``device``, too."""
        if index == 0:
            arrived = self._fixed.begin(device)
        else:
            arrived = min(
                (cost + self._fixed.enter(before, device))
                for before, cost in self._to[index - 1].items()
            )
        through = arrived + seconds + self._leaving(index, device)
        return min(self.route_seconds, through)

    @property
    def route_seconds(self) -> float:
        """What the cheapest route costs."""
        if not self._costs:
            return 0.0
        return min(c + self._fixed.output.get(d, 0.0) for d, c in self._to[-1].items())

    def _forward(self) -> tuple[list[dict[str, float]], list[dict[str, str]]]:
        """Per operation and device: the cheapest cost up to there, and where it came from."""
        to: list[dict[str, float]] = []
        came: list[dict[str, str]] = []
        for costs in self._costs:
            here: dict[str, float] = {}
            before: dict[str, str] = {}
            for device, own in costs.items():
                if not to:
                    here[device] = self._fixed.begin(device) + own
                    continue
                best, cost = self._cheapest(to[-1], device)
                here[device], before[device] = cost + own, best
            to.append(here)
            came.append(before)
        return to, came

    def _cheapest(self, reached: Mapping[str, float], device: str) -> tuple[str, float]:
        """Where to come from; ties go to the device itself."""
        best, cost = device, reached.get(device, math.inf)
        for before in _ordered(reached):
            total = reached[before] + self._fixed.enter(before, device)
            if total < cost:
                best, cost = before, total
        return best, cost

    @functools.cached_property
    def _rest(self) -> list[dict[str, float]]:
        """Per operation and device: the cheapest cost of everything after it."""
        rest: list[dict[str, float]] = [{} for _ in self._costs]
        for i in range(len(self._costs) - 1, -1, -1):
            rest[i] = {d: self._after(i, d, rest) for d in self._costs[i]}
        return rest

    def _leaving(self, index: int, device: str) -> float:
        return self._after(index, device, self._rest)

    def _after(self, index: int, device: str, rest: Sequence[Mapping[str, float]]) -> float:
        if index == len(self._costs) - 1:
            return self._fixed.output.get(device, 0.0)
        return min(
            self._fixed.enter(device, following) + own + rest[index + 1][following]
            for following, own in self._costs[index + 1].items()
        )


def _changes(devices: Sequence[str]) -> int:
    return sum(a != b for a, b in itertools.pairwise(devices))


def _ordered(devices: Mapping[str, float]) -> list[str]:
    """Devices in the order in which ties are decided."""
    return sorted(devices, key=lambda d: DEVICES.index(d) if d in DEVICES else len(DEVICES))


def shortest(costs: Sequence[Costs], fixed: Fixed) -> Route:
    """The cheapest route.

    Args:
        costs: per operation, device -> seconds; a device that cannot run it is left out.
        fixed: what stretches and changes cost.
    """
    return Map(costs, fixed).route
