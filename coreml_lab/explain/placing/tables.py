"""The tables behind placement: chips, limits, verdicts and costs, each number with its source."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from coreml_lab.errors import UnknownParameter

DEVICES = ("cpu", "gpu", "ne")
TITLES = {"cpu": "CPU", "gpu": "GPU", "ne": "Neural Engine"}
# Chips whose planner was looked at: elsewhere its constants are assumed to be the same.
PLANNER_CHIP = "M4"


@dataclass(frozen=True)
class Fact:
    """A number and where it is from.

    Attributes:
        source: a key of ``sources()``.
        confidence: ``measured`` (by others, on Apple hardware), ``vendor`` (Apple says so),
            ``decompiled`` (read out of Apple's binaries by others), ``secondary`` (press, lists),
            ``inferred`` (concluded here from the others) or ``general`` (not confirmed).
    """

    value: Any
    source: str
    confidence: str
    note: str = ""


@dataclass(frozen=True)
class Source:
    """Where facts are from: a document, study, discussion or package."""

    key: str
    kind: str
    title: str
    where: str


@dataclass(frozen=True)
class OpVerdict:
    """What is known of an operation and the Neural Engine, whatever its operands.

    Attributes:
        verdict: ``yes``, ``likely``, ``unlikely``, ``no`` or ``folded`` (done before it runs).
        confidence: ``high`` (several sources, or one that measured through Core ML), ``medium``,
            ``low`` (one that did not).
        since: the first generation of the engine that has it; "" for all.
        gpu: whether Core ML runs it on the GPU.
    """

    verdict: str
    confidence: str
    sources: tuple[str, ...]
    since: str = ""
    gpu: bool = True
    note: str = ""


@dataclass(frozen=True)
class Chip:
    """An Apple chip: what estimates need of it, and the limits of its Neural Engine."""

    name: str
    kind: str
    facts: Mapping[str, Fact]
    limits: Mapping[str, Fact]

    @property
    def generation(self) -> str:
        """The engine's generation: ``H13`` (A14, M1) to ``H18`` (M6)."""
        return str(self.facts["generation"].value)

    def number(self, name: str) -> float:
        """A fact's value; see ``docs/placement.md`` for names and units."""
        return float(self.facts[name].value)


def read(name: str) -> Any:
    """A table of ``explain/data``, as JSON has it."""
    text = (files("coreml_lab.explain") / "data" / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


@functools.cache
def sources() -> Mapping[str, Source]:
    """Every source by its key."""
    return {key: Source(key, **row) for key, row in read("sources").items()}


@functools.cache
def operations() -> Mapping[str, OpVerdict]:
    """What is known of each operation of MIL."""
    return {
        name: OpVerdict(**{**row, "sources": tuple(row["sources"])})
        for name, row in read("ops").items()
    }


@functools.cache
def chips() -> Mapping[str, Chip]:
    """Every chip by its name, phones' first."""
    limits = {
        generation: {name: Fact(**fact) for name, fact in rows.items()}
        for generation, rows in read("limits").items()
    }
    found = {}
    for name, row in read("chips").items():
        facts = {key: Fact(**fact) for key, fact in row.items() if key != "kind"}
        found[name] = Chip(name, row["kind"], facts, limits[facts["generation"].value])
    return found


def chip(name: str) -> Chip:
    """The chip of that name, however it is spaced and capitalised.

    Raises:
        UnknownParameter: with the names of all, where there is none.
    """
    plain = {_plain(each): found for each, found in chips().items()}
    if _plain(name) not in plain:
        raise UnknownParameter(
            f"there is no chip {str(name)[:40]!r} in the tables", hint=f"one of {listed(chips())}"
        )
    return plain[_plain(name)]


def listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Names in a row."""
    return ", ".join(names)


def _plain(name: str) -> str:
    return "".join(str(name).split()).casefold()
