"""Rules about what a model takes and gives."""

from __future__ import annotations

import math
from collections.abc import Iterator

from coreml_lab.explain.suggestion import ANY, MEDIUM, NE, Seen, Suggestion, rule
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Action, PortInfo

# Outputs of fewer bytes are copied in no time.
LARGE = 1 << 20
MANY_SHAPES = 16


@rule
def one_shape(seen: Seen) -> Suggestion | None:
    """Ranges of sizes keep programs off the Neural Engine."""
    program = seen.facts.program
    ranged = [p for p in program.inputs if _flexible(p) and not p.enumerated]
    if not ranged:
        return None
    fixed = {p.name: list(_usual(p, program.dims)) for p in ranged}
    names = ", ".join(f"{p.name} {list(p.shape)}" for p in ranged)
    return Suggestion(
        rule="one_shape",
        title="Fix the shapes of inputs, or list a few",
        why="With a range of sizes Core ML plans nothing beforehand: others saw no operation on "
        "the Neural Engine away from the usual size, and 2 to 14 times the time.",
        evidence=(f"Sizes are ranges: {names}.",),
        gain=Quantity.unavailable("s", "only a Mac can tell"),
        action=Action("fixed_shapes", {"shapes": fixed}),
        advice="for several sizes: cl.edit(model).apply('enumerated_shapes', shapes=…), or one "
        "function per size",
        target=NE,
        sources=("CT-2370", "FLUID"),
        risk="inputs of other sizes have to be padded, or are refused",
        verify="time at each size, and the Neural Engine's share, on a Mac",
    )


@rule
def fewer_enumerated_shapes(seen: Seen) -> Suggestion | None:
    """Many enumerated shapes load slowly, and only one of them is fast."""
    many = [p for p in seen.facts.program.inputs if len(p.enumerated) > MANY_SHAPES]
    if not many:
        return None
    return Suggestion(
        rule="fewer_enumerated_shapes",
        title="One function per size instead of enumerated shapes",
        why="Each shape is prepared when the model is loaded; others saw the Neural Engine used "
        "for the first of them only.",
        evidence=tuple(f"{p.name} has {len(p.enumerated)} shapes." for p in many),
        gain=Quantity.unavailable("s", "only a Mac can tell"),
        advice="fix each size that matters and merge them with coremltools' save_multifunction: "
        "weights are shared",
        target=NE,
        sources=("CT-2370", "CT-2730", "CT-DOCS"),
        since="iOS18",
    )


@rule
def half_outputs(seen: Seen) -> Suggestion | None:
    """Large outputs in fp32 of a program in fp16."""
    if seen.facts.program.precision != "fp16":
        return None
    large = [p for p in seen.facts.program.outputs if p.dtype == "fp32" and _bytes(p) >= LARGE]
    if not large:
        return None
    total = sum(_bytes(p) for p in large)
    return Suggestion(
        rule="half_outputs",
        title="Give large outputs in fp16",
        why="They are widened and copied for every prediction: a quarter of the time of a large "
        "speech model on M1 Max went there.",
        evidence=tuple(f"{p.name} is fp32 {list(p.shape)}." for p in large),
        gain=Quantity(total // 2, "By", Provenance.ESTIMATED, note="bytes less to copy per call"),
        advice="convert with outputs=[ct.TensorType(dtype=np.float16)], and give outputBackings "
        "in Swift",
        target=ANY,
        sources=("CT-DOCS",),
        since="iOS16",
        verify="time from call to result in the app; Python cannot show it",
    )


@rule
def pictures(seen: Seen) -> Iterator[Suggestion]:
    """Inputs that look like pictures, given as tensors of floats."""
    for port in seen.facts.program.inputs:
        shape = port.shape
        square = len(shape) == 4 and shape[:2] in {(1, 3), (1, 1)} and port.kind == "tensor"  # noqa: PLR2004 - N, C, H, W
        sizes = [n for n in shape[2:] if isinstance(n, int)] if square else []
        if len(sizes) != 2 or min(sizes) < 32 or port.dtype not in {"fp32", "fp16"}:  # noqa: PLR2004
            continue
        colour = "RGB" if shape[1] == 3 else "GRAYSCALE"  # noqa: PLR2004
        yield Suggestion(
            rule="pictures",
            title=f"Take {port.name} as a picture",
            why="Core ML converts pictures from the camera on the GPU, scale and shift included: "
            "a quarter of the bytes, and no loop in the app.",
            evidence=(f"{port.name} is {port.dtype} {list(shape)}: three channels and a size."
                      if colour == "RGB" else f"{port.name} is {port.dtype} {list(shape)}.",),
            gain=Quantity(
                3 * math.prod(n for n in shape if isinstance(n, int)),
                "By",
                Provenance.ESTIMATED,
                note="bytes less to hand over per call",
            ),
            advice=f"cl.edit(model).apply('image_input', name={port.name!r}, colour={colour!r}, "
            "scale=…, bias=…) with the scale and shift that your code does now",
            confidence=MEDIUM,
            sources=("CT-DOCS",),
            risk="values between the 256 steps are lost",
        )  # fmt: skip


def _flexible(port: PortInfo) -> bool:
    return any(isinstance(n, str) for n in port.shape)


def _usual(port: PortInfo, dims: object) -> tuple[int, ...]:
    """The usual shape of a flexible input, or the smallest."""
    if port.default_shape:
        return port.default_shape
    known = dict(dims) if isinstance(dims, dict) else {}
    return tuple(n if isinstance(n, int) else max(1, known.get(n, (1, 0))[0]) for n in port.shape)


def _bytes(port: PortInfo) -> int:
    width = 2 if port.dtype == "fp16" else 4
    return width * math.prod(n for n in port.shape if isinstance(n, int))
