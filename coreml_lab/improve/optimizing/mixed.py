"""Bits per layer: each layer's sensitivity measured once, then the smallest file for a loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from coreml_lab.errors import LabError
from coreml_lab.improve.editing import Edit
from coreml_lab.improve.optimizing.allocation import Choice, allocate
from coreml_lab.improve.optimizing.candidates import Candidate
from coreml_lab.improve.optimizing.sensitivity import WHOLE, Way, sensitivities
from coreml_lab.program.graph import Array
from coreml_lab.records import Action

BITS = (8, 6, 4)
HALVINGS = 12
# Losses of layers do not quite add up as squares: what is aimed at is a little less.
CAUTION = 0.9

Layers = Mapping[str, Mapping[str, Choice]]


def measured(edit: Edit, data: Sequence[Mapping[str, Array]], threshold: int) -> Layers:
    """What each layer of the original loses with tables of 8, 6 and 4 bits."""
    ways = {}
    for bits in BITS:
        small = edit.copy().apply(
            "palettize_weights", nbits=bits, mode="uniform", weight_threshold=threshold
        )
        ways[str(bits)] = (small, Way(small.file, bits))
    program = edit.model.program
    found = sensitivities(program, {name: way for name, (_, way) in ways.items()}, data)
    return {layer.name: layer.choices for layer in found}


def candidate(layers: Layers, loss: float, threshold: int) -> Candidate | None:
    """The smallest choice of bits that is predicted to lose less; None where there is none."""
    found = smallest(layers, CAUTION * loss)
    if found is None:
        return None
    own = {name: None if way == WHOLE else {"nbits": int(way)} for name, way in found.items()}
    counted = {b: sum(way == str(b) for way in found.values()) for b in BITS}
    told = ", ".join(f"{n} of {b} bits" for b, n in counted.items() if n)
    whole = sum(way == WHOLE for way in found.values())
    told += f", {whole} whole" if whole else ""
    given = {"nbits": 8, "mode": "uniform", "weight_threshold": threshold, "by_name": own}
    why = f"Measured layer by layer: {told}."
    title = f"tables of mixed bits for a loss of {loss:g}"
    return Candidate("weights", title, why, (Action("palettize_weights", given),))


def smallest(layers: Layers, loss: float) -> dict[str, str] | None:
    """The choice of fewest bytes whose predicted loss is at most ``loss``, by halving budgets."""
    low = sum(min(c.bytes for c in choices.values()) for choices in layers.values())
    high = sum(max(c.bytes for c in choices.values()) for choices in layers.values())
    best = None
    for _ in range(HALVINGS):
        budget = (low + high) // 2
        try:
            found = allocate(layers, budget)
        except LabError:  # the rounding of sizes: a little more is needed
            low = budget + 1
            continue
        if predicted(layers, found) <= loss:
            best, high = found, budget
        else:
            low = budget + 1
    return best


def predicted(layers: Layers, found: Mapping[str, str]) -> float:
    """The loss of all choices together, as if they were independent."""
    return math.sqrt(sum(layers[name][way].loss ** 2 for name, way in found.items()))
