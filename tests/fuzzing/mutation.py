"""Damage to bytes, text, JSON and protobuf messages: what a fuzzer tries next."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message

Mutate = Callable[[bytes, random.Random], bytes]

# Where counts and offsets break: around powers of two, and what is none.
NUMBERS = [
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    1000,
    65535,
    65536,
    10**6,
    2**31 - 1,
]
NUMBERS += [2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1]
WHOLE = [*NUMBERS, *(-n for n in NUMBERS), 2**63, 2**64 - 1]
REAL = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", "x", "y", "\0", "../../x", "/etc/passwd", "C:\\x", "@model_path/../../x", "é\u202e"]
TEXTS += [
    "a" * 300,
    "x" * 70_000,
    "\ud7ff",
    "main",
    "CoreML7",
    "weight.bin",
    "%s{}\n",
    "-1",
    "1e999",
]
VALUES = [None, True, False, {}, [], [[]], *WHOLE[:8], 10**30, *REAL, *TEXTS]
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_]\w*|[-+]?\d[\w.+-]*|\s+|.', re.DOTALL)
WORDS = ["tensor", "fp16", "int4", "state", "dict", "list", "tuple", "BLOBFILE", "func", "?", "-1"]
WORDS += [
    "99999999999999999999",
    "ios17",
    "ios18",
    "const",
    '"x"',
    '"',
    "[" * 60,
    "{",
    "}",
    "(",
    ")",
]
WORDS += ["->", "=", ",", ";", "<", ">", "0x1p+9999", "nan", "true", "\0", "tensor<" * 60, "cond"]


def chunks(data: bytes, order: random.Random) -> bytes:
    """Bits, bytes, numbers and pieces changed, without knowing what they mean."""
    held = bytearray(data or b"\0")
    for _ in range(order.choice((1, 1, 1, 2, 4))):
        at = order.randrange(len(held)) if held else 0
        _damage(held, at, order)
    return bytes(held)


def _damage(held: bytearray, at: int, order: random.Random) -> None:
    kind = order.randrange(8)
    some = order.choice((1, 2, 4, 8, 16, 64))
    if kind == 0 and held:
        held[at] ^= 1 << order.randrange(8)
    elif kind == 1:
        width = order.choice((1, 2, 4, 8))
        number = order.choice(NUMBERS) % (1 << (8 * width))
        held[at : at + width] = number.to_bytes(width, order.choice(("little", "big")))
    elif kind == 2:
        held[at : at + some] = bytes([order.choice((0, 255, 127, 128))]) * some
    elif kind == 3:
        del held[at:]
    elif kind == 4:
        del held[at : at + some]
    elif kind == 5:
        held[at:at] = order.randbytes(some)
    elif kind == 6:
        held[at:at] = held[at : at + 4 * some]
    elif held:
        to = order.randrange(len(held))
        held[to : to + some] = held[at : at + some]


def text(data: bytes, order: random.Random) -> bytes:
    """Words of a text left out, doubled, moved, or others in their place."""
    if order.random() < 0.3:
        return chunks(data, order)
    tokens = TOKEN.findall(data.decode("utf-8", "replace"))
    for _ in range(order.choice((1, 1, 2, 3))):
        if not tokens:
            break
        at, to = order.randrange(len(tokens)), order.randrange(len(tokens))
        kind = order.randrange(6)
        if kind == 0:
            del tokens[at]
        elif kind == 1:
            tokens.insert(at, tokens[to])
        elif kind == 2:
            tokens[at], tokens[to] = tokens[to], tokens[at]
        elif kind == 3:
            tokens[at] = order.choice(WORDS)
        elif kind == 4:
            tokens[at] = str(order.choice(WHOLE))
        else:
            begin, end = sorted((at, to))
            tokens[begin:begin] = tokens[begin : min(end, begin + 40)]
    return "".join(tokens).encode("utf-8", "replace")


def told(data: bytes, order: random.Random) -> bytes:
    """JSON with values of other kinds, members that are missing, or nested deeper."""
    if order.random() < 0.3:
        return chunks(data, order)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return chunks(data, order)
    for _ in range(order.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if places:
            _replace(*order.choice(places), order)
    if order.random() < 0.02:
        return b"[" * order.choice((500, 5000, 100_000))
    try:
        return json.dumps(tree).encode("utf-8", "replace")
    except RecursionError:
        return chunks(data, order)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each value inside, as what holds it and where."""
    members: list[tuple[Any, Any]] = []
    if isinstance(tree, dict | list):
        members = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    for key, value in members:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _replace(holder: Any, key: Any, order: random.Random) -> None:
    kind = order.randrange(6)
    try:
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = [holder[key]]
        elif kind == 2 and isinstance(holder, dict):
            holder[order.choice(TEXTS)] = holder.pop(key)
        elif kind == 3:
            other = order.choice(list(_places(holder)))
            holder[key] = copy.deepcopy(other[0][other[1]])
        else:
            # A copy: what is put in may be damaged next, and must not be the same in the next file.
            holder[key] = copy.deepcopy(order.choice(VALUES))
    except (IndexError, KeyError):
        return


def messages(kind: type[Message]) -> Mutate:
    """Damage to messages of one kind: fields set, left out, doubled, moved; bytes now and then."""

    def mutate(data: bytes, order: random.Random) -> bytes:
        if order.random() < 0.25:
            return chunks(data, order)
        message = kind()
        try:
            message.ParseFromString(data)
            for _ in range(order.choice((1, 1, 1, 2, 3))):
                _change(message, order)
            return bytes(message.SerializePartialToString())
        except (DecodeError, ValueError):
            return chunks(data, order)

    return mutate


def _change(message: Message, order: random.Random) -> None:
    """One field somewhere inside a message."""
    while True:
        fields = message.ListFields()
        inner = [v for f, v in fields if f.type == f.TYPE_MESSAGE]
        if not inner or order.random() < 0.15:
            break
        held = order.choice(inner)
        if isinstance(held, Message):
            message = held
            continue
        items = _items(held)
        if not items or not isinstance(items[0], Message) or order.random() < 0.1:
            break
        message = order.choice(items)
    _set(message, order)


def _items(held: Any) -> Sequence[Any]:
    return list(held.values()) if hasattr(held, "values") else list(held)


def _set(message: Message, order: random.Random) -> None:
    fields = message.DESCRIPTOR.fields
    set_ = [f for f, _ in message.ListFields()]
    field = order.choice(set_ if set_ and order.random() < 0.7 else list(fields) or [None])
    if field is None:
        return
    held = getattr(message, field.name)
    mapped = field.type == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry
    try:
        if order.random() < 0.15:
            message.ClearField(field.name)
        elif mapped:
            _map(held, order)
        elif hasattr(held, "extend"):
            _list(held, field, order)
        elif field.type == field.TYPE_MESSAGE:
            held.SetInParent()
        else:
            setattr(message, field.name, _scalar(field, held, order))
    except (TypeError, ValueError, IndexError, KeyError):
        return


def _map(held: Any, order: random.Random) -> None:
    keys = list(held)
    if keys and order.random() < 0.5:
        old = order.choice(keys)
        value = held[old]
        kept = copy.deepcopy(value)
        del held[old]
        new = order.choice([*TEXTS, *keys])
        if isinstance(kept, Message):
            held[new].CopyFrom(kept)
        else:
            held[new] = kept
    elif keys:
        del held[order.choice(keys)]


def _list(held: Any, field: Any, order: random.Random) -> None:
    """A list with an element more, fewer, doubled, or two that changed places."""
    kind = order.randrange(5)
    at = order.randrange(len(held)) if len(held) else 0
    if kind == 0 and len(held):
        del held[at]
    elif kind == 1 and len(held):
        held.extend([copy.deepcopy(held[at])] * order.choice((1, 1, 2, 50)))
    elif kind == 2 and len(held) > 1:
        items = [copy.deepcopy(v) for v in held]
        order.shuffle(items)
        del held[:]
        held.extend(items)
    elif field.type == field.TYPE_MESSAGE:
        held.add()
    elif len(held) and kind == 3:
        held[at] = _scalar(field, held[at], order)
    else:
        held.append(_scalar(field, None, order))


def _scalar(field: Any, old: Any, order: random.Random) -> Any:
    if field.type == field.TYPE_ENUM:
        return order.choice([*(v.number for v in field.enum_type.values), 77, -1])
    if field.cpp_type in {field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE}:
        return order.choice(REAL)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return not old
    if field.type == field.TYPE_BYTES:
        return chunks(old or b"", order)
    if field.type == field.TYPE_STRING:
        return order.choice(TEXTS)
    near = [old + d for d in (-1, 1, 2, 7)] if isinstance(old, int) else []
    return order.choice([*WHOLE, *near])
