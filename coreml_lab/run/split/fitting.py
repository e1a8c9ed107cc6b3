"""The best way whose segments together stay within every memory.

A segment that fits alone may not fit beside the others. Bytes get a price there, so that what gains
least by them goes elsewhere; and what gains most is kept as it is, all else kept away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.run.split.aims import Memory
from coreml_lab.run.split.table import Cut, Table

ROUNDS = 4
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def fitted(table: Table) -> tuple[Cut, ...]:
    """The best of the ways that fit; where none does, the one that takes least above the limits."""
    ways = [table.best()]
    prices = np.zeros((len(table.places), len(table.weights)))
    for _ in range(ROUNDS):
        full = table.full(ways[-1])
        if not full:
            break
        barred, rise = np.zeros_like(prices), np.zeros_like(prices)
        for memory in full:
            keep, price = _kept(table, memory, _gains(table, memory, ways[-1]))
            away = table.penalty * (~keep & (table.weights > 0))
            for place in memory.places:
                barred[place] = np.maximum(barred[place], away)
                rise[place] += price * table.weights
        ways.append(table.best(barred))
        if not rise.any():
            break
        prices += rise
        ways.append(table.best(prices))
    return _unless_whole(table, min(ways, key=table.value))


def _gains(table: Table, memory: Memory, cuts: Sequence[Cut]) -> list[tuple[float, Cut]]:
    """What a byte of each segment in a memory gains against the best place outside, most first."""
    found = []
    for cut in cuts:
        start, end, place = cut
        if place in memory.places:
            values = table.values(start, end)
            outside = np.delete(values, list(memory.places)).min(initial=math.inf)
            held = float(table.weights[start:end].sum())
            found.append(((outside - values[place]) / max(1.0, held), cut))
    return sorted(found, reverse=True)


def _kept(table: Table, memory: Memory, gains: Sequence[tuple[float, Cut]]) -> tuple[Flags, float]:
    """Operations that stay in a memory, and the price of a byte at which the next ones leave."""
    keep, kept = np.zeros(len(table.weights), bool), list[Cut]()
    price = 0.0
    for gain, cut in gains:
        if table.taken(memory, [*kept, cut]) <= memory.limit:
            kept.append(cut)
            keep[cut[0] : cut[1]] = True
        elif not price and math.isfinite(gain):
            price = max(0.0, gain) * (1 + 1e-6)
    return keep, price


def _unless_whole(table: Table, cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """One place alone, unless the split is clearly better."""
    if len(cuts) < 2:  # noqa: PLR2004 - it is whole
        return cuts
    count = len(table.layout.nodes)
    whole = [((0, count, i),) for i in range(len(table.places))]
    (alone_over, alone), one = min((table.value(each), each) for each in whole)
    over, value = table.value(cuts)
    return one if alone_over <= over and alone <= value * table.aim.strategy.gain else cuts
