"""Rules about how weights are stored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreml_lab.explain.suggestion import GPU, HIGH, NE, SIZE, Seen, Suggestion, rule
from coreml_lab.explain.units import show
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program.graph import Node
from coreml_lab.records import Action, OpInfo

# Below this there is little to save: the description of a program is about as large.
SMALLEST = 64 * 1024
# coremltools leaves arrays of fewer elements as they are (its weight_threshold).
THRESHOLD = 2048
# From here on tables of 6 bits are worth their loss, and reading weights is what layers wait for.
LARGE = 5_000_000
# The largest weights that one program may have on the Neural Engine: of a phone, of a Mac.
PHONE, MAC = 1_000_000_000, 2_000_000_000
BYTES = {"fp32": 4, "fp16": 2}
NAMED = 3
# Two arrays of fewer bytes are not worth a word.
WORTH = 4096


@rule
def int8_weights(seen: Seen) -> Suggestion | None:
    """Store large float weights as 8-bit integers with one scale per channel."""
    large, total = _large(seen)
    if total < SMALLEST:
        return None
    width = BYTES[seen.facts.program.precision]
    saved = total * (width - 1) // width
    note = f"one byte instead of {width} per weight; scales are not counted"
    return Suggestion(
        rule="int8_weights",
        title="Store the weights as int8",
        why="Weights are read from storage and memory at every load; 8-bit integers with one "
        f"scale per output channel take 1 of every {width} bytes, and networks usually bear the "
        "rounding.",
        evidence=_evidence(seen, large, total),
        gain=Quantity(saved, "By", Provenance.ESTIMATED, note=note),
        action=Action("int8_weights", {"weight_threshold": THRESHOLD}),
        nodes=tuple(op.name for op in large),
        serves=SIZE,
        sources=("CT-DOCS", "ANE-GUIDE"),
        risk="a little accuracy; the Neural Engine of M1 widens them to fp16 when it loads",
        since="iOS16",
    )


@rule
def tables_of_6_bits(seen: Seen) -> Suggestion | None:
    """Store large float weights as indices into tables of 64 values."""
    large, total = _large(seen)
    if total < LARGE:
        return None
    width = BYTES[seen.facts.program.precision]
    saved = int(total * (1 - 0.75 / width))
    return Suggestion(
        rule="tables_of_6_bits",
        title="Store the weights as tables of 6 bits",
        why="The Neural Engine reads tables directly: files get smaller, and layers that wait for "
        "their weights faster.",
        evidence=_evidence(seen, large, total),
        gain=Quantity(saved, "By", Provenance.ESTIMATED, note="6 bits for each weight"),
        action=Action(
            "palettize_weights", {"nbits": 6, "mode": "uniform", "weight_threshold": THRESHOLD}
        ),
        nodes=tuple(op.name for op in large),
        serves=SIZE,
        target=NE,
        sources=("CT-DOCS", "APPLE-COREAI"),
        risk="accuracy; k-means tables (mode='kmeans') lose less and take long to make",
        since="iOS16",
    )


@rule
def blocks_off_the_engine(seen: Seen) -> Suggestion | None:
    """Weights with a scale per block do not run well on the Neural Engine."""
    nodes = [n for n in _ops(seen) if n.op == "constexpr_blockwise_shift_scale" and _blocked(n)]
    if not nodes:
        return None
    return Suggestion(
        rule="blocks_off_the_engine",
        title="One scale per channel instead of per block",
        why="The Neural Engine leaves layers whose weights have a scale per block to the CPU, or "
        "gets them wrong.",
        evidence=(
            f"{len(nodes)} weights have several scales along their inputs: {_names(nodes)}.",
        ),
        gain=Quantity.unavailable("s", "only a Mac can tell what such layers take there"),
        advice="store the original model's weights with granularity='per_channel', or as tables; "
        "blocks suit the GPU",
        nodes=tuple(n.name for n in nodes),
        target=NE,
        sources=("CADAMCAT", "COREAI-279"),
        verify="the Neural Engine's share of the plan, and results, on a Mac",
    )


@rule
def left_whole(seen: Seen) -> Suggestion | None:
    """Large weights that compression left as they were, among others that it did not."""
    stored = [n for n in _ops(seen) if n.op.startswith("constexpr_")]
    width = BYTES.get(seen.facts.program.precision, 0)
    whole = [
        op
        for op in seen.facts.program.ops
        if width and not op.op.startswith("constexpr_") and op.weight_bytes >= SMALLEST
    ]
    if not stored or not whole:
        return None
    total = sum(op.weight_bytes for op in whole)
    return Suggestion(
        rule="left_whole",
        title="Some weights were left as they were",
        why="Channels that a block or group size does not divide are passed over without a word.",
        evidence=(
            (
                f"{len(stored)} weights are stored small, {len(whole)} large ones are not: "
                f"{', '.join(f'{op.name} ({op.op})' for op in whole[:NAMED])}."
            ),
        ),
        gain=Quantity(total // 2, "By", Provenance.ESTIMATED, note="half of those left whole"),
        advice="compress the original once more with a block or group size that divides their "
        "channels, or with one scale per channel",
        nodes=tuple(op.name for op in whole),
        serves=SIZE,
        sources=("APPLE-COREAI", "CT-SRC"),
    )


@rule
def many_zeros(seen: Seen) -> Suggestion | None:
    """Weights of which most are zero anyway can be stored without them."""
    found = [(n, _zeros(n)) for n in _ops(seen) if not n.op.startswith("constexpr_")]
    sparse = [(n, zeros) for n, zeros in found if zeros > 0.5]  # noqa: PLR2004 - where a mask pays
    if not sparse:
        return None
    width = BYTES.get(seen.facts.program.precision, 4)
    saved = sum(int(_weight(n).size * (zeros * width - 1 / 8)) for n, zeros in sparse)
    return Suggestion(
        rule="many_zeros",
        title="Store only the weights that are not zero",
        why="A pruned network stored whole is as large as before: sparse storage keeps a bit for "
        "each weight, and the others.",
        evidence=tuple(f"{n.name} ({n.op}): {zeros:.0%} are zero." for n, zeros in sparse[:NAMED]),
        gain=Quantity(saved, "By", Provenance.ESTIMATED, note="zeros less a bit for each weight"),
        action=Action("prune_weights", {"threshold": 1e-12, "weight_threshold": THRESHOLD}),
        nodes=tuple(n.name for n, _ in sparse),
        serves=SIZE,
        sources=("CT-DOCS", "751K"),
        since="iOS16",
    )


@rule
def equal_weights(seen: Seen) -> Suggestion | None:
    """Equal arrays stored more than once."""
    kept: dict[tuple[object, ...], Node] = {}
    twice: list[tuple[Node, Node, int]] = []
    for node, array in _arrays(seen):
        if array.nbytes < WORTH:
            continue
        key = (array.shape, array.dtype.str, hash(array.tobytes()))
        first = kept.setdefault(key, node)
        if first is not node:
            twice.append((first, node, array.nbytes))
    if not twice:
        return None
    saved = sum(size for *_, size in twice)
    return Suggestion(
        rule="equal_weights",
        title="Store equal weights once",
        why="Layers may share an array in the file.",
        evidence=tuple(f"{b.name} holds what {a.name} holds." for a, b, _ in twice[:NAMED]),
        gain=Quantity(saved, "By", Provenance.ESTIMATED, note="each array once"),
        action=Action("clean"),
        nodes=tuple(b.name for _, b, _ in twice),
        serves=SIZE,
        sources=("CT-SRC",),
    )


@rule
def too_large_for_one_program(seen: Seen) -> Suggestion | None:
    """Weights beyond what one program may have on the Neural Engine."""
    size = seen.facts.program.size_bytes
    if size <= PHONE:
        return None
    where = "a phone's" if size <= MAC else "a Mac's or phone's"
    return Suggestion(
        rule="too_large_for_one_program",
        title="Split the model into several",
        why=f"One program of this size does not go to {where} Neural Engine.",
        evidence=(f"The file has {show(Quantity(size, 'By', Provenance.MEASURED))}.",),
        gain=Quantity.unavailable("s", "only a Mac or phone can tell"),
        advice="coremltools' bisect_model cuts it in two; or store the weights smaller first",
        target=NE,
        sources=("CT-DOCS", "ANEMLL", "APPLE-SD", "SMPANARO"),
        risk="every further program costs 0.1 to 0.3 ms per call",
    )


@rule
def int4_for_the_gpu(seen: Seen) -> Suggestion | None:
    """Large linear layers on a GPU: 4-bit weights with a scale per block."""
    width = BYTES.get(seen.facts.program.precision, 0)
    linear = [op for op in seen.facts.program.ops if op.op in {"linear", "matmul"}]
    total = sum(op.weight_bytes for op in linear)
    whole = sum(op.weight_bytes for op in seen.facts.program.ops) or 1
    if not width or total < 20 * LARGE or total / whole < 0.8:  # noqa: PLR2004 - most of them
        return None
    return Suggestion(
        rule="int4_for_the_gpu",
        title="Store the weights of linear layers as int4 by blocks",
        why="On a Mac's GPU, layers that only read their weights gain most from fewer bits.",
        evidence=(
            (
                f"{len(linear)} linear layers hold {total / whole:.0%} of the weights: "
                f"{show(Quantity(total, 'By', Provenance.MEASURED))}."
            ),
        ),
        gain=Quantity(
            int(total * (1 - 0.5 / width)), "By", Provenance.ESTIMATED, note="4 bits for each"
        ),
        action=Action(
            "quantize_weights",
            {"dtype": "int4", "granularity": "per_block", "block_size": 32},
        ),
        nodes=tuple(op.name for op in linear),
        serves=SIZE,
        target=GPU,
        sources=("CT-DOCS",),
        risk="not for the Neural Engine, which gets blocks wrong; accuracy",
        since="iOS18",
    )


def _large(seen: Seen) -> tuple[list[OpInfo], int]:
    """Operations with large weights, and their bytes; none where weights are small already."""
    program = seen.facts.program
    width = BYTES.get(program.precision, 0)
    if not width or any(op.op.startswith("constexpr_") for op in program.ops):
        return [], 0
    large = [op for op in program.ops if op.weight_bytes >= THRESHOLD * width]
    return large, sum(op.weight_bytes for op in large)


def _evidence(seen: Seen, large: list[OpInfo], total: int) -> tuple[str, ...]:
    program = seen.facts.program
    size = Quantity(total, "By", Provenance.MEASURED)
    count = f"{len(large)} of {len(program.ops)} operations hold {show(size)}"
    biggest = sorted(large, key=lambda op: -op.weight_bytes)[:NAMED]
    named = (
        f"{op.name} ({op.op}) {show(Quantity(op.weight_bytes, 'By', Provenance.MEASURED))}"
        for op in biggest
    )
    held = f"{count} of {program.precision} weights in arrays of {THRESHOLD} elements or more."
    return held, f"The largest: {', '.join(named)}."


def _ops(seen: Seen) -> tuple[Node, ...]:
    return seen.graph.ops if seen.graph is not None else ()


def _blocked(node: Node) -> bool:
    """Whether scales differ along the inputs of a weight (its second dimension)."""
    scale = node.attrs.get("scale")
    if scale is None and "scale" in node.inputs:
        scale = next((v.const for v in node.operands() if v is node.inputs["scale"]), None)
    return isinstance(scale, np.ndarray) and scale.ndim > 1 and scale.shape[1] > 1


def _arrays(seen: Seen) -> Iterator[tuple[Node, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    """Every float array, with the operation that holds it; what several read counts once."""
    known: set[int] = set()
    for node in _ops(seen):
        held = [v.const for v in node.operands() if v.const is not None]
        for array in (*held, *(a for a in node.attrs.values() if isinstance(a, np.ndarray))):
            if array.dtype.kind == "f" and id(array) not in known:
                known.add(id(array))
                yield node, array


def _weight(node: Node) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The largest float array that an operation holds; an empty one where it holds none."""
    held = [v.const for v in node.operands() if v.const is not None]
    held += [a for a in node.attrs.values() if isinstance(a, np.ndarray)]
    floats = [a for a in held if a.dtype.kind == "f" and a.size >= THRESHOLD]
    return max(floats, key=lambda a: a.size, default=np.zeros(0, np.float32))


def _zeros(node: Node) -> float:
    """The share of zeros among an operation's weights."""
    weight = _weight(node)
    return float(np.mean(weight == 0)) if weight.size else 0.0


def _names(nodes: list[Node]) -> str:
    rest = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    return ", ".join(n.name for n in nodes[:NAMED]) + rest


__all__ = [
    "HIGH",
    "blocks_off_the_engine",
    "equal_weights",
    "int4_for_the_gpu",
    "int8_weights",
    "left_whole",
    "many_zeros",
    "tables_of_6_bits",
    "too_large_for_one_program",
]
