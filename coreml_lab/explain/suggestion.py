"""Suggestion: something that could be done, and why, as data; and the functions that make one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from coreml_lab.explain.facts import Facts
from coreml_lab.metrics import Quantity
from coreml_lab.records import Action


@dataclass(frozen=True)
class Suggestion:
    """Something that could be done to a model.

    Attributes:
        evidence: sentences with the facts that speak for it.
        gain: what it should bring before anyone measured it; says on what the number rests.
        action: what to do, as data.
    """

    rule: str
    title: str
    why: str
    evidence: tuple[str, ...]
    gain: Quantity
    action: Action


Rule = Callable[[Facts], Suggestion | None]


def rule(function: Rule) -> Rule:
    """Mark a function as a rule: what it suggests bears its name."""

    @functools.wraps(function)
    def named(facts: Facts) -> Suggestion | None:
        found = function(facts)
        if found is not None and found.rule != function.__name__:
            raise ValueError(f"rule {function.__name__} made a suggestion of {found.rule!r}")
        return found

    return named
