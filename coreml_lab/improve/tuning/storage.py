"""Where a study is kept, what it is of, and what an earlier call left in it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.errors import EngineUnavailable, LabError
from coreml_lab.improve.actions import Samples
from coreml_lab.improve.tuning.evaluation import Measured
from coreml_lab.improve.tuning.result import OBJECTIVES, Trial
from coreml_lab.improve.tuning.space import Configuration, Space
from coreml_lab.plain import from_plain, to_plain
from coreml_lab.run.devices import cpu_name

# What a study is of, as an attribute that Optuna keeps with it.
OF = "of"
OTHER = "give another name or another file: tune(storage=…, name=…)"


@dataclasses.dataclass(frozen=True)
class Study:
    """Optuna's study, and the trials that an earlier call left in it.

    Attributes:
        again: configurations that failed before, as Optuna's answers: they are tried once more.
    """

    asked: Any
    known: tuple[Trial, ...] = ()
    again: tuple[Mapping[str, Any], ...] = ()


def identity(
    key: str, function: str, data: Samples, metric: Any, objectives: Sequence[str]
) -> dict[str, str]:
    """What numbers of a study can be compared for: one model, data, metric, machine."""
    return {
        "model": f"{key} {function}".strip(),
        "data": _digest(data),
        "metric": coded(metric),
        "objectives": ", ".join(objectives),
        "machine": cpu_name(),
    }


def _digest(data: Samples) -> str:
    digest = hashlib.sha256()
    for number, each in enumerate(data):
        for name, array in sorted(each.items()):
            held = np.ascontiguousarray(array)
            digest.update(f"{number} {name} {held.dtype.str} {held.shape} ".encode())
            digest.update(held.tobytes())
    return digest.hexdigest()[:32]


def coded(metric: Any) -> str:
    """A metric by its name and what it does, which are the same in another process."""
    if metric is None:
        return ""
    named = getattr(metric, "__qualname__", type(metric).__qualname__)
    code = getattr(metric, "__code__", None)
    return named if code is None else f"{named} {hashlib.sha256(_code(code)).hexdigest()[:16]}"


def _code(code: Any) -> bytes:
    inner = [_code(c) if hasattr(c, "co_code") else repr(c).encode() for c in code.co_consts]
    return b" ".join([code.co_code, *inner, *(name.encode() for name in code.co_names)])


def opened(
    choices: Space,
    of: Mapping[str, str],
    *,
    objectives: Sequence[str],
    sampler: str,
    storage: str | None,
    name: str,
    seed: int,
    tolerance: float,
) -> Study:
    """A study, new or as it was left.

    Raises:
        LabError: where the storage cannot be opened, or holds another study of that name.
        EngineUnavailable: without Optuna.
    """
    optuna = _optuna()
    kinds = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}
    make = functools.partial(
        optuna.create_study,
        sampler=kinds[sampler](seed=seed),
        directions=["minimize"] * len(objectives),
    )
    if not storage:
        return Study(make())
    where = storage if "://" in storage else f"sqlite:///{storage}"
    asked, rows = _read(storage, lambda: make(storage=where, study_name=name, load_if_exists=True))
    _same(asked, of, f"study {name!r} in {storage}", bool(rows))
    _same_choices(rows, choices, f"study {name!r} in {storage}")
    known = [_stored(row, objectives, tolerance) for row in rows]
    return Study(
        asked,
        tuple(trial for trial in known if not trial.failure),
        tuple(r.params for r, trial in zip(rows, known, strict=True) if trial.failure),
    )


def _read(storage: str, make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    try:
        asked = make()
        rows = [t for t in asked.get_trials(deepcopy=False) if "configuration" in t.user_attrs]
        return asked, [row for row in rows if row.state.is_finished()]
    except Exception as error:  # each database raises errors of its own
        why = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise LabError(
            f"the study cannot be kept in {storage}: {why}",
            hint="a file in a folder that is there (study.db), or a database's URL",
        ) from error


def _same(asked: Any, of: Mapping[str, str], where: str, begun: bool) -> None:
    held = asked.user_attrs.get(OF)
    if held is None and not begun:
        asked.set_user_attr(OF, dict(of))
        return
    other = [key for key, value in of.items() if held is None or held.get(key) != value]
    if other:
        why = f"it is of another {' and '.join(other)}" if held else "it does not say what it is of"
        raise LabError(f"{where} cannot be gone on with: {why}", hint=OTHER)


def _same_choices(rows: Iterable[Any], choices: Space, where: str) -> None:
    """Optuna keeps the choices of a dimension, and takes no others later."""
    now = choices.labels()
    for row in rows:
        for name, kind in row.distributions.items():
            if name in now and list(kind.choices) != now[name]:
                raise LabError(
                    f"{where} cannot be gone on with: it has other choices of {name}", hint=OTHER
                )


def _stored(row: Any, objectives: Sequence[str], tolerance: float) -> Trial:
    configuration = from_plain(Configuration, json.loads(row.user_attrs["configuration"]))
    made = row.user_attrs.get("measured")
    measured = from_plain(Measured, json.loads(made)) if made else None
    failure = str(row.user_attrs.get("failure", "")) or ("" if made else "it was not finished")
    return judged(row.number, configuration, measured, failure, objectives, tolerance)


def judged(  # noqa: PLR0917 - what a trial is made of
    number: int,
    configuration: Configuration,
    measured: Measured | None,
    failure: str,
    objectives: Sequence[str],
    tolerance: float,
) -> Trial:
    """A trial, by what was found: one that lacks an objective's number failed.

    No order says where NaN belongs: it would stand on the front, beaten by nothing.
    """
    if measured is None:
        return Trial(number, configuration, None, failure)
    if math.isnan(measured.loss):
        measured = dataclasses.replace(measured, loss=math.inf)
    values = {name: OBJECTIVES[name](measured) for name in objectives}
    missing = [name for name, value in values.items() if math.isnan(value)]
    if missing:
        told = f"it gave no number for {' and '.join(missing)}"
        return Trial(number, configuration, None, told)
    finite = all(map(math.isfinite, (measured.loss, *values.values())))
    return Trial(number, configuration, measured, "", finite and measured.loss <= tolerance)


def tell(study: Any, asked: Any, trial: Trial, objectives: Sequence[str], tolerance: float) -> None:
    """Tell Optuna what became of a trial that it asked for."""
    if trial.measured is None:
        asked.set_user_attr("failure", trial.failure)
        study.tell(asked, state=state("FAIL"))
        return
    found = trial.measured
    asked.set_user_attr("measured", json.dumps(to_plain(found)))
    beyond = found.loss if math.isinf(found.loss) else found.loss - tolerance
    asked.set_constraint("loss", beyond)  # above 0 is not wanted
    study.tell(asked, [OBJECTIVES[name](found) for name in objectives])


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise EngineUnavailable(
            "tune needs Optuna, which chooses what to try", hint='pip install "coreml-lab[tune]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def state(name: str) -> Any:
    """One of Optuna's states of a trial."""
    return getattr(importlib.import_module("optuna").trial.TrialState, name)
