"""Every message of every error, with what to try: read from the places that raise them."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from coreml_lab import errors

CODE = Path(__file__).parents[1] / "coreml_lab"
UNKNOWN = "…"


def kinds() -> dict[str, type[errors.LabError]]:
    """Every error, by its name, in the order of their module."""
    found = vars(errors).values()
    return {k.__name__: k for k in found if isinstance(k, type) and issubclass(k, errors.LabError)}


def template(node: ast.expr | None, constants: dict[str, str]) -> str:  # noqa: PLR0911 - a case each
    """A message as text: in braces what its f-string names, an ellipsis where it is computed."""
    match node:
        case None:
            return ""
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(template(part, constants) for part in parts)
        case ast.FormattedValue(value=inner):
            return constants.get(ast.unparse(inner), "{" + ast.unparse(inner) + "}")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left, constants) + template(right, constants)
        case ast.Name(id=name):
            return constants.get(name, UNKNOWN)
    return UNKNOWN


def constants_of(tree: ast.Module) -> dict[str, str]:
    """The texts that a module gives names to."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def raised(source: str) -> Iterator[tuple[str, str, str]]:
    """Kind, message and hint of each error that a module makes."""
    tree = ast.parse(source)
    constants, known = constants_of(tree), kinds()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        kind = ast.unparse(node.func).rpartition(".")[2]
        hint = next((k.value for k in node.keywords if k.arg == "hint"), None)
        message = template(node.args[0], constants)
        # What is computed as a whole tells a reader nothing.
        if kind in known and re.search("[a-z]{2}", re.sub(r"\{[^}]*\}", "", message)):
            yield kind, " ".join(message.split()), " ".join(template(hint, constants).split())


def collected() -> dict[str, list[tuple[str, str]]]:
    """Every message and hint in the code, by the kind of error."""
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in kinds()}
    for file in sorted(CODE.rglob("*.py")):
        for kind, message, hint in raised(file.read_text(encoding="utf-8")):
            found[kind].add((message, hint))
    return {kind: sorted(told) for kind, told in found.items()}


def code(text: str) -> str:
    """Text as code in a cell of a table; nothing for nothing."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`" if text else ""


@functools.cache
def tables() -> str:
    """A section for each kind of error: what it is, then its messages and what to try."""
    lines = []
    for name, told in collected().items():
        lines += [f"### {name}", "", (inspect.getdoc(kinds()[name]) or "").partition("\n")[0], ""]
        if told:
            lines += ["| message | what to try |", "| --- | --- |"]
            lines += [f"| {code(text)} | {code(hint)} |" for text, hint in told]
            lines.append("")
    return "\n".join(lines)
