"""Which arms a comparison has: models times devices, those that are here and why others are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coreml_lab.errors import EngineUnavailable, LabError
from coreml_lab.measure.given import runnable
from coreml_lab.measure.recorder import Subject
from coreml_lab.run import devices

# What "gpu" stands for: the first of these that is here.
GPUS = ("cuda", "metal", "opencl")
INSTALL = {
    "cuda": "a machine with an NVIDIA GPU and its driver, and pip install 'coreml-lab[torch]'",
    "metal": "a Mac, and pip install 'coreml-lab[torch]'",
    "opencl": "an OpenCL driver, and pip install 'coreml-lab[opencl]'",
}


class Movable(Subject, Protocol):
    """A model that can go to another device."""

    def to(self, device: str, /) -> Movable:
        """The same model there."""
        ...


Models = Movable | Sequence[Movable] | Mapping[str, Movable]


@dataclass(frozen=True)
class Absent:
    """An arm that was asked for and cannot be measured here.

    Attributes:
        reason: why, in the words of whoever refused.
        hint: what to install, or what else to try.
    """

    name: str
    device: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Candidate:
    """An arm that is here: a model on a device.

    Attributes:
        name: what tells it from the other arms: its model, its device, or both.
        label: the model's name in the comparison.
        device: as it was asked for.
    """

    name: str
    label: str
    device: str
    model: Movable

    def work(self, inputs: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
        """One inference, again and again; a model with states goes on with the same ones."""
        predict: Any = self.model.predict
        if not getattr(self.model, "states", None):
            return lambda: predict(inputs)
        state = self.model.make_state()  # type: ignore[attr-defined]
        return lambda: predict(inputs, state)


def resolved(
    models: Models, places: Sequence[str] | str
) -> tuple[tuple[Candidate, ...], tuple[Absent, ...]]:
    """The arms that are here, in the order in which they were asked for, and those that are not.

    Raises:
        LabError: where fewer than two were asked for.
    """
    named = labelled(models)
    where = _places(named, places)
    asked = [(label, model, place) for label, model in named.items() for place in where]
    if len(asked) < 2:  # noqa: PLR2004 - two sides
        told = [place or "where it is" for _, _, place in asked]
        raise LabError(
            f"compare needs two devices, or two models, not {told}",
            hint='devices=["coreml", "cpu"], or a list of two models',
        )
    here: list[Candidate] = []
    absent: list[Absent] = []
    for label, model, place in asked:
        shown = place or model.plan.device
        name = shown if len(named) == 1 else label if len(where) == 1 else f"{label}, {shown}"
        found = _moved(name, label, model, place)
        (here if isinstance(found, Candidate) else absent).append(found)  # type: ignore[arg-type]
    return tuple(here), tuple(absent)


def labelled(models: Models) -> dict[str, Movable]:
    """Models by name; those of a list by their own, with a number where two are called the same."""
    if isinstance(models, Mapping):
        for model in models.values():
            runnable(model, "compare")
        return dict(models)
    if isinstance(models, str) or not isinstance(models, Sequence):
        runnable(models, "compare")
        return {models.info.name: models}
    found: dict[str, Movable] = {}
    for model in models:
        runnable(model, "compare")
        name, number = model.info.name, 2
        while name in found:
            name, number = f"{model.info.name} ({number})", number + 1
        found[name] = model
    return found


def _places(named: Mapping[str, Movable], places: Sequence[str] | str) -> tuple[str | None, ...]:
    """Where each model is to run; None is where it is already."""
    if not places:
        return (None,) if len(named) > 1 else ("coreml", "gpu", "cpu")
    return tuple(dict.fromkeys([places] if isinstance(places, str) else places))


def _moved(name: str, label: str, model: Movable, place: str | None) -> Candidate | Absent:
    if place == "gpu":
        return _first_gpu(name, label, model)
    try:
        moved = model if place is None else model.to(place)
    except LabError as error:
        return Absent(name, place or "", _reason(error), _hint(place or "", error))
    return Candidate(name, label, place or moved.plan.device, moved)


def _first_gpu(name: str, label: str, model: Movable) -> Candidate | Absent:
    """The first of CUDA, Metal and OpenCL that takes the model."""
    reasons, hint = [], ""
    for kind in GPUS:
        found = _moved(name, label, model, kind)
        if isinstance(found, Candidate):
            device = found.model.plan.device
            if kind != "opencl" or devices.device(device).is_gpu:
                return Candidate(name, label, device, found.model)
            why = f"{found.model.plan.title} is no graphics processor"
            found = Absent(name, kind, why, 'devices=["opencl"] runs it nevertheless')
        reasons.append(f"{kind}: {found.reason}")
        hint = hint or found.hint
    return Absent(name, "gpu", "; ".join(reasons), hint)


def _reason(error: LabError) -> str:
    return error.reason if isinstance(error, EngineUnavailable) else error.message


def _hint(device: str, error: LabError) -> str:
    """What to install where the device is missing; else what the error itself advises."""
    missing = INSTALL.get(device.partition(":")[0], "")
    return missing if missing and isinstance(error, EngineUnavailable) else error.hint
