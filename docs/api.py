"""Entries of the API reference: signature and docstring of a public name, as Markdown."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coreml_lab as cl

SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields):$")
WIDTH = 96
ITEM = re.compile(r"^    (\*{0,2}[\w.]+)(?: \([^)]*\))?: (.*)$")


def found(name: str) -> Any:
    """What ``cl.load`` or ``coreml_lab.metrics.Quantity`` names."""
    if name.startswith("cl."):
        return getattr(cl, name.removeprefix("cl."))
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def markdown(doc: str) -> str:
    """A docstring in Google's style as Markdown: its sections become lists."""
    lines, within = [], False
    for line in inspect.cleandoc(doc).split("\n"):
        if section := SECTION.match(line):
            lines += ["", f"*{section[1]}*", ""]
            within = True
        elif within and (item := ITEM.match(line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif within and line.startswith("    "):
            lines.append("  " + line.strip())
        else:
            within = within and not line.strip()
            lines.append(line)
    return "\n".join(lines)


def signature(name: str, thing: Any) -> str:
    """How it is called, one parameter a line where it is long."""
    called = inspect.signature(thing)
    parts, keywords = [], False
    for one in called.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not keywords:
            parts.append("*")
        keywords = keywords or one.kind in {one.KEYWORD_ONLY, one.VAR_POSITIONAL}
        if one.name not in {"self", "cls"}:
            parts.append(parameter(one))
    back = called.return_annotation
    told = "" if inspect.isclass(thing) or back in {"None", inspect.Signature.empty} else back
    arrow = f" -> {told}" if told else ""
    line = f"{name}({', '.join(parts)}){arrow}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"
    return f"```text\n{line}\n```"


def parameter(one: inspect.Parameter) -> str:
    """A parameter with its type and default; defaults that are objects are an ellipsis."""
    star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    kind = "" if one.annotation is one.empty else f": {one.annotation}"
    if one.default is one.empty:
        return f"{star}{one.name}{kind}"
    plain = isinstance(one.default, str | int | float | tuple | None)
    return f"{one.name}{kind} = {one.default!r}" if plain else f"{one.name}{kind} = …"


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class documents, its own and those of its bases here."""
    seen = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("coreml_lab"):
            continue
        for name, thing in vars(base).items():
            if not name.startswith("_") and name not in seen and _documented(thing):
                seen.add(name)
                yield name, thing


def _documented(thing: Any) -> bool:
    plain = getattr(thing, "__func__", thing)
    shown = isinstance(plain, property) or inspect.isfunction(plain)
    return shown and bool(inspect.getdoc(plain))


def member(name: str, thing: Any) -> str:
    """A method or property: its signature, then its docstring."""
    plain = getattr(thing, "__func__", thing)
    head = f"**{name}**" if isinstance(plain, property) else signature(name, plain)
    return f"{head}\n\n{markdown(inspect.getdoc(plain) or '')}\n"


def source(thing: Any) -> str:
    """The file of the repository that defines it."""
    module = thing.__name__ if inspect.ismodule(thing) else thing.__module__
    file = Path(inspect.getfile(importlib.import_module(module)))
    return str(file.relative_to(Path(cl.__file__).parents[1]))


def entry(name: str) -> str:
    """The section of a public name."""
    thing = found(name)
    shown = name if name.startswith("cl.") else name.rpartition(".")[2]
    parts = [f"### {shown}", ""]
    if not inspect.ismodule(thing):
        parts += [signature(shown, thing), ""]
    parts += [markdown(inspect.getdoc(thing) or ""), "", f"Source: `{source(thing)}`", ""]
    if inspect.ismodule(thing):
        parts += [member(*m) for m in _of_module(thing)]
    elif inspect.isclass(thing):
        parts += [member(*m) for m in members(thing)]
    return "\n".join(parts)


def _of_module(module: Any) -> list[tuple[str, Any]]:
    """Public functions that a module itself defines."""
    return [
        (name, thing)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and name[0] != "_"
    ]
