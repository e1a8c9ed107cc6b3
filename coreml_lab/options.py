"""Options of the command line, out of the signatures and docstrings of the functions they call."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

Function = Callable[..., Any]
# Spellings that people try first.
ALIASES = {"folder": ("--dir", "--folder")}
METAVARS: Mapping[Any, str] = {Path: "FILE", str: "TEXT", int: "N", float: "N"}
# Parameters that only a program can give.
INTERNAL = frozenset({"progress", "clock"})


def names(text: str) -> tuple[str, ...]:
    """``a,b`` as a tuple."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


KINDS: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "float | str": str,
    "str": str,
    "str | Path": str,
    "str | Engine": str,
    "bool": bool,
    "Sequence[str]": names,
    "Sequence[str] | str": names,
    "str | Sequence[str]": names,
}


def derived(function: Function, *, prefix: str = "", taken: Sequence[str] = ()) -> dict[str, Any]:
    """Parameters of a public function as options: name -> ``inspect.Parameter``, keyword only.

    What text cannot give (an array, a callback) is no option. The sentence of an option is that of
    the docstring.

    Args:
        function: a public function; its docstring has an ``Args`` section.
        prefix: put before a name that is taken: ``--profile-precision``.
        taken: names that other options have.
    """
    said = sentences(function)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = _kind(parameter)
        if kind is None or name in INTERNAL:
            continue
        called = f"{prefix}_{name}" if name in taken else name
        default = None if parameter.default is parameter.empty else parameter.default
        found[name] = inspect.Parameter(
            called,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, said.get(name, "")],
        )
    return found


def _kind(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return None
    written = str(parameter.annotation).removesuffix(" | None")
    known = KINDS.get(written)
    if known is None and written == "Any" and isinstance(parameter.default, str):
        return str
    return known


def sentences(function: Function) -> dict[str, str]:
    """What the ``Args`` section of a docstring says of each parameter: its first sentence."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", text, re.MULTILINE)
    entries = re.findall(
        r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE
    )
    return {name: _first(" ".join(said.split())) for name, said in entries}


def _first(said: str) -> str:
    return re.split(r"\.(?= [A-Z]|$)|; ", said)[0].replace("`", "")


class LateParser(argparse.ArgumentParser):
    """A parser whose options are found when it is used: some functions are slow to import."""

    fill: Callable[[LateParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ``argparse``, with the options."""
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self)
        return super().parse_known_args(args, namespace)


def parameters(command: Function) -> list[inspect.Parameter]:
    """The parameters of a command, their annotations evaluated."""
    told = getattr(command, "parameters", None)
    if told is not None:
        return list(told())
    hints = get_type_hints(command, include_extras=True)
    found = inspect.signature(command).parameters.values()
    return [parameter.replace(annotation=hints[parameter.name]) for parameter in found]


def add_options(sub: argparse.ArgumentParser, command: Function) -> None:
    """The parameters of a command as options of its parser."""
    for parameter in parameters(command):
        kind, said = explained(parameter.annotation)
        _add(sub, parameter, kind, said.replace("%", "%%"))


def _add(sub: argparse.ArgumentParser, parameter: inspect.Parameter, kind: Any, said: str) -> None:
    name, default = parameter.name, parameter.default
    flag = "--" + name.replace("_", "-")
    if parameter.kind is parameter.VAR_POSITIONAL:
        sub.add_argument(name, nargs="+", metavar=name.upper(), type=kind, help=said)
    elif kind is bool:
        sub.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=said)
    elif get_origin(kind) is Literal:
        sub.add_argument(name, nargs="?", choices=get_args(kind), default=default, help=said)
    elif name in ALIASES:
        sub.add_argument(*ALIASES[name], dest=name, metavar=name.upper(), type=Path, help=said)
    elif get_origin(kind) is not Sequence:
        shown = ",".join(default) if isinstance(default, tuple) else default
        given = f" (default {shown})" if said and default not in {None, ()} else ""
        metavar = METAVARS.get(kind, "A,B")
        sub.add_argument(flag, type=kind, default=default, help=f"{said}{given}", metavar=metavar)


def explained(hint: Any) -> tuple[Any, str]:
    """The type of an option, and what is said about it."""
    said = ""
    if get_origin(hint) is Annotated:
        hint, said = get_args(hint)
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    optional = len(kinds) == 1 and NoneType in get_args(hint)
    return (kinds[0] if optional else hint), said
