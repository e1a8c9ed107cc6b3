"""What the measuring functions are given: a model that runs, or an error that says what to give."""

from __future__ import annotations

import os
from collections.abc import Mapping

from coreml_lab.errors import InputError


def runnable(model: object, verb: str) -> None:
    """Refuse what is no model: a path, or the inputs in its place.

    Raises:
        InputError: where it has no ``predict``.
    """
    if callable(getattr(model, "predict", None)):
        return
    hint = f"cl.{verb}(cl.load('net.mlpackage'), {{'x': array}})"
    if isinstance(model, str | os.PathLike):
        hint = f"cl.{verb}(cl.load({os.fspath(model)!r}), inputs)"
    elif isinstance(model, Mapping):
        hint = f"the model comes first: cl.{verb}(model, inputs)"
    raise InputError(f"{verb} takes a model, not a {type(model).__name__}", hint=hint)
