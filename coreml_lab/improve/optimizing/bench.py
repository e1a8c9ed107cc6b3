"""What candidates are measured with: files made, results compared, runs timed in turns."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from coreml_lab.errors import InputError, ProbeError
from coreml_lab.improve.actions import size
from coreml_lab.improve.editing import Edit
from coreml_lab.improve.islands import loss_model
from coreml_lab.improve.losses import loss as lost
from coreml_lab.improve.optimizing.footprint import footprint
from coreml_lab.improve.optimizing.ledger import Evidence
from coreml_lab.improve.reference import inference
from coreml_lab.improve.spent import Spent, energy_of
from coreml_lab.improve.tuning.evaluation import DATA, save_samples
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.measure.paired import interleave, ratio
from coreml_lab.program.graph import Array

# Actions after which the file computes in fp16.
HALVED = frozenset({"float16", "w8a8"})
# Files that are there for the next candidates, which begin like those before them.
KEPT = 4
Metric = Callable[[Any], float]


def _worse(loss: float) -> float:
    return loss if loss == loss else np.inf  # noqa: PLR0124 - NaN is the worst of all


@dataclass
class Bench:
    """What candidates are measured with.

    Attributes:
        edit: the original.
        memory: whether memory is asked for each candidate, which takes a process each.
        energy: whether energy is measured for each, which takes ``seconds`` more.
    """

    edit: Edit
    data: list[dict[str, Array]]
    metric: Metric | None
    pairs: int
    seconds: float
    memory: bool
    energy: bool = False

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="coreml_lab_optimize_"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._built: dict[str, Edit] = {}
        self.original = self.edit.model
        if self.energy and self.original.states:
            raise InputError(
                f"{self.edit.name} has states: its energy is not measured",
                hint='another goal: "latency", "size", "memory"',
            )
        self._want = self._results(self.original)
        self._score = self.metric(self.original) if self.metric else 0.0
        save_samples(self.folder, self.data)

    @property
    def feeds(self) -> list[dict[str, Array]]:
        """The data as the program takes them."""
        return [self.original.feeds(each) for each in self.data]

    def made(self, configuration: Configuration) -> Edit:
        """A copy of the original with a configuration's actions."""
        edit = self.edit
        for count, action in enumerate(configuration.actions, 1):
            key = Configuration(configuration.actions[:count]).build
            if key not in self._built:
                self._built[key] = edit.copy().apply(action, data=self.data)
            edit = self._built[key]
        for key in list(self._built)[:-KEPT]:
            del self._built[key]
        return edit

    def evidence(
        self, edit: Edit, settings: Mapping[str, Any], before: Any, *, memory: bool
    ) -> Evidence:
        """What a changed model is like, beside the one before it."""
        model = edit.load(settings)
        loss = self._loss(model)
        if any(step.action.name in HALVED for step in edit.steps):
            # Our engines compute in fp32 what Apple's hardware does in fp16: there it must hold.
            half = loss_model(lambda how: edit.load({**settings, **how}))
            loss = loss if half is None else max(loss, self._loss(half), key=_worse)
        mine, others = (Spent(inference(each, self.data[0])) for each in (model, before))
        found = interleave(mine, others, pairs=self.pairs, seconds=self.seconds)
        times = ratio(found)
        held, unknown = self.held(edit, settings) if memory else ((), "not asked for")
        energy = energy_of(model, self.data[0], self.seconds) if self.energy else None
        return Evidence(
            size(edit.file),
            times.value,
            times.low,
            times.high,
            float(np.median(found.arm)) / 1e9,
            float(np.median(found.baseline)) / 1e9,
            loss,
            int(median(held)) if held else None,
            unknown,
            mine.ratio(others, len(found.arm)),
            energy.above if energy else None,
            held,
            energy.gross if energy else None,
        )

    def _loss(self, model: Any) -> float:
        if self.metric:
            return self._score - float(self.metric(model))
        return lost(self._results(model), self._want, self.original.info)

    def _results(self, model: Any) -> list[Mapping[str, Any]]:
        """What a model makes of each of the data; states begin anew each time."""
        return [inference(model, each)() for each in self.data]

    def held(self, edit: Edit, settings: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
        """Bytes beyond an idle process, several times, or why they are not known."""
        try:
            function = "" if edit.steps else edit.function
            found = footprint(
                edit.file,
                self.folder / DATA,
                function=function,
                device=edit.device,
                settings=settings,
            )
        except ProbeError as failure:
            return (), failure.message
        return found, ""
