"""The strategy as the machine's conditions change it, and the sentences about that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreml_lab.run.split.places import Place
from coreml_lab.run.split.strategy import Conditions, Strategy

# How much energy counts, at least, while heat slows the machine down.
HEAT = {"serious": 1.0, "critical": 2.0}


@dataclass(frozen=True)
class Memory:
    """What a device may take in all, and the places that take of it."""

    device: str
    limit: float
    places: tuple[int, ...]


@dataclass(frozen=True)
class Aim:
    """What a plan goes by.

    Attributes:
        limits: bytes that may be taken, by device; ``homes``: devices in another one's memory.
        notes: what decides how much energy counts; ``pressed``: why the limits are halved.
    """

    strategy: Strategy
    energy: float
    limits: Mapping[str, float]
    homes: Mapping[str, str]
    notes: tuple[str, ...] = ()
    pressed: str = ""

    @staticmethod
    def of(strategy: Strategy, now: Conditions) -> Aim:
        """The aim at this moment."""
        energy, share, note, pressed = strategy.energy, strategy.memory, "", ""
        if now.power == "battery" and strategy.energy_on_battery > energy:
            energy = strategy.energy_on_battery
            note = f"energy counts by {energy:g}: the machine runs on its battery"
        if HEAT.get(now.thermal, 0.0) > energy:
            energy = HEAT[now.thermal]
            note = f"energy counts by {energy:g}: heat slows the machine ({now.thermal})"
        if now.free and now.pressure >= strategy.pressure:
            share /= 2
            pressed = f"memory is short (pressure {now.pressure:.2g}): half as much of it is used"
        limits = {device: share * free for device, free in now.free.items()}
        return Aim(strategy, energy, limits, now.homes, (note,) if note else (), pressed)

    def weight(self, place: Place) -> float:
        """What a second is worth there."""
        return float(place.speed.watts**self.energy)

    def memories(self, places: Sequence[Place]) -> tuple[Memory, ...]:
        """The memories that have a limit; a device in another one's memory takes of both."""
        found = []
        for device, limit in self.limits.items():
            inside = tuple(
                i for i, p in enumerate(places) if device in (p.device, self.homes.get(p.device))
            )
            found.append(Memory(device, limit, inside))
        return tuple(m for m in found if m.places)
