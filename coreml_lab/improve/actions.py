"""Actions: what can be done to a model's file, by name; each writes a changed copy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coreml_lab.errors import UnknownParameter
from coreml_lab.program import mil
from coreml_lab.program.graph import Array
from coreml_lab.records import Action

Samples = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Kind:
    """What an action is for.

    Attributes:
        title: what it does, as an order.
        serves: what may get better: ``size``, ``memory``, ``latency``, ``accuracy``.
        since: the first iOS that runs what it writes.
        lossless: whether results stay the same but for the order of sums.
        data: whether it needs samples of inputs.
    """

    title: str
    serves: tuple[str, ...]
    since: str = "iOS15"
    lossless: bool = False
    data: bool = False


SMALL = ("size", "memory")
FLOAT16 = "float16"
# Names come from files, and are untrusted.
UNSAFE = re.compile(r"[^\w. -]+")
LONGEST = 100
KINDS: dict[str, Kind] = {
    "int8_weights": Kind("Store the weights as int8", SMALL, "iOS16"),
    "quantize_weights": Kind("Store the weights as integers with scales", SMALL, "iOS16"),
    "palettize_weights": Kind("Store the weights as indices into tables", SMALL, "iOS16"),
    "prune_weights": Kind("Drop the smallest weights", SMALL, "iOS16"),
    "decompress_weights": Kind("Store the weights whole", ("latency",), lossless=True),
    "float16": Kind("Compute in fp16", ("size", "memory", "latency")),
    "float32": Kind("Compute in fp32", ("accuracy",)),
    "linear_to_conv": Kind("Write linear layers as convolutions", ("latency",), lossless=True),
    "long_axis_last": Kind(
        "Lay the long axis of images last", ("latency", "memory"), lossless=True
    ),
    "fold_pads": Kind("Let convolutions fill up their inputs", ("latency",), lossless=True),
    "fuse_silu": Kind("Make silu one operation", ("latency",), lossless=True),
    "fuse_attention": Kind("Make attention one operation", ("latency", "memory"), "iOS18", True),
    "clean": Kind("Run Core ML's passes again", ("latency", "size"), lossless=True),
    "fixed_shapes": Kind("Fix the shapes of inputs", ("latency", "memory"), lossless=True),
    "enumerated_shapes": Kind("Allow a few shapes of inputs only", ("latency",), lossless=True),
    "image_input": Kind("Take pictures instead of tensors", ("latency",)),
    "states": Kind("Keep a cache as states of the model", ("latency", "memory"), "iOS18"),
    "w8a8": Kind(
        "Compute with int8 weights and activations", ("latency", *SMALL), "iOS17", data=True
    ),
}


@dataclass(frozen=True)
class Written:
    """A changed copy, and what coremltools remarked on it.

    Attributes:
        action: what was done, with arguments that were found on the data.
    """

    package: Path
    action: Action
    remarks: tuple[str, ...] = ()


def apply(
    action: Action, package: Path, folder: Path, data: Samples = (), *, name: str = ""
) -> Written:
    """Write a changed copy of ``package`` into ``folder``; the original is not touched.

    Args:
        action: what to do; its arguments are those of coremltools.
        package: the model's file.
        folder: where the copy goes; the original is elsewhere.
        data: inputs to calibrate with, name -> array, for actions that need them; ``float16``
            keeps in fp32 what overflows on them.
        name: what the model is called, and so the copy; that of the original's file by default.

    Raises:
        UnknownParameter: for an action there is not, or one of its arguments.
        InputError: where data are needed and missing.
        CompileError: where coremltools refuses it.
    """
    if action.name not in KINDS:
        raise UnknownParameter(
            f"there is no action {action.name!r}", hint="one of " + ", ".join(KINDS)
        )
    target = folder / f"{named(name) or package.stem}.mlpackage"
    if KINDS[action.name].data:
        from coreml_lab.interop.activations import quantize_activations  # noqa: PLC0415 - coremltools

        quantize_activations(package, target, data, **action.arguments)
        return Written(target, action)
    if action.name == FLOAT16 and data and set(action.arguments) <= {"skip"}:
        return _with_islands(action, package, target, data)
    said = mil.rewrite(package, target, method=action.name, arguments=action.arguments)
    return Written(target, action, said)


def named(name: str) -> str:
    """A model's name as that of a file: what not every file may be called becomes ``_``."""
    return UNSAFE.sub("_", name).strip(" .")[:LONGEST]


def _with_islands(action: Action, package: Path, target: Path, data: Samples) -> Written:
    from coreml_lab.improve.islands import float16  # noqa: PLC0415 - it runs models

    found = float16(package, target, data, action.arguments.get("skip", ()))
    arguments = {"skip": found.skip} if found.skip else {}
    return Written(target, Action(action.name, arguments), found.remarks)


def size(package: Path) -> int:
    """Bytes of a package, or of a file."""
    files = package.rglob("*") if package.is_dir() else (package,)
    return sum(file.stat().st_size for file in files if file.is_file())
