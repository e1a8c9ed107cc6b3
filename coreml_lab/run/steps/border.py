"""Where a plan meets arrays: declared types outside, the space's own inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coreml_lab.program.graph import Array, TensorType
from coreml_lab.run.steps.step import Observer, Plan


@dataclass(frozen=True)
class Types:
    """What a program's border is made of, in declared types."""

    inputs: Mapping[str, TensorType]
    states: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]


@dataclass(frozen=True)
class Made:
    """What a queued run leaves on the device.

    Attributes:
        bounds: the least and the greatest index of each check on the device, or None.
        suspects: the op of each, and how many elements it chooses from.
        asked: the same for indices that are an input, with its name: the host looks at those.
    """

    outputs: Mapping[str, Any]
    updates: Mapping[str, Any]
    bounds: Any
    suspects: tuple[tuple[Any, int], ...]
    asked: tuple[tuple[Any, str, int], ...]


def given(
    plan: Plan, inputs: Mapping[str, Any], states: Mapping[str, Any], types: Types
) -> dict[int, Any]:
    """What a plan is given, by its slots: tensors in the types that the space holds them in."""
    kind = plan.space.kind
    found = {plan.inputs[k]: v.to(kind(types.inputs[k].dtype)) for k, v in inputs.items()}
    return found | {plan.states[k]: v.to(kind(types.states[k].dtype)) for k, v in states.items()}


def queued(
    plan: Plan,
    inputs: Mapping[str, Any],
    states: Mapping[str, Any],
    types: Types,
    each: Observer | None = None,
) -> Made:
    """Run a plan on tensors in their declared types; results in theirs, all on the device."""
    space = plan.space
    space.outside.clear()
    space.asked.clear()
    there = given(plan, inputs, states, types)
    for name, slot in plan.inputs.items():
        there[slot].entered = name
    slots = plan.run(there, each or _named(plan))
    outputs = {
        k: slots[s].to(space.border(types.outputs[k].dtype)) for k, s in plan.outputs.items()
    }
    updates = {
        k: slots[s].to(space.border(types.states[k].dtype))
        for k, s in plan.updates.items()
        if s != plan.states[k]
    }
    found = [bound for _, _, *both in space.outside for bound in both]
    bounds = space.torch.stack(found) if found else None
    suspects = tuple((node, size) for node, size, *_ in space.outside)
    return Made(outputs, updates, bounds, suspects, tuple(space.asked))


def _named(plan: Plan) -> Any:
    """Runs a step and lets the space know which, so that a failed check of indices has a name."""
    space = plan.space
    if space.device.type == "cpu":
        return None

    def each(step: Any, slots: Any) -> None:
        space.node = step.node
        step.run(slots)

    return each


def complaints(asked: Iterable[tuple[Any, str, int]], inputs: Mapping[str, Array]) -> list[str]:
    """What is wrong with indices that were given as inputs."""
    return [
        message
        for node, name, size in asked
        if (message := _wrong(node, size, inputs[name].min(), inputs[name].max()))
    ]


def complain(suspects: Iterable[tuple[Any, int]], bounds: Array) -> None:
    """Raise where one of the checks of indices on the device failed."""
    for (node, size), (low, high) in zip(suspects, bounds.reshape(-1, 2), strict=True):
        if message := _wrong(node, size, low, high):
            raise IndexError(message)


def _wrong(node: Any, size: int, low: Any, high: Any) -> str:
    inside = -size <= low and high < size
    return "" if inside else f"{node.op} {node.name}: an index is out of range"
