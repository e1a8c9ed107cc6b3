"""Suggestion: something that could be done, and why, as data; and what rules are told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from coreml_lab.explain.facts import Facts
from coreml_lab.explain.placing.estimated import Estimated
from coreml_lab.metrics import Quantity
from coreml_lab.program.graph import Graph
from coreml_lab.records import Action, Recording

# What a suggestion makes better.
SIZE, MEMORY, LATENCY, ENERGY, CORRECT = "size", "memory", "latency", "energy", "correctness"
# For which processors it does.
ANY, NE, GPU = "any", "ne", "gpu"
HIGH, MEDIUM, LOW = "high", "medium", "low"


@dataclass(frozen=True)
class Suggestion:
    """Something that could be done to a model, or by its author.

    Attributes:
        rule: the rule that made it.
        evidence: sentences with the facts seen in this model that speak for it.
        gain: what it should bring before anyone measured it; says on what the number rests.
        action: what to do, as data; None where only the author can act, as ``advice`` says.
        advice: what the author does.
        nodes: the operations that it is about; empty where it is about all.
        serves: what it makes better: size, memory, latency, energy or correctness.
        target: for which processors: any, ne (the Neural Engine) or gpu.
        confidence: of the fact that it rests on: high, medium or low.
        sources: keys of the published findings (docs/placement.md has their list).
        risk: what may be worse then.
        since: the first iOS that can run the result, where it matters.
        verify: how to see whether it helped.
    """

    rule: str
    title: str
    why: str
    evidence: tuple[str, ...]
    gain: Quantity
    action: Action | None = None
    advice: str = ""
    nodes: tuple[str, ...] = ()
    serves: str = LATENCY
    target: str = ANY
    confidence: str = HIGH
    sources: tuple[str, ...] = ()
    risk: str = ""
    since: str = ""
    verify: str = "time, size and results before and after"


@dataclass(frozen=True)
class Seen:
    """What rules look at.

    Attributes:
        facts: what the recording, or the program alone, says.
        graph: the operations; None where the program's file is not there any more.
        placed: where a chip would run them, estimated.
        recording: what was recorded, for rules about how a model is used.
    """

    facts: Facts
    graph: Graph | None = None
    placed: Estimated | None = None
    recording: Recording | None = None


Found = Suggestion | Iterable[Suggestion] | None
Rule = Callable[[Seen], Iterator[Suggestion]]


def rule(function: Callable[[Seen], Found]) -> Rule:
    """Mark a function as a rule: what it suggests bears its name."""

    @functools.wraps(function)
    def named(seen: Seen) -> Iterator[Suggestion]:
        found = function(seen)
        every = () if found is None else (found,) if isinstance(found, Suggestion) else found
        for suggestion in every:
            if suggestion.rule != function.__name__:
                raise ValueError(
                    f"rule {function.__name__} made a suggestion of {suggestion.rule!r}"
                )
            yield suggestion

    return named
