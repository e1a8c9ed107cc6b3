"""What may follow ``%coreml``: words, options and expressions, out of a function's signature."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from IPython.core.error import UsageError

from coreml_lab.options import INTERNAL, names, sentences

# Spellings that people try first.
SHORT = {"runs": "-n"}
OPENING, CLOSING, QUOTES = "([{", ")]}", "\"'"


class _Parser(argparse.ArgumentParser):
    """Wrong options are a ``UsageError``: one line and the usage, no traceback."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        del status, message
        raise HelpShown


class HelpShown(Exception):
    """Help was printed; there is nothing to run."""


def words_of(
    function: Callable[..., Any], title: str, only: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser of what a function takes, and of ``-o NAME``.

    Args:
        function: what is called in the end.
        title: how it is called in a notebook.
        only: for a cell: the names of its options; it runs once, unless ``-n`` says more.
    """
    result = _Parser(
        prog=title,
        description=inspect.getdoc(function),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints, said = _hints(function), sentences(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in INTERNAL and (not only or name in only):
            _add(result, parameter, hints.get(name), said.get(name, "").replace("%", "%%"))
    if only:
        result.set_defaults(runs=1, warmup=0)
    result.add_argument("-o", dest="-o", metavar="NAME", help="keep the result in this variable")
    return result


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations, where they can be had: a class's are those of its maker, and may be late."""
    try:
        return get_type_hints(function)
    except NameError:
        return {}


def _add(
    result: argparse.ArgumentParser, parameter: inspect.Parameter, hint: Any, said: str
) -> None:
    name, default = parameter.name, parameter.default
    flags = [SHORT[name]] if name in SHORT else []
    flags.append("--" + name.replace("_", "-"))
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    given = f"{said} (default {shown})".strip()
    option: dict[str, Any] = {"dest": name, "default": default, "metavar": "VALUE", "help": given}
    if parameter.kind is parameter.VAR_POSITIONAL:
        kind, metavar = (str, "NAME=VALUE") if hint is str else (Expression, name)
        result.add_argument(name, nargs="*", metavar=metavar, type=kind, help=said)
    elif parameter.kind is parameter.VAR_KEYWORD:
        return
    elif get_origin(hint) is Literal:
        choices = get_args(hint)
        result.add_argument(name, nargs="?", choices=choices, default=default, help=said)
    elif isinstance(default, bool):
        action = argparse.BooleanOptionalAction
        result.add_argument(*flags, dest=name, action=action, default=default, help=said)
    elif isinstance(default, tuple):
        result.add_argument(*flags, **option | {"type": names, "metavar": "A,B"})
    elif isinstance(default, int | float | str):
        several = isinstance(default, str) and "Sequence[str]" in str(parameter.annotation)
        result.add_argument(
            *flags, **option | {"type": one_or_several if several else type(default)}
        )
    elif number := next((k for k in (int, float) if hint == k | None), None):
        result.add_argument(*flags, **option | {"type": number, "help": said})
    elif parameter.kind is parameter.KEYWORD_ONLY:
        read, shown = _given(parameter, hint)
        result.add_argument(*flags, dest=name, default=None, type=read, metavar=shown, help=said)
    else:
        nargs = None if default is parameter.empty else "?"
        result.add_argument(name, nargs=nargs, type=Expression, default=None, help=said)


def _given(parameter: inspect.Parameter, hint: Any) -> tuple[Callable[[str], Any], str]:
    """How an option without a default is read: words, text, or an expression for all else."""
    if "Sequence[str]" in str(parameter.annotation):
        return names, "A,B"
    if hint is None or str in {hint, *get_args(hint)}:
        return str, "NAME"
    return Expression, "EXPRESSION"


def one_or_several(text: str) -> str | tuple[str, ...]:
    """``a`` as it stands, ``a,b`` as a tuple."""
    found = names(text)
    return found if len(found) > 1 else text


class Expression(str):
    """The text of an argument that is to be evaluated in the user's namespace."""

    __slots__ = ()


def split(line: str) -> list[str]:
    """Words between blanks; brackets and quotes keep theirs: ``m {'x': a} -n 5`` is four.

    A semicolon at the end belongs to none: IPython shows nothing for it.

    Raises:
        UsageError: for a bracket or quote without its partner.
    """
    words, word, depth, quote = [], "", 0, ""
    for sign in line.rstrip().removesuffix(";") + " ":
        if quote:
            quote = "" if sign == quote else quote
        elif sign in QUOTES:
            quote = sign
        elif sign.isspace() and not depth:
            words += [word] if word else []
            word = ""
            continue
        else:
            depth += (sign in OPENING) - (sign in CLOSING)
        word += sign
    if quote or depth or word.strip():
        raise UsageError(f"a bracket or quote has no partner: {line.strip()}")
    return words
