"""A program in torch as steps over numbered slots, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.program.graph import Node
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.ways import Way

Slots = list[Any]
Observer = Callable[["Step", Slots], None]
# What is given by slots -> the slots of outputs and new states.
Short = Callable[[Mapping[int, Any]], Mapping[int, Any]]


@dataclass
class Step:
    """One operation: ``run`` reads and writes slots, ``frees`` names those nobody reads later."""

    node: Node
    run: Callable[[Slots], None]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    frees: tuple[int, ...] = ()
    # The operations that it stands for besides its own.
    fused: tuple[str, ...] = ()


@dataclass
class Plan:
    """A program over slots; ``template`` holds the constants at their places."""

    space: Space
    way: Way = field(default_factory=Way)
    steps: list[Step] = field(default_factory=list)
    template: Slots = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=dict)
    # Whether a run is the same sequence of kernels every time, given the shapes of its inputs.
    static: bool = True
    # Whether all sizes are known: then none follows from what tensors hold.
    fixed: bool = True
    # Bytes of the constants that stand in steps and not in the template.
    attributes: int = 0
    # Leaves the same in the slots of outputs and new states without the steps, or raises.
    short: Short | None = None

    def run(
        self, given: Mapping[int, Any], each: Observer | None = None
    ) -> Slots | Mapping[int, Any]:
        """The slots after a run, by number; ``each`` is handed every step and runs it.

        Raises:
            StepFailed: when a step raises; it names the node, and its cause is the error.
        """
        if self.short is not None and each is None:
            with suppress(Exception):  # the steps will say what is wrong, and where
                return self.short(given)
        return self._stepped(given, each)

    def _stepped(self, given: Mapping[int, Any], each: Observer | None) -> Slots:
        slots = self.template.copy()
        for slot, tensor in given.items():
            slots[slot] = tensor
        for step in self.steps:
            try:
                if each is None:
                    step.run(slots)
                else:
                    each(step, slots)
            except Exception as error:
                raise StepFailed(step.node) from error
            for slot in step.frees:
                slots[slot] = None
        return slots


class StepFailed(Exception):
    """A step raised; the error is its cause."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self.node = node


def released(steps: Sequence[Step], kept: Iterable[int]) -> list[Step]:
    """The steps with what each is the last to read."""
    seen = set(kept)
    for step in reversed(steps):
        touched = dict.fromkeys((*step.reads, *step.writes))
        step.frees = tuple(s for s in touched if s not in seen)
        seen.update(touched)
    return list(steps)


@dataclass(frozen=True)
class Routine:
    """A block: what it is handed, its steps, and what it hands back."""

    inputs: tuple[int, ...]
    steps: Sequence[Step]
    outputs: tuple[int, ...]

    def run(self, slots: Slots, given: Sequence[Any]) -> list[Any]:
        """Run it over the slots around it."""
        for slot, tensor in zip(self.inputs, given, strict=True):
            slots[slot] = tensor
        for step in self.steps:
            step.run(slots)
            for slot in step.frees:
                slots[slot] = None
        return [slots[i] for i in self.outputs]
