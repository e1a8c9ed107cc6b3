"""Bits per layer: each layer's sensitivity measured once, then the best choice.

Best is the smallest file for a loss (which ``optimize`` tries), or the least loss in a file of a
size (``mixed_bits``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coreml_lab.errors import InputError, LabError
from coreml_lab.improve.actions import size
from coreml_lab.improve.editing import Edit
from coreml_lab.improve.optimizing.allocation import Choice, Key, allocate
from coreml_lab.improve.optimizing.candidates import THRESHOLD, Candidate
from coreml_lab.improve.optimizing.sensitivity import WHOLE, Way, sensitivities
from coreml_lab.program.graph import Array
from coreml_lab.records import Action

BITS = (8, 6, 4)
HALVINGS = 12
# Losses of layers do not quite add up as squares: what is aimed at is a little less.
CAUTION = 0.9
# How often what a written file takes beyond the budget is taken off it.
TRIES = 4

# The operations that hold the same weights, mostly a single one, and their choices.
Layers = Mapping[tuple[str, ...], Mapping[str, Choice]]


def mixed_bits(
    model: Any,
    data: Mapping[str, Array] | Sequence[Mapping[str, Array]],
    budget: float,
    *,
    weight_threshold: int = THRESHOLD,
) -> Edit:
    """Store weights as tables of 8, 6 or 4 bits, or whole: the least loss in a file of a size.

    Each layer's loss, a relative L2 error of the outputs, is measured once for each choice. Losses
    are taken to be independent, and bits are allotted by dynamic programming (see ``allocate``).

    Args:
        model: a loaded model, or the path of one; its file is not touched.
        data: inputs (name -> array), or several: losses are measured on them.
        budget: bytes that the file may take; up to 1, a share of the original's.
        weight_threshold: arrays of fewer elements stay as they are.

    Returns:
        An edit of one step, or of none where the original is small enough.

    Raises:
        InputError: without data or weights, or where even 4 bits for every layer take more.
    """
    edit = Edit.of(model)
    samples = (data,) if isinstance(data, Mapping) else tuple(data)
    if not samples:
        raise InputError("mixed_bits needs data to measure losses on", hint="data={name: array}")
    if not budget > 0:
        raise InputError(f"budget={budget}", hint="bytes of the file, or a share of it up to 1")
    whole = size(edit.package)
    room = int(budget * whole if budget <= 1 else budget)
    if room >= whole:
        return edit
    loaded = model if hasattr(model, "feeds") else edit.model
    layers = measured(edit, [loaded.feeds(each) for each in samples], weight_threshold)
    if not layers:
        raise InputError(
            f"{edit.name} has no weights of {weight_threshold} elements or more to store smaller",
            hint="lower weight_threshold",
        )
    return _within(edit, layers, room, whole, weight_threshold)


def _within(edit: Edit, layers: Layers, room: int, whole: int, threshold: int) -> Edit:
    """An edit whose file fits, as its size is once it is written: tables take some bytes, too."""
    left = room - whole + sum(max(c.bytes for c in row.values()) for row in layers.values())
    for _ in range(TRIES):
        try:
            found = allocate(layers, left)
        except LabError:
            break
        made = _made(edit, found, threshold)
        beyond = size(made.package) - room
        if beyond <= 0:
            return made
        left -= beyond
    least = {name: min(row, key=lambda way: row[way].bytes) for name, row in layers.items()}
    made = _made(edit, least, threshold)
    if (taken := size(made.package)) <= room:
        return made
    raise InputError(
        f"{edit.name}: the smallest choice takes {taken} bytes, the budget is {room}",
        hint=f"allow more, or lower weight_threshold={threshold}",
    )


def _made(edit: Edit, found: Mapping[tuple[str, ...], str], threshold: int) -> Edit:
    action = _action(found, threshold)
    return edit.copy().apply(action.name, **action.arguments)


def measured(edit: Edit, data: Sequence[Mapping[str, Array]], threshold: int) -> Layers:
    """What each layer of the original loses with tables of 8, 6 and 4 bits.

    Weights that several operations share are one layer: a file holds them once.
    """
    ways = {}
    for bits in BITS:
        small = edit.copy().apply(
            "palettize_weights", nbits=bits, mode="uniform", weight_threshold=threshold
        )
        ways[str(bits)] = (small, Way(small.file, bits))
    program = edit.model.program
    found = sensitivities(program, {name: way for name, (_, way) in ways.items()}, data)
    return {(layer.name, *layer.tied): layer.choices for layer in found}


def candidate(layers: Layers, loss: float, threshold: int) -> Candidate | None:
    """The smallest choice of bits that is predicted to lose less; None where there is none."""
    found = smallest(layers, CAUTION * loss)
    if found is None:
        return None
    counted = {b: sum(way == str(b) for way in found.values()) for b in BITS}
    told = ", ".join(f"{n} of {b} bits" for b, n in counted.items() if n)
    whole = sum(way == WHOLE for way in found.values())
    told += f", {whole} whole" if whole else ""
    why = f"Measured layer by layer: {told}."
    title = f"tables of mixed bits for a loss of {loss:g}"
    return Candidate("weights", title, why, (_action(found, threshold),))


def _action(found: Mapping[tuple[str, ...], str], threshold: int) -> Action:
    bits = {name: way for names, way in found.items() for name in names}
    own = {name: None if way == WHOLE else {"nbits": int(way)} for name, way in bits.items()}
    given = {"nbits": 8, "mode": "uniform", "weight_threshold": threshold, "by_name": own}
    return Action("palettize_weights", given)


def smallest(layers: Mapping[Key, Mapping[str, Choice]], loss: float) -> dict[Key, str] | None:
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


def predicted(layers: Mapping[Key, Mapping[str, Choice]], found: Mapping[Key, str]) -> float:
    """The loss of all choices together, as if they were independent."""
    return math.sqrt(sum(layers[name][way].loss ** 2 for name, way in found.items()))
