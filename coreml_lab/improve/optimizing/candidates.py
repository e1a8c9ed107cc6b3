"""What can be tried for a goal, in order of what it is expected to bring. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.records import Action, ProgramInfo

# Parts of a configuration, in the order in which their actions are applied.
ORDER = ("form", "passes", "layout", "precision", "weights", "activations", "rows", "engine")
# Int8 weights and activations bring their own precision and storage.
REPLACES = {"activations": ("precision", "weights"), "weights": ("activations",)}
THRESHOLD = 2048
IMAGE = 4
# Long batches in so many slices.
SLICES = (4, 16)
FORMS = {"long_axis_last": "long axes last", "fold_pads": "pads in convolutions"}
OTHERS = "Engines differ by network."


@dataclass(frozen=True)
class Candidate:
    """Something to try: it takes the place of what its part was before.

    Attributes:
        part: one of ``ORDER``.
        why: what speaks for it.
    """

    part: str
    title: str
    why: str
    actions: tuple[Action, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """The candidates that hold, one for each part."""

    parts: Mapping[str, Candidate] = field(default_factory=dict)

    def replaced(self, candidate: Candidate) -> Chosen:
        """With a candidate in its part, and without what it replaces elsewhere."""
        gone = {candidate.part, *REPLACES.get(candidate.part, ())}
        kept = {part: c for part, c in self.parts.items() if part not in gone}
        return Chosen({**kept, candidate.part: candidate})

    @property
    def configuration(self) -> Configuration:
        """Actions in their order, and settings."""
        found = [self.parts[part] for part in ORDER if part in self.parts]
        settings = {k: v for c in found for k, v in c.settings.items()}
        return Configuration(tuple(a for c in found for a in c.actions), settings)


def candidates(
    info: ProgramInfo,
    goal: str,
    engines: Mapping[str, str] | None = None,
    *,
    threshold: int = THRESHOLD,
    rows: int = 1,
) -> tuple[Candidate, ...]:
    """What to try, the most promising first.

    Args:
        info: the program.
        goal: ``latency``, ``size``, ``memory`` or ``energy``, or several of them with a ``+``.
        engines: engines besides the model's own that could run it here, each with its device.
        threshold: arrays of fewer elements stay as they are.
        rows: how many independent rows the data have.
    """
    stored = any(op.op.startswith("constexpr_") for op in info.ops)
    weighty = any(op.weight_bytes for op in info.ops)
    small = _weights(info, threshold) if weighty and not stored else ()
    eight = _int8(info, threshold) if not stored else ()
    passes = Candidate(
        "passes", "Core ML's passes again", "Fusions that the converter missed.", (Action("clean"),)
    )
    run = tuple(
        Candidate("engine", f"engine {name}", OTHERS, (), {"engine": name, "device": device})
        for name, device in (engines or {}).items()
    )
    goals = set(goal.split("+"))
    slices = _slices(rows) if goals - {"size"} else ()
    if goals & {"latency", "energy"}:
        less = small if "size" in goals else ()
        return (*_form(info), *run, *less, *eight, *slices, *_layout(info), passes)
    return (*small, *eight, *slices, passes)


def together(found: Sequence[Candidate]) -> Iterator[tuple[Candidate, Candidate]]:
    """W8A8 with each engine: kernels for integers differ more than others."""
    eight = next((c for c in found if c.part == "activations"), None)
    if eight is not None:
        yield from ((eight, c) for c in found if c.part == "engine")


def _form(info: ProgramInfo) -> tuple[Candidate, ...]:
    """What is written so that no kernel likes it: images of one column, pads by themselves."""
    known = {op.op for op in info.ops}
    columns = any(
        op.op == "conv" and len(op.shape) == IMAGE and op.shape[3] == 1 != op.shape[2]
        for op in info.ops
    )
    actions = [Action("long_axis_last")] if columns else []
    actions += [Action("fold_pads")] if {"pad", "conv"} <= known else []
    if not actions:
        return ()
    told = ", ".join(FORMS[action.name] for action in actions)
    why = "Kernels work along rows, and each pad copies its input."
    return (Candidate("form", told, why, tuple(actions)),)


def _slices(rows: int) -> tuple[Candidate, ...]:
    why = "What is held between operations is that of a slice, which may fit into a cache, too."
    return tuple(
        Candidate("rows", f"slices of {n} rows", why, (), {"rows": n})
        for n in dict.fromkeys(rows // part for part in SLICES)
        if 0 < n < rows
    )


def _int8(info: ProgramInfo, threshold: int) -> tuple[Candidate, ...]:
    heavy = [op.name for op in info.ops if op.weight_bytes and op.op in {"conv", "linear"}]
    if not heavy:
        return ()
    why = "Integer kernels do four times the products of fp32 in a step, and read a quarter."
    given = {"weight_threshold": threshold}
    whole = Candidate("activations", "W8A8", why, (Action("w8a8", given),))
    if len(heavy) <= 2:  # noqa: PLR2004 - nothing but a first and a last layer
        return (whole,)
    skip = [heavy[0], heavy[-1]]
    ends = Candidate(
        "activations",
        "W8A8 but for the first and last layer",
        "They bear rounding worst and take little time.",
        (Action("w8a8", {**given, "skip": skip}),),
    )
    return whole, ends


def _weights(info: ProgramInfo, threshold: int) -> tuple[Candidate, ...]:
    """Ways to store weights, from those that lose least to the smallest."""
    given = {"weight_threshold": threshold}
    ways: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("int8 weights", "int8_weights", {}),
        ("6-bit tables", "palettize_weights", {"nbits": 6, "mode": "uniform"}),
        (
            "int4 weights by blocks",
            "quantize_weights",
            {"dtype": "int4", "granularity": "per_block", "block_size": 32},
        ),
        ("4-bit tables", "palettize_weights", {"nbits": 4, "mode": "uniform"}),
    )
    made = [
        Candidate(
            "weights", title, "Fewer bits for each weight.", (Action(name, {**how, **given}),)
        )
        for title, name, how in ways
    ]
    if info.precision == "fp32":
        half = Candidate("precision", "fp16", "Two bytes for each weight.", (Action("float16"),))
        return (half, *made)
    return tuple(made)


def _layout(info: ProgramInfo) -> tuple[Candidate, ...]:
    if not any(op.op == "linear" for op in info.ops):
        return ()
    why = "Some engines have better kernels for convolutions."
    return (Candidate("layout", "linear layers as convolutions", why, (Action("linear_to_conv"),)),)
