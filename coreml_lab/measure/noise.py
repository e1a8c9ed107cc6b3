"""Whether the machine was quiet while something was measured: two readings, judged. Pure."""

from __future__ import annotations

import math
from statistics import median

from coreml_lab.circumstances import Condition
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes.disturbance import Reading

# From these on, times are disturbed by more than the intervals here are meant to tell apart.
OTHERS, STOLEN, WAITED, CHANGED = 0.05, 0.01, 0.02, 0.05
# CPU times are counted in steps of 10 ms on Linux: less than this cannot be read from them.
SHORTEST = 0.2
HEAT = ("nominal", "unknown")


def conditions(before: Reading, after: Reading) -> tuple[Condition, ...]:
    """What the machine did between two readings; what it does not tell is unavailable."""
    seconds = (after.t_ns - before.t_ns) / 1e9
    return (
        _others(before, after, seconds),
        _stolen(before, after, seconds),
        _waited(before, after),
        _limited(before, after),
        _frequency(before, after),
        _throttled(before, after),
        _swapped(before, after),
        *_words(after),
    )


def measured(value: float, unit: str, note: str = "") -> Quantity:
    """A quantity that was read; NaN is unavailable."""
    if math.isnan(value):
        return Quantity.unavailable(unit, "this system does not tell")
    return Quantity(value, unit, Provenance.MEASURED, note=note)


def _others(before: Reading, after: Reading, seconds: float) -> Condition:
    name = "work of other programs"
    if seconds < SHORTEST:
        return Condition(name, Quantity.unavailable("{core}", "the runs were too short to tell"))
    used = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    value = used / seconds if math.isnan(used) else max(0.0, used / seconds)
    note = f"of {after.cores} cores; this process and its children are not counted"
    noisy = value > OTHERS * after.cores
    return Condition(name, measured(value, "{core}", note), noisy)


def _stolen(before: Reading, after: Reading, seconds: float) -> Condition:
    name = "taken by the hypervisor"
    if seconds < SHORTEST:
        return Condition(name, Quantity.unavailable("1", "the runs were too short to tell"))
    share = (after.steal_s - before.steal_s) / (seconds * after.cores)
    return Condition(name, measured(share, "1", "of all cores' time"), share > STOLEN)


def _waited(before: Reading, after: Reading) -> Condition:
    # Threads that end in between take their numbers with them.
    waited, ran = max(0.0, after.waited_s - before.waited_s), after.ran_s - before.ran_s
    share = waited / ran if ran > 0 else math.nan
    note = "time that this process's threads were ready and had no core, to the time they ran"
    return Condition("waiting for a core", measured(share, "1", note), share > WAITED)


def _limited(before: Reading, after: Reading) -> Condition:
    spent = after.limited_s - before.limited_s
    return Condition("held back by the container's CPU limit", measured(spent, "s"), spent > 0)


def _frequency(before: Reading, after: Reading) -> Condition:
    name = "change of the cores' frequency"
    if not before.hertz or not after.hertz:
        return Condition(name, measured(math.nan, "1"))
    first, last = median(before.hertz), median(after.hertz)
    change = last / first - 1 if first else math.nan
    note = f"median of the cores, {first / 1e9:.2f} GHz before, {last / 1e9:.2f} GHz after"
    return Condition(name, measured(change, "1", note), abs(change) > CHANGED)


def _throttled(before: Reading, after: Reading) -> Condition:
    times = after.throttled - before.throttled
    return Condition("slowed down because of heat", measured(times, "{time}"), times > 0)


def _swapped(before: Reading, after: Reading) -> Condition:
    moved = after.swapped - before.swapped
    return Condition("moved to and from swap", measured(moved, "By"), moved > 0)


def _words(after: Reading) -> tuple[Condition, ...]:
    """What is no number: only where it disturbs."""
    found = []
    if after.heat not in HEAT:
        told = measured(1.0, "{value}", f"the system calls its heat {after.heat}")
        found.append(Condition("heat", told, noisy=True))
    if after.power == "battery":
        told = measured(1.0, "{value}", "it runs on its battery, which may slow it down")
        found.append(Condition("battery", told, noisy=True))
    return tuple(found)
