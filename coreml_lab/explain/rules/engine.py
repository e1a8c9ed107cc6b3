"""Rules about the Neural Engine: what keeps operations from it, by the estimate of a chip.

``explain/placing`` finds what bars an operation and what its end would gain; here it becomes
something to do. What only Apple hardware can decide is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

from coreml_lab.explain.placing.estimated import Change, Estimated, OpPlacement
from coreml_lab.explain.suggestion import (
    CORRECT,
    LATENCY,
    MEDIUM,
    NE,
    Seen,
    Suggestion,
    rule,
)
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Action

ON_A_MAC = "the Neural Engine's share of Core ML's own plan, and time, on a Mac"
NAMED = 3
# Fewer layers in int8 lose more by changing the type than they gain.
CHAIN = 3
PRODUCTS = frozenset({"conv", "linear", "matmul"})
# How the estimate words a last dimension that is filled up.
PADDED = "padded to"
# A call of the Neural Engine costs this much, whatever it does (751K, ANE-GUIDE).
CALL = 0.25e-3


@rule
def fp16(seen: Seen) -> Iterator[Suggestion]:
    """The Neural Engine computes in fp16 only."""
    for change in _changes(seen, "precision"):
        yield Suggestion(
            rule="fp16",
            title="Compute in fp16",
            why="The Neural Engine has no fp32: a program in fp32 stays on CPU and GPU. Weights "
            "take half the bytes, too.",
            evidence=(_barred(seen, change), _then(change)),
            gain=change.gain,
            action=Action("float16"),
            nodes=change.nodes,
            target=NE,
            confidence=change.confidence,
            sources=("CT-DOCS", "APPLE-COREAI", "ET-5718"),
            risk="values beyond 65504 overflow; cl.diff and debug=True find where",
            since="iOS15",
            verify=ON_A_MAC,
        )


@rule
def islands(seen: Seen) -> Suggestion | None:
    """Casts in the middle of an fp16 program, with fp32 between them."""
    program = seen.facts.program
    if program.precision != "fp16" or seen.graph is None:
        return None
    inside = [
        n
        for n in seen.graph.ops
        if n.type.dtype.name == "float32" and n.op != "cast" and not n.op.startswith("constexpr_")
    ]
    if not inside:
        return None
    return Suggestion(
        rule="islands",
        title="Remove the islands of fp32",
        why="Each island takes the program off the Neural Engine and back: two changes of device "
        "besides its own time.",
        evidence=(f"{len(inside)} operations compute in fp32: {_some([n.name for n in inside])}.",),
        gain=Quantity(0.125e-3 * 2, "s", Provenance.ESTIMATED, note="two changes, each 0.125 ms"),
        action=Action("float16"),
        nodes=tuple(n.name for n in inside),
        target=NE,
        sources=("SMPANARO", "APPLE-COREAI", "751K"),
        risk="they may be there because fp16 overflowed: compare results",
        verify=ON_A_MAC,
    )


@rule
def whole_numbers(seen: Seen) -> Iterator[Suggestion]:
    """Integers in the data's way run on the CPU."""
    for change in _changes(seen, "integers"):
        yield _obstacle(
            "whole_numbers",
            "Take arithmetic on integers out of the program",
            "Operations on int32 run on the CPU, and take the data off the Neural Engine.",
            seen=seen,
            change=change,
            sources=("751K", "ANEMLL"),
        )


@rule
def unsupported_operations(seen: Seen) -> Iterator[Suggestion]:
    """Operations that the Neural Engine does not have."""
    for change in (*_changes(seen, "operation"), *_changes(seen, "control flow")):
        yield _obstacle(
            "unsupported_operations",
            f"Replace {change.what}",
            f"{change.what} does not run on the Neural Engine.",
            seen=seen,
            change=change,
            sources=("751K", "ANEFORGE"),
        )


@rule
def operands_known_late(seen: Seen) -> Iterator[Suggestion]:
    """Indices and sizes that are only known when a program runs."""
    for change in _changes(seen, "run-time operand"):
        yield _obstacle(
            "operands_known_late",
            f"Give {change.what} constant operands",
            "Indices and sizes that it is given must be constant for the Neural Engine.",
            seen=seen,
            change=change,
            sources=("751K", "SMPANARO", "APPLE-COREAI"),
        )


@rule
def beyond_its_limits(seen: Seen) -> Iterator[Suggestion]:
    """Ranks, dimensions and kernels that are too large for the Neural Engine."""
    for kind in ("rank", "size", "kernel", "padding", "generation"):
        for change in _changes(seen, kind):
            yield _obstacle(
                "beyond_its_limits",
                f"Bring {change.what} within the Neural Engine's limits",
                f"Its {kind} is beyond what this chip's Neural Engine takes.",
                seen=seen,
                change=change,
                sources=("751K", "ANEFORGE", "APPLE-COREAI"),
            )


@rule
def short_last_dimension(seen: Seen) -> Suggestion | None:
    """A last dimension that is padded many times."""
    pairs = [(op, r.text) for op in _placed(seen) for r in op.risks if PADDED in r.text]
    if not pairs:
        return None
    found = list(dict.fromkeys(op for op, _ in pairs))
    text = pairs[0][1]
    return Suggestion(
        rule="short_last_dimension",
        title="Move a large dimension to the end",
        why="The Neural Engine stores rows of 64 bytes: a short last dimension is mostly padding.",
        evidence=(f"{len(found)} results, such as {found[0].node}: {text}.",),
        gain=Quantity.unavailable("s", "only a Mac can tell what the padding costs"),
        advice="write the network so that the last dimension is a multiple of 32",
        nodes=tuple(op.node for op in found),
        target=NE,
        sources=("APPLE-COREAI",),
        risk="the transpositions in between cost time, too",
        verify=ON_A_MAC,
    )


@rule
def int8_activations(seen: Seen) -> Suggestion | None:
    """Chains of convolutions on a Neural Engine whose products of int8 are faster than of fp16."""
    placed = seen.placed
    if placed is None or seen.graph is None or not placed.chip.facts["ne_int8_fast"].value:
        return None
    if any(n.op == "quantize" for n in seen.graph.ops):
        return None
    on_it = {op.node for op in placed.placed if op.device == "ne"}
    chain = [n for n in seen.graph.ops if n.name in on_it and n.op in PRODUCTS]
    if len(chain) < CHAIN:
        return None
    return Suggestion(
        rule="int8_activations",
        title="Compute in int8",
        why=f"The Neural Engine of {placed.chip.name} multiplies int8 faster than fp16; others saw "
        "0.5 to 0.7 of the time for networks of convolutions, and no gain for fewer than three.",
        evidence=(
            f"{len(chain)} layers with products would run there: {_some([n.name for n in chain])}.",
        ),
        gain=Quantity.unavailable("s", "only a Mac or phone can tell"),
        advice="cl.edit(model).apply('w8a8', data=samples) with some tens of real inputs",
        nodes=tuple(n.name for n in chain),
        target=NE,
        confidence=MEDIUM,
        sources=("CT-DOCS", "MADERIX", "CADAMCAT"),
        risk="accuracy; slower on GPUs, and where only a layer or two compute so",
        since="iOS17",
        verify=ON_A_MAC + "; the metric on real data",
    )


@rule
def few_segments(seen: Seen) -> Suggestion | None:
    """A program that goes back and forth between devices."""
    placed = seen.placed
    if placed is None or len(placed.transitions) <= 1:
        return None
    best = next((c for c in placed.changes if c.gain.value > 0), None)
    first = placed.transitions[0]
    evidence = [
        (
            f"On {placed.chip.name}, {len(placed.transitions)} changes of device are estimated; "
            f"the first is before {first.node}."
        )
    ]
    if best is not None:
        evidence.append(f"Most would be gained at {_some(list(best.nodes))}: {best.remedy}.")
    total = sum(t.cost.value for t in placed.transitions)
    return Suggestion(
        rule="few_segments",
        title="Keep the program on one device",
        why="Every change of device costs about 0.125 ms besides the work.",
        evidence=tuple(evidence),
        gain=Quantity(total, "s", Provenance.ESTIMATED, note="all changes of device"),
        advice="change what is in the way, the largest gain first: cl.placement(model) lists them",
        nodes=tuple(t.node for t in placed.transitions),
        target=NE,
        sources=("751K", "SMPANARO"),
        risk="the constants were measured on M4 only",
        verify=ON_A_MAC,
    )


@rule
def small_enough_for_the_cpu(seen: Seen) -> Suggestion | None:
    """A program whose work is less than a call of the Neural Engine costs."""
    placed = seen.placed
    if placed is None or not placed.placed or placed.time.value >= CALL:
        return None
    if placed.share("ne") == 0:
        return None
    return Suggestion(
        rule="small_enough_for_the_cpu",
        title="Run it on the CPU alone",
        why="A call of the Neural Engine costs 0.1 to 0.25 ms and some 1.6 mJ before any work.",
        evidence=(
            (
                f"On {placed.chip.name} all operations are estimated to take "
                f"{placed.time.value * 1e3:.2g} ms."
            ),
        ),
        gain=Quantity(CALL - placed.time.value, "s", Provenance.ESTIMATED, note="the call's cost"),
        advice="load it with compute_units='CPU_ONLY' and measure on the device",
        serves=LATENCY,
        target=NE,
        sources=("751K", "FLUID", "ANE-GUIDE"),
        verify="time with each of the compute units, on the device",
    )


@rule
def states_in_the_way(seen: Seen) -> Iterator[Suggestion]:
    """States whose shape keeps them off the Neural Engine."""
    for change in _changes(seen, "state"):
        yield _obstacle(
            "states_in_the_way",
            "Shape the states for the Neural Engine",
            "States run there for some shapes only.",
            seen=seen,
            change=change,
            sources=("SMPANARO",),
        )


@rule
def strides_of_outputs(seen: Seen) -> Suggestion | None:
    """Outputs whose rows are padded in memory, which host code must know."""
    if seen.placed is None or not seen.placed.share("ne"):
        return None
    odd = [
        port.name
        for port in seen.facts.program.outputs
        if port.kind == "tensor" and port.shape and isinstance(port.shape[-1], int)
        and port.shape[-1] % 32 and len(port.shape) > 1
    ]  # fmt: skip
    if not odd:
        return None
    return Suggestion(
        rule="strides_of_outputs",
        title="Read outputs by their strides",
        why="Results of the Neural Engine may come with rows padded to 64 bytes: code that takes "
        "them for dense reads scrambled values, and copying element by element is slow.",
        evidence=(f"The last dimension of {_some(odd)} is no multiple of 32.",),
        gain=Quantity.unavailable("s", "it is about the app's own code"),
        advice="in Swift, copy row by row with MLMultiArray.strides; or pad to a multiple of 32",
        serves=CORRECT,
        target=NE,
        confidence=MEDIUM,
        sources=("DAC-120", "FLUID-730"),
        verify="compare a strided read with what Python gives",
    )


def _placed(seen: Seen) -> tuple[OpPlacement, ...]:
    return seen.placed.placed if seen.placed is not None else ()


def _changes(seen: Seen, kind: str) -> Iterator[Change]:
    if seen.placed is not None:
        yield from (c for c in seen.placed.changes if c.kind == kind)


def _obstacle(
    name: str, title: str, why: str, *, seen: Seen, change: Change, sources: tuple[str, ...]
) -> Suggestion:
    return Suggestion(
        rule=name,
        title=title,
        why=why,
        evidence=(_barred(seen, change), _then(change)),
        gain=change.gain,
        advice=change.remedy or "nothing is known to help; keep it at an end of the program",
        nodes=change.nodes,
        target=NE,
        confidence=change.confidence,
        sources=sources,
        verify=ON_A_MAC,
    )


def _barred(seen: Seen, change: Change) -> str:
    placed: Estimated | None = seen.placed
    chip = placed.chip.name if placed is not None else "the chip"
    reason = next(
        (r.text for op in _placed(seen) if op.node in change.nodes for r in op.reasons), ""
    )
    return f"On {chip}, {len(change.nodes)} operations: {_some(list(change.nodes))}; {reason}."


def _then(change: Change) -> str:
    return (
        f"Without it {change.share:.0%} of the operations would be on the Neural Engine, with "
        f"{change.transitions} changes of device (estimated)."
    )


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest
