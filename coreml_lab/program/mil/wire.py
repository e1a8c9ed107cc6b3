"""How much a model file asks for, counted in its bytes before it is parsed.

An empty message takes two bytes in a file and about a hundred in memory. Parsed files are small, or
were found to hold no more messages than a real model may have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from coreml_lab.errors import ModelError

# Files up to here are parsed at once: all they can ask for is a hundred megabytes.
SMALL = 2 << 20
MOST_MESSAGES = 2_500_000
# Large language models have some ten thousand operations, their constants included.
MOST_STEPS = 100_000
STEPS = frozenset({"CoreML.Specification.MILSpec.Operation"}) | {
    "CoreML.Specification.NeuralNetworkLayer"
}
# How the values of fields lie in a message: protobuf's encoding.
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
SKIPPED = {FIXED64: 8, FIXED32: 4}
MORE = 0x7F


@dataclass(frozen=True, eq=False)
class _Kind:
    """A kind of message: which of its fields hold messages, and whether it is an operation."""

    step: bool
    inner: dict[int, _Kind] = field(default_factory=dict)


@dataclass
class _Level:
    """Where messages of one depth lie: three lists, since millions of tuples take long to make."""

    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    kinds: list[_Kind] = field(default_factory=list)
    count: int = 0
    steps: int = 0


def check(file: str, data: bytes, descriptor: Any) -> None:
    """Refuse the bytes of a message where they hold more than any model does.

    What is damaged is left to the parser, which says so.

    Raises:
        ModelError: naming what there is too much of.
    """
    if len(data) <= SMALL:
        return
    level, count = _Level([0], [len(data)], [_kind(descriptor, {})]), 0
    # Level by level, so that what is wide is found before what is deep is looked at.
    while level.begins:
        below = _Level()
        for begin, end, kind in zip(level.begins, level.ends, level.kinds, strict=True):
            _scan(data, begin, end, kind.inner, below)
            if below.steps > MOST_STEPS:
                raise too_many(file, "operations", MOST_STEPS)
            if count + below.count > MOST_MESSAGES:
                raise too_many(file, "messages", MOST_MESSAGES)
        count += below.count
        level = below


def too_many(file: str, what: str, most: int) -> ModelError:
    """The error that says that a file holds too much of something."""
    return ModelError(
        f"{file} holds more than {most} {what}: no real model does",
        hint="split the model, or fetch the file again",
    )


def _kind(descriptor: Any, known: dict[str, _Kind]) -> _Kind:
    """A kind of message and all that it may hold, which may be itself."""
    name = descriptor.full_name
    if name not in known:
        known[name] = made = _Kind(name in STEPS)
        held = {f.number: f.message_type for f in descriptor.fields if f.message_type is not None}
        made.inner.update({number: _kind(of, known) for number, of in held.items()})
    return known[name]


def _scan(data: bytes, at: int, end: int, inner: dict[int, _Kind], below: _Level) -> None:
    """Add the messages inside of one to the level below, without looking into them."""
    try:
        while at < end and below.count <= MOST_MESSAGES and below.steps <= MOST_STEPS:
            tag, at = data[at], at + 1
            if tag > MORE:
                tag, at = _varint(data, at - 1)
            wire = tag & 7
            if wire == LENGTH:
                length, at = data[at], at + 1
                if length > MORE:
                    length, at = _varint(data, at - 1)
                kind = inner.get(tag >> 3)
                if kind is not None:
                    _add(below, at, min(at + length, end), kind)
                at += length
            elif wire == VARINT:
                at = _varint(data, at)[1]
            elif wire in SKIPPED:
                at += SKIPPED[wire]
            else:
                return
    except IndexError:  # it ends in the middle: the parser says so
        return


def _add(level: _Level, begin: int, end: int, kind: _Kind) -> None:
    level.count += 1
    level.steps += kind.step
    if end > begin:
        level.begins.append(begin)
        level.ends.append(end)
        level.kinds.append(kind)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where what follows begins."""
    number = shift = 0
    while data[at] > MORE:
        number |= (data[at] & MORE) << shift
        shift += 7
        at += 1
    return number | data[at] << shift, at + 1
