"""Starts from nothing: how long a program takes to load and to run once, cold and warm.

Cold: nothing compiled is in the cache on disk. Warm: everything is. Both load it anew in this
process, whose libraries are loaded; the operating system may hold the files in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self, runtime_checkable

from coreml_lab import config
from coreml_lab.circumstances import Stage, Start
from coreml_lab.errors import InputError
from coreml_lab.measure.recorder import inference


@runtime_checkable
class Repeatable(Protocol):
    """A model that can be loaded once more."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """How long the steps of loading it took, and its first run."""
        ...

    def predict(self, inputs: Mapping[str, Any], /) -> Mapping[str, Any]:
        """One inference."""
        ...

    def again(self) -> Self:
        """The same, loaded anew."""
        ...


def starts(model: object, inputs: Mapping[str, Any], count: int) -> Iterator[Start]:
    """``count`` cold starts and as many warm ones, in turns; a first warm one fills the cache.

    Raises:
        InputError: for a model that cannot be loaded once more.
    """
    if not isinstance(model, Repeatable):
        raise InputError(
            f"{type(model).__name__} cannot be loaded once more: no cold starts", hint="cold=0"
        )
    with tempfile.TemporaryDirectory() as warm:
        _once(model, inputs, warm)
        for _ in range(count):
            with tempfile.TemporaryDirectory() as empty:
                yield Start(False, _once(model, inputs, empty))
            yield Start(True, _once(model, inputs, warm))


def _once(model: Repeatable, inputs: Mapping[str, Any], folder: str) -> tuple[Stage, ...]:
    with config.configure(cache_dir=folder):
        fresh = model.again()
        inference(fresh, inputs)()
        return fresh.stages
