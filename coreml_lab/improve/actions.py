"""Actions: what a suggestion's ``Action`` means, carried out on a copy of the model's package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import UnknownParameter
from coreml_lab.program import mil
from coreml_lab.records import Action

Apply = Callable[[Path, Path, Mapping[str, Any]], None]


def _int8_weights(package: Path, target: Path, arguments: Mapping[str, Any]) -> None:
    mil.compress(package, target, method="int8_weights", arguments=arguments)


# Action -> what writes the changed copy of a package.
ACTIONS: dict[str, Apply] = {"int8_weights": _int8_weights}


def apply(action: Action, package: Path, folder: Path) -> Path:
    """Write a changed copy of ``package`` into ``folder``; the original is not touched.

    Raises:
        UnknownParameter: for an action there is not.
        CompileError: where coremltools refuses it.
    """
    if action.name not in ACTIONS:
        raise UnknownParameter(
            f"there is no action {action.name!r}", hint="one of " + ", ".join(ACTIONS)
        )
    target = folder / f"{package.stem}_{action.name}.mlpackage"
    ACTIONS[action.name](package, target, action.arguments)
    return target


def size(package: Path) -> int:
    """Bytes of a package, or of a file."""
    files = package.rglob("*") if package.is_dir() else (package,)
    return sum(file.stat().st_size for file in files if file.is_file())
