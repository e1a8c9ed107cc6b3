"""What a plan aims at: ``strategy("performance" | "battery" | "balanced" | Strategy(…))``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real

from coreml_lab import config
from coreml_lab.errors import UnknownParameter


@dataclass(frozen=True)
class Strategy:
    """Thresholds by which a program is split over engines.

    Attributes:
        name: what it is called.
        energy: how much energy counts: 0 is time alone, 1 is joules (seconds times watts).
        energy_on_battery: the same while the machine runs on its battery, where that is more.
        smallest: a segment goes to a GPU from this many results (numbers) on.
        memory: the share of a device's free memory that weights and arrays may take.
        pressure: from this memory pressure on, that share is halved.
        gain: a split must be this many times better than the best engine alone.
    """

    name: str = "custom"
    energy: float = 0.0
    energy_on_battery: float = 0.0
    smallest: int = 0
    memory: float = 0.8
    pressure: float = 0.2
    gain: float = 1.1

    def __post_init__(self) -> None:
        numbers: dict[str, object] = dict(vars(self))
        name = numbers.pop("name")
        if not isinstance(name, str) or not name:
            raise UnknownParameter(
                f"Strategy(name={name!r}): a name is a text", hint="cl.Strategy('mine')"
            )
        for name, value in numbers.items():
            if not isinstance(value, Real) or not math.isfinite(value):
                raise UnknownParameter(
                    f"Strategy({name}={value!r}): it is no finite number",
                    hint="cl.Strategy('mine', energy=0.5, smallest=10_000)",
                )
        negative = [k for k, v in vars(self).items() if not isinstance(v, str) and v < 0]
        if negative or not 0 < self.memory <= 1 or self.gain < 1:
            raise UnknownParameter(
                f"{self!r}: nothing is negative, memory is a share up to 1, gain is at least 1",
                hint="cl.Strategy('mine', energy=0.5, smallest=10_000)",
            )

    def __str__(self) -> str:
        aim = "time alone" if not self.energy else f"time, and energy by {self.energy:g}"
        if self.energy_on_battery > self.energy:
            aim += f" ({self.energy_on_battery:g} on battery)"
        return (
            f"{self.name}: {aim}; GPUs from {self.smallest} results on; "
            f"up to {self.memory:.0%} of free memory, half of it from a pressure of "
            f"{self.pressure:g} on; a split must be {self.gain:g} times better than one engine"
        )


PERFORMANCE = Strategy("performance", gain=1.02, memory=0.9)
BALANCED = Strategy("balanced", energy=0.25, energy_on_battery=1.0, smallest=4096)
BATTERY = Strategy("battery", energy=1.0, energy_on_battery=1.0, smallest=65536)
# By name; a custom one joins them when it is set. What is in force is kept in the settings.
STRATEGIES: dict[str, Strategy] = {s.name: s for s in (PERFORMANCE, BATTERY, BALANCED)}
BUILT_IN = frozenset(STRATEGIES)


@dataclass(frozen=True)
class Conditions:
    """The machine at this moment, as plain data; what is not known says so.

    Attributes:
        power: ``mains``, ``battery`` or ``unknown``.
        thermal: ``nominal``, ``serious`` (slowed down by heat), ``critical`` or ``unknown``.
        pressure: the share of time that work waits for memory; 0 where it is not known.
        free: free bytes by device, for those that tell.
        homes: devices that work in the memory of another one, and that one.
    """

    power: str = "unknown"
    thermal: str = "unknown"
    pressure: float = 0.0
    free: Mapping[str, int] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)


def current() -> Strategy:
    """The strategy in force.

    Raises:
        UnknownParameter: where the settings name one that there is not.
    """
    return found(config.current().strategy)


def found(aim: object) -> Strategy:
    """The strategy of a name, or the given one; nothing is set.

    Raises:
        UnknownParameter: for a name that there is not, for what is neither a name nor a
            ``Strategy``, or for a ``Strategy`` under a built-in name.
    """
    if isinstance(aim, Strategy):
        if aim.name in BUILT_IN and aim != STRATEGIES[aim.name]:
            raise UnknownParameter(
                f"{aim.name!r} is a built-in strategy", hint="give yours another name"
            )
        return aim
    if not isinstance(aim, str) or aim not in STRATEGIES:
        raise UnknownParameter(
            f"there is no strategy {aim!r}", hint="one of " + ", ".join(STRATEGIES)
        )
    return STRATEGIES[aim]


class strategy(contextlib.AbstractContextManager[Strategy]):  # noqa: N801 - reads as a verb: cl.strategy("battery")
    """Set what plans aim at, from now on or inside a ``with`` block; without an argument, show it.

    It is asked where a program is split over engines: with ``engine="hybrid"``, and where the
    first engine refuses some of its operations. A block is that of ``cl.configure``: it holds for
    the thread or ``asyncio`` task that is in it.

    Args:
        aim: ``performance`` (time alone), ``battery`` (joules), ``balanced`` (both; joules while on
            battery), or a ``cl.Strategy`` with thresholds of your own.

    Raises:
        UnknownParameter: for a name that there is not, or a ``Strategy`` under a built-in name.
    """

    def __init__(self, aim: str | Strategy | None = None) -> None:
        self.value = current() if aim is None else found(aim)
        self._change: config.configure | None = None
        name = self.value.name
        self._former = STRATEGIES.get(name)
        if aim is not None:
            STRATEGIES[name] = self.value
            self._change = config.configure(strategy=name if name in BUILT_IN else self.value)

    def __enter__(self) -> Strategy:
        if self._change is None:
            return self.value
        self._change.__enter__()
        if self._former is not None and STRATEGIES[self.value.name] is self.value:
            # What a block says holds in it alone: the name means again what it meant before.
            STRATEGIES[self.value.name] = self._former
        return self.value

    def __exit__(self, *error: object) -> None:
        if self._change is not None:
            self._change.__exit__(*error)

    def __repr__(self) -> str:
        return str(self.value)
