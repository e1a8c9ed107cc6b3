"""The advisor: asks every rule what it would do. Pure; nothing is applied or measured here."""

from __future__ import annotations

from coreml_lab.explain.facts import Facts
from coreml_lab.explain.rules.weights import int8_weights
from coreml_lab.explain.suggestion import Rule, Suggestion

RULES: tuple[Rule, ...] = (int8_weights,)


def advise(facts: Facts, rules: tuple[Rule, ...] = RULES) -> tuple[Suggestion, ...]:
    """What the rules suggest, in their order."""
    return tuple(found for rule in rules if (found := rule(facts)) is not None)
