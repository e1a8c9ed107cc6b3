"""Rules about how weights are stored."""

from __future__ import annotations

from coreml_lab.explain.facts import Facts
from coreml_lab.explain.suggestion import Suggestion, rule
from coreml_lab.explain.units import show
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Action, OpInfo

# Below this there is little to save: the description of a program is about as large.
SMALLEST = 64 * 1024
# coremltools leaves arrays of fewer elements as they are (its weight_threshold).
THRESHOLD = 2048
BYTES = {"fp32": 4, "fp16": 2}
NAMED = 3


@rule
def int8_weights(facts: Facts) -> Suggestion | None:
    """Store large float weights as 8-bit integers with one scale per channel."""
    width = BYTES.get(facts.program.precision, 0)
    if not width or any(op.op.startswith("constexpr_") for op in facts.program.ops):
        return None
    large = [op for op in facts.program.ops if op.weight_bytes >= THRESHOLD * width]
    total = sum(op.weight_bytes for op in large)
    if total < SMALLEST:
        return None
    saved = total * (width - 1) // width
    note = f"one byte instead of {width} per weight; scales are not counted"
    return Suggestion(
        rule="int8_weights",
        title="Store the weights as int8",
        why="Weights are read from storage and memory at every load; 8-bit integers with one "
        f"scale per output channel take 1 of every {width} bytes, and networks usually bear the "
        "rounding.",
        evidence=_evidence(facts, large, total),
        gain=Quantity(saved, "By", Provenance.ESTIMATED, note=note),
        action=Action("int8_weights", {"weight_threshold": THRESHOLD}),
    )


def _evidence(facts: Facts, large: list[OpInfo], total: int) -> tuple[str, ...]:
    size = Quantity(total, "By", Provenance.MEASURED)
    count = f"{len(large)} of {len(facts.program.ops)} operations hold {show(size)}"
    biggest = sorted(large, key=lambda op: -op.weight_bytes)[:NAMED]
    named = (
        f"{op.name} ({op.op}) {show(Quantity(op.weight_bytes, 'By', Provenance.MEASURED))}"
        for op in biggest
    )
    held = (
        f"{count} of {facts.program.precision} weights in arrays of {THRESHOLD} elements or more."
    )
    return held, f"The largest: {', '.join(named)}."
