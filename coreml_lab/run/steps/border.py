"""Where a plan meets arrays: declared types outside, the space's own inside."""

from __future__ import annotations

from collections.abc import Mapping
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
    """What a queued run leaves on the device."""

    outputs: Mapping[str, Any]
    updates: Mapping[str, Any]
    flags: Any
    suspects: tuple[Any, ...]


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
    given = {plan.inputs[k]: v.to(space.kind(types.inputs[k].dtype)) for k, v in inputs.items()}
    given |= {plan.states[k]: v.to(space.kind(types.states[k].dtype)) for k, v in states.items()}
    slots = plan.run(given, each or _named(plan))
    outputs = {
        k: slots[s].to(space.border(types.outputs[k].dtype)) for k, s in plan.outputs.items()
    }
    updates = {
        k: slots[s].to(space.border(types.states[k].dtype))
        for k, s in plan.updates.items()
        if s != plan.states[k]
    }
    checks = tuple(space.outside)
    flags = space.torch.stack([flag for _, flag in checks]) if checks else None
    return Made(outputs, updates, flags, tuple(node for node, _ in checks))


def _named(plan: Plan) -> Any:
    """Runs a step and lets the space know which, so that a failed check of indices has a name."""
    space = plan.space
    if space.device.type == "cpu":
        return None

    def each(step: Any, slots: Any) -> None:
        space.node = step.node
        step.run(slots)

    return each


def complain(suspects: tuple[Any, ...], flags: Array) -> None:
    """Raise where one of the checks of indices failed."""
    for node, flag in zip(suspects, flags, strict=True):
        if flag:
            raise IndexError(f"{node.op} {node.name}: an index is out of range")
