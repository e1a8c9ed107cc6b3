"""The advisor: asks every rule what it would do. Pure; nothing is applied or measured here."""

from __future__ import annotations

import math
from types import ModuleType

from coreml_lab.explain.rules import calls, engine, interface, structure, weights
from coreml_lab.explain.suggestion import ANY, HIGH, MEDIUM, Rule, Seen, Suggestion

ROOMS: tuple[ModuleType, ...] = (weights, engine, structure, interface, calls)
CONFIDENCE = (HIGH, MEDIUM)
# What no file and no recording tells, in the words of docs/placement.md: it takes the hardware.
ON_THE_DEVICE = (
    "Not decided here, since it takes Apple hardware: which compute units are best (measure each "
    "of them on the device), how long Core ML compiles and loads, batch sizes of the Neural "
    "Engine, and its share of Core ML's own plan."
)


def _rules() -> tuple[Rule, ...]:
    """Every rule, in the order of rooms and lines."""
    found = []
    for room in ROOMS:
        found += [f for f in vars(room).values() if getattr(f, "__wrapped__", None) is not None]
    return tuple(found)


RULES: tuple[Rule, ...] = _rules()


def advise(
    seen: Seen,
    rules: tuple[Rule, ...] = RULES,
    *,
    goal: str | None = None,
    target: str | None = None,
) -> tuple[Suggestion, ...]:
    """What the rules suggest, the most certain and largest gains first.

    Args:
        seen: what they look at.
        rules: those that are asked.
        goal: only what serves it: size, memory, latency, energy or correctness.
        target: only what concerns these processors: ne, gpu; what concerns all of them stays.
    """
    found = [s for rule in rules for s in rule(seen)]
    if goal is not None:
        found = [s for s in found if _serves(s, goal)]
    if target is not None:
        found = [s for s in found if s.target in {ANY, target}]
    return tuple(sorted(found, key=_rank))


def _serves(suggestion: Suggestion, goal: str) -> bool:
    """Whether it serves a goal: smaller weights take less memory, less time less energy."""
    near = {"memory": "size", "energy": "latency"}
    return suggestion.serves in {goal, near.get(goal, goal)}


def _rank(suggestion: Suggestion) -> tuple[int, int, int, float]:
    sure = CONFIDENCE.index(suggestion.confidence) if suggestion.confidence in CONFIDENCE else 2
    gain = suggestion.gain.value
    # Bytes and seconds cannot be compared: what can be done by itself comes first.
    return (
        suggestion.action is None,
        sure,
        math.isnan(gain),
        -gain if math.isfinite(gain) else 0.0,
    )
