"""tune(): asks Optuna what to try next, has it tried beside others, and tells it what came out."""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from coreml_lab.errors import EngineUnavailable, InputError, UnknownParameter
from coreml_lab.improve.actions import Samples
from coreml_lab.improve.editing import Edit
from coreml_lab.improve.tuning import storage as storing
from coreml_lab.improve.tuning.evaluation import (
    Task,
    counted,
    evaluate,
    prepare,
    save_samples,
)
from coreml_lab.improve.tuning.result import OBJECTIVES, Trial, Tuning
from coreml_lab.improve.tuning.space import Configuration, Space, space
from coreml_lab.improve.tuning.storage import Study, state
from coreml_lab.improve.tuning.workers import Ended, Workers
from coreml_lab.plain import to_plain
from coreml_lab.program.graph import Array
from coreml_lab.records import Action

Metric = Callable[[Any], float]
SAMPLERS = ("tpe", "nsga2")
# How often Optuna may ask for what is known already, before an untried one is taken by chance.
REPEATS = 5
METHOD = (
    "Times are ratios to the original model, measured in turns with it in the same process; loss "
    "is {loss}."
)
LOSS = "the relative L2 error of the outputs on the data"
DROP = "the drop of the metric"


def tune(
    model: Any,
    data: Samples | Mapping[str, Array],
    over: Mapping[str, Sequence[Any]],
    *,
    objectives: Sequence[str] = ("latency", "size"),
    tolerance: float = 0.02,
    metric: Metric | None = None,
    n_trials: int = 40,
    sampler: str = "tpe",
    executor: Executor | None = None,
    parallel: int = 2,
    timeout: float = 300.0,
    pairs: int = 15,
    seconds: float = 5.0,
    storage: str | None = None,
    name: str | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[Trial, int], None] | None = None,
) -> Tuning:
    """Try many ways to run a model and say which nothing else beats.

    Args:
        model: a loaded model, or the path of one.
        data: inputs (name -> array), or several: results are compared and timed on them.
        over: what may differ, with its choices: ``actions`` (names or tuples of names, None for
            none), ``ACTION.ARGUMENT``, and settings of loading: ``engine``, ``device``,
            ``precision``, ``packed``, ``threads``, ``rows``, ``compute_units``, ``batch``.
        objectives: what is made small: ``latency``, ``size``, ``memory``, ``loss``,
            ``cpu_time``, and ``energy`` where a counter is.
        tolerance: the largest loss: relative L2 error, or drop of ``metric``.
        metric: a function of a model, larger is better; it takes the place of the L2 error.
        n_trials: how many trials in all, those of an earlier call with the same storage included.
        sampler: ``tpe``, or ``nsga2`` for many trials.
        executor: any ``concurrent.futures.Executor``, such as Dask's; by default processes here.
        parallel: how many trials at a time.
        timeout: seconds after which a trial is given up.
        pairs: pairs of runs that decide about time.
        seconds: the most that timing one trial takes.
        storage: where Optuna keeps the study, to go on later: a file (``study.db``) or a URL. What
            failed is tried again; another model, data, metric, objectives or machine is refused.
        name: the study's name in it (default: the model's).
        folder: where made files and data go meanwhile; for workers on other machines a folder that
            all of them see, as they must see the model's file.
        seed: of the sampler.
        progress: called with each trial that ended, and how many are left.

    Returns:
        All trials and their front. Interrupted, it holds what was finished.

    Raises:
        EngineUnavailable: without Optuna and pebble: ``pip install "coreml-lab[tune]"``.
        UnknownParameter: for a dimension, objective or sampler there is not.
        InputError: without data, or where they do not fit.
        LabError: where the storage cannot be opened, or holds a study of something else.
        ProbeError: for ``energy`` where nothing counts it: estimates are not ranked.
    """
    edit = Edit.of(model)
    samples = (data,) if isinstance(data, Mapping) else tuple(data)
    if not samples:
        raise InputError("tune needs data to compare results on", hint="data={name: array}")
    _checked(objectives, sampler, n_trials)
    choices = space(over)
    with Workers(executor, parallel, timeout, prepare=prepare) as workers:
        loaded = model if hasattr(model, "feeds") else edit.model
        for each in samples:
            loaded.feeds(each)  # raises where they do not fit
        if "energy" in objectives and executor is None:  # those elsewhere have their own counters
            counted(loaded, samples[0], 1.0)
        workplace = _workplace(folder)
        cleanup = weakref.finalize(edit, shutil.rmtree, workplace, ignore_errors=True)
        try:
            save_samples(workplace, samples)
            make = functools.partial(
                Task,
                package=str(edit.file),
                function=edit.function,
                workplace=str(workplace),
                device=edit.device,
                pairs=pairs,
                seconds=seconds,
                metric=_pickled(metric),
                memory="memory" in objectives,
                energy="energy" in objectives,
            )
            study = storing.opened(
                choices,
                storing.identity(loaded.info.key, edit.function, samples, metric, objectives),
                objectives=objectives,
                sampler=sampler,
                storage=storage,
                name=name or edit.name,
                seed=seed,
                tolerance=tolerance,
            )
            search = Search(
                study,
                choices,
                make,
                objectives=tuple(objectives),
                tolerance=tolerance,
                seed=seed,
            )
            finished = search.run(workers, n_trials, progress)
        finally:
            cleanup()
    notes = [METHOD.format(loss=DROP if metric else LOSS)]
    notes += [] if finished else ["It was interrupted: trials that were running are not here."]

    made = functools.partial(_edited, model, samples)
    return Tuning(edit.name, tuple(objectives), tolerance, search.trials, tuple(notes), made)


def _workplace(folder: str | Path | None) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="coreml_lab_tune_", dir=folder))
    except OSError as error:
        raise InputError(
            f"nothing can be written in {folder or tempfile.gettempdir()}: {error.strerror}",
            hint="tune(folder=…) takes a folder that is there",
        ) from error


def _edited(model: Any, data: Samples, actions: Sequence[Action]) -> Edit:
    edit = Edit.of(model)
    for action in actions:
        edit.apply(action, data=data)
    return edit


class Search:
    """A study going on: what was tried, what runs, and what comes next."""

    def __init__(
        self,
        study: Study,
        choices: Space,
        make: Callable[[Configuration], Task],
        *,
        objectives: tuple[str, ...],
        tolerance: float,
        seed: int,
    ) -> None:
        self._study, self._choices, self._make = study.asked, choices, make
        self._objectives, self._tolerance = objectives, tolerance
        self._known = {t.configuration.key: t for t in study.known}
        for answers in study.again:  # what failed once may have been the machine's fault
            self._study.enqueue_trial(dict(answers))
        self._running: set[str] = set()
        self._chance = random.Random(seed)  # noqa: S311 - an order, not a secret

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those that ended, in the order they were begun."""
        return tuple(sorted(self._known.values(), key=lambda t: t.number))

    def run(
        self,
        workers: Workers,
        n_trials: int,
        progress: Callable[[Trial, int], None] | None = None,
    ) -> bool:
        """Try until ``n_trials`` are known or there is nothing more; whether nobody interrupted."""
        finished = False
        try:
            while True:
                while len(workers) < workers.parallel and self._begin(workers, n_trials):
                    pass
                if not len(workers):
                    break
                for ended in workers.ended():
                    trial = self._end(ended)
                    if progress is not None:
                        progress(trial, n_trials - len(self._known))
            finished = True
        except KeyboardInterrupt:
            pass
        return finished

    def _begin(self, workers: Workers, n_trials: int) -> bool:
        """Begin one more; False where there is none."""
        if len(self._known) + len(workers) >= n_trials:
            return False
        found = self._next()
        if found is None:
            return False
        asked, configuration = found
        self._running.add(configuration.key)
        asked.set_user_attr("configuration", json.dumps(to_plain(configuration)))
        workers.submit((asked, configuration), evaluate, self._make(configuration))
        return True

    def _next(self) -> tuple[Any, Configuration] | None:
        """What Optuna asks for, or where it repeats itself, something untried."""
        for _ in range(REPEATS):
            asked = self._study.ask()
            configuration = self._choices.choose(asked)
            if configuration.key not in self._known and configuration.key not in self._running:
                return asked, configuration
            self._study.tell(asked, state=state("FAIL"))
        for answers, configuration in self._choices.walk(self._chance):
            if configuration.key not in self._known and configuration.key not in self._running:
                self._study.enqueue_trial(answers)
                asked = self._study.ask()
                return asked, self._choices.choose(asked)
        return None

    def _end(self, ended: Ended) -> Trial:
        asked, configuration = ended.tag
        self._running.discard(configuration.key)
        trial = storing.judged(
            asked.number,
            configuration,
            ended.result,
            ended.failure,
            self._objectives,
            self._tolerance,
        )
        storing.tell(self._study, asked, trial, self._objectives, self._tolerance)
        self._known[configuration.key] = trial
        return trial


def _checked(objectives: Sequence[str], sampler: str, n_trials: int) -> None:
    if not objectives or (unknown := [o for o in objectives if o not in OBJECTIVES]):
        named = repr(unknown[0]) if objectives else "none"
        raise UnknownParameter(f"objectives: {named}", hint="some of " + ", ".join(OBJECTIVES))
    if sampler not in SAMPLERS:
        raise UnknownParameter(f"sampler={sampler!r}", hint="one of " + ", ".join(SAMPLERS))
    if n_trials < 1:
        raise UnknownParameter(f"n_trials={n_trials}", hint="1 or more")


def _pickled(metric: Metric | None) -> bytes:
    if metric is None:
        return b""
    try:
        import cloudpickle  # noqa: PLC0415 - of the extra `tune`
    except ImportError as error:
        raise EngineUnavailable(
            "tune needs cloudpickle to send a metric to other processes",
            hint='pip install "coreml-lab[tune]"',
        ) from error
    made: bytes = cloudpickle.dumps(metric)
    return made
