"""What the explaining functions are given: a recording, its file, or an error that says which."""

from __future__ import annotations

import os

from coreml_lab.errors import InputError
from coreml_lab.explain.shown import Shown
from coreml_lab.records import Recording

Given = Recording | str | os.PathLike[str]


def recorded(given: object, verb: str) -> Recording:
    """A recording, also where its file is named.

    Raises:
        InputError: where it is something else, such as the model itself.
        ModelError: where the file is no recording.
    """
    if isinstance(given, Recording):
        return given
    if isinstance(given, str | os.PathLike):
        return Recording.load(given)
    hint = "cl.profile(model, inputs) makes one"
    if "recording" in dir(given):  # a profile, a report
        hint = f"give its .recording: cl.{verb}(p.recording)"
    raise InputError(f"{verb} takes a recording, not a {type(given).__name__}", hint=hint)


def result(given: object) -> Shown:
    """Something that a report can hold besides.

    Raises:
        InputError: where it has no page.
    """
    if isinstance(given, Shown):
        return given
    raise InputError(
        f"a report holds results besides its recording, not a {type(given).__name__}",
        hint="cl.report(recording, cl.placement(model), cl.energy(model, inputs))",
    )
