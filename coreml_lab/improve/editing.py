"""edit(): actions applied to a copy of a model, one after the other, and taken back."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from coreml_lab import config
from coreml_lab.errors import InputError, LabError, ModelError
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.improve.actions import KINDS, Samples, apply, size
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program import mil
from coreml_lab.program.graph import Array
from coreml_lab.records import Action
from coreml_lab.run.classical import NAME as CLASSICAL

# Settings that loading takes itself; the others are those of ``cl.configure``.
LOADING = frozenset({"engine", "device", "precision", "compute_units"})


@dataclass(frozen=True)
class Step:
    """An action that was applied, the file that came of it, and coremltools' remarks."""

    action: Action
    package: Path
    remarks: tuple[str, ...] = ()


class Edit(Shown):
    """A model and what was done to copies of it; the model's own file is never touched.

    Attributes:
        steps: the actions so far, the oldest first.
        name: what the model is called.
        function: which function of the model's file it is.
        device: where the model runs.
    """

    def __init__(self, package: Path, *, name: str, function: str, device: str) -> None:
        self.steps: tuple[Step, ...] = ()
        self.name, self.function, self.device = name, function, device
        self._original = package
        self._folder = Path(tempfile.mkdtemp(prefix="coreml_lab_"))
        self._cleanup = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @classmethod
    def of(cls, model: Any) -> Self:
        """See ``edit``."""
        if isinstance(model, str | os.PathLike):
            from coreml_lab.run import compiler  # noqa: PLC0415

            model = compiler.load(Path(model))
        if not hasattr(model, "plan") or not hasattr(model, "info"):
            raise InputError(
                f"a model or the path of one is needed, not a {type(model).__name__}",
                hint="the model comes first, then the data",
            )
        info = model.info
        if model.plan.engine == CLASSICAL:
            raise ModelError(
                f"{info.name} is a {info.ops[0].op}: changes are made to operations of programs",
                hint="train it smaller, or convert it as an ML Program",
            )
        return cls(
            Path(info.package), name=info.name, function=info.function, device=model.plan.device
        )

    def copy(self) -> Self:
        """Another edit that begins where this one is."""
        given = {"name": self.name, "function": self.function, "device": self.device}
        made = type(self)(self._original, **given)
        made.steps = self.steps
        weakref.finalize(made, _keep, self)
        return made

    @property
    def package(self) -> Path:
        """The file as it is now, there until Python ends: ``save`` keeps one."""
        if self._cleanup.detach() is not None:
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        return self.file

    @property
    def file(self) -> Path:
        """The same, gone with this object."""
        return self.steps[-1].package if self.steps else self._original

    @property
    def model(self) -> Any:
        """The model as it is now, loaded."""
        return self.load({})

    def load(self, settings: Mapping[str, Any]) -> Any:
        """The model as it is now, loaded with settings such as ``engine`` and ``threads``."""
        from coreml_lab.run import compiler  # noqa: PLC0415 - editing alone needs no engine

        function = None if self.steps else self.function or None
        loading = {"device": self.device, **{k: v for k, v in settings.items() if k in LOADING}}
        others = {k: v for k, v in settings.items() if k not in LOADING}
        with config.configure(**others):
            model = compiler.load(self.file, function=function, **loading)
        # Its files stay as long as it does.
        weakref.finalize(model, _keep, self)
        return model

    def apply(
        self, action: str | Action, *, data: Samples | Mapping[str, Array] = (), **arguments: Any
    ) -> Self:
        """Do one thing more: an action by its name, with its arguments.

        Args:
            action: its name, or a suggestion's ``action``.
            data: inputs, or several, for actions that calibrate; ``float16`` keeps in fp32 what
                overflows on them, and its step names it.
            arguments: the action's own, named as in coremltools.

        Raises:
            UnknownParameter: for an action there is not, or one of its arguments.
            CompileError: where it does not fit this model; nothing is changed then.
        """
        named = Action(action) if isinstance(action, str) else action
        named = Action(named.name, {**named.arguments, **arguments})
        samples = (data,) if isinstance(data, Mapping) else data
        place = Path(tempfile.mkdtemp(dir=self._folder))
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, place, ignore_errors=True)
            made = apply(named, self.file, place, samples, name=self.name)
            undo.pop_all()
        self.steps = (*self.steps, Step(made.action, made.package, made.remarks))
        return self

    def undo(self) -> Self:
        """Take the last action back.

        Raises:
            LabError: where there is none.
        """
        if not self.steps:
            raise LabError("there is nothing to take back", hint="apply an action first")
        self.steps = self.steps[:-1]
        return self

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as it is now to a new ``.mlpackage``; its page to ``.html`` or ``.md``.

        Raises:
            LabError: where there is a package already.
        """
        target = Path(path)
        if target.suffix != ".mlpackage":
            return super().save(target)
        if target.exists():
            raise LabError(
                f"{target} exists already", hint="give a new name: nothing is overwritten"
            )
        mil.copy(self.file, target, function="" if self.steps else self.function)
        return target

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        before = size(self._original)
        rows: list[tuple[Cell, ...]] = [("as it was", "", _bytes(before), "")]
        for step in self.steps:
            now = size(step.package)
            told = ", ".join(f"{k}={v!r}" for k, v in step.action.arguments.items())
            share = Quantity(now / before, "{ratio}", Provenance.MEASURED)
            rows.append((KINDS[step.action.name].title, told, _bytes(now), share))
        table = Table("Steps", ("action", "arguments", "size", "of the original"), tuple(rows))
        count = len(self.steps)
        remarks = tuple(f"{s.action.name}: {r}" for s in self.steps for r in s.remarks)
        return Page(f"{self.name}: {count} change{'s' * (count != 1)}", (table,), remarks)


def edit(model: Any) -> Edit:
    """Begin to change a copy of a model: ``cl.edit(model).apply("float16").apply("int8_weights")``.

    Args:
        model: a loaded model, or the path of one.

    Raises:
        ModelError: where there is no such file.
    """
    return Edit.of(model)


def _keep(_: Edit) -> None:
    """Hold on to an edit until now."""


def _bytes(count: int) -> Quantity:
    return Quantity(count, "By", Provenance.MEASURED)
