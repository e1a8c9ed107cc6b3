"""Further stages of a comparison: throughput by batch size, memory and loading, energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coreml_lab.errors import InputError, LabError
from coreml_lab.explain.comparison_arms import Candidate
from coreml_lab.explain.comparison_study import Study
from coreml_lab.measure.blocks import Block, sized
from coreml_lab.measure.model_memory import planned
from coreml_lab.measure.rounds import rounds
from coreml_lab.records import PortInfo

# Rounds per batch size: enough for an interval that shares its error with many others.
ROUNDS = 12
FIXED = (
    "its batch is fixed at {}: flexible shapes are the model's maker's choice (cl.spec, cl.edit)"
)


def batches(study: Study) -> None:
    """Every arm that takes so many examples, in turns; one batch size after the other."""
    for place, size in enumerate(study.sizes):
        if study.late:
            study.unfinished[f"batch {size}"] = study.spent
            continue
        feeds = {}
        for arm in study.arms:
            try:
                feeds[arm.name] = batched(arm, study.inputs, size)
            except InputError as error:
                study.refused.setdefault(arm.name, {})[size] = error.message
        if feeds:
            _rounds(study, size, feeds, 1 / (len(study.sizes) - place))
        study.tell("batches", (place + 1) / len(study.sizes))


def batched(arm: Candidate, inputs: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The inputs with that many examples: the given ones, again and again.

    Raises:
        InputError: where the model does not take so many, or its inputs are no arrays.
    """
    ports = {port.name: port for port in arm.model.info.inputs}
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    if any(array.ndim == 0 or array.dtype == object for array in arrays.values()):
        raise InputError("its inputs are not arrays with a first dimension")
    for name, array in arrays.items():
        if array.shape[0] != size:
            _allow(ports[name], array.shape, size, arm.model.info.dims)
    return {name: array[np.arange(size) % len(array)] for name, array in arrays.items()}


def _allow(
    port: PortInfo, shape: tuple[int, ...], size: int, dims: Mapping[str, tuple[int, int]]
) -> None:
    first = port.shape[0] if port.shape else 0
    if port.enumerated:
        allowed = sorted({s[0] for s in port.enumerated if s[1:] == shape[1:]})
        if size not in allowed:
            raise InputError(f"it takes batches of {', '.join(map(str, allowed))} only")
    elif not isinstance(first, str):
        raise InputError(FIXED.format(first))
    else:
        low, high = dims.get(first, (1, 0))
        if size < low or (high and size > high):
            raise InputError(f"its batch is {low} to {high}" if high else f"its batch is {low} up")


def _rounds(study: Study, size: int, feeds: Mapping[str, Mapping[str, Any]], share: float) -> None:
    """Some rounds within a share of what the stage has left."""
    end = study.clock.now_ns() + share * study.left * 1e9
    arms = [arm for arm in study.arms if arm.name in feeds and _takes(study, arm, feeds, size)]
    works = [arm.work(feeds[arm.name]) for arm in arms]
    if not works:
        return
    block = sized(works, study.clock, warmup=2)
    block = Block(min(block.settle, 5), min(block.repeats, 20))
    found = study.batches.setdefault(size, (tuple(a.name for a in arms), []))[1]
    for row in rounds(works, block, clock=study.clock, cpu=study.tools.cpu):
        found.append(row)
        if len(found) >= ROUNDS or study.clock.now_ns() > end:
            return


def _takes(study: Study, arm: Candidate, feeds: Mapping[str, Mapping[str, Any]], size: int) -> bool:
    """Whether the arm really runs on so many; a first run, which may prepare it for them."""
    try:
        arm.work(feeds[arm.name])()
    except LabError as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        study.refused.setdefault(arm.name, {})[size] = error.message
        return False
    return True


def memory(study: Study) -> None:
    """Each arm in processes of its own; and, by exact sizes, what its values take."""
    for place, arm in enumerate(study.arms):
        study.plans[arm.name] = planned(arm.model, study.inputs)
        share = study.left / (len(study.arms) - place)
        try:
            for seen in study.tools.alone(arm.model, study.inputs, share):
                study.alone[arm.name] = (*study.alone.get(arm.name, ()), seen)
                study.tell("memory", (place + len(study.alone[arm.name]) / 2) / len(study.arms))
        except LabError as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            study.reasons["memory", arm.name] = error.message


def energy(study: Study) -> None:
    """Joules of an inference, one arm after the other: counters are not told apart by arm."""
    for place, arm in enumerate(study.arms):
        if study.late or not study.left:
            study.reasons["energy", arm.name] = study.spent
            continue
        share = study.left / (len(study.arms) - place)
        try:
            study.joules[arm.name] = study.tools.joules(arm.model, study.inputs, share)
        except LabError as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            study.reasons["energy", arm.name] = error.message
        study.tell("energy", (place + 1) / len(study.arms))
