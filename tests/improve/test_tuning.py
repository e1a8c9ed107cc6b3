"""Tuning: the space, the search over it, trials that fail, and one real run in processes."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.errors import EngineCrashed, InputError, LabError, ProbeError, UnknownParameter
from coreml_lab.improve.spent import Joules
from coreml_lab.improve.tuning import evaluation, study, workers
from coreml_lab.improve.tuning.evaluation import Measured, Task, evaluate, save_samples
from coreml_lab.improve.tuning.result import Trial, Tuning, beats
from coreml_lab.improve.tuning.space import Configuration, space
from coreml_lab.improve.tuning.workers import Workers
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Action
from tests.improve.nets import flexible, mixed
from tests.improve.tasks import work

NEEDED = ("optuna", "pebble", "cloudpickle", "filelock")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason="needs the extra `tune`"
)
X = {"x": np.random.default_rng(0).random((1, 4, 8, 8)).astype(np.float32)}
OVER = {
    "actions": [None, "float16", "palettize_weights", ("float16", "palettize_weights")],
    "palettize_weights.nbits": [2, 4, 8],
    "threads": [1, 2],
}


def test_arguments_matter_only_where_their_action_is_chosen() -> None:
    every = [c for _, c in space(OVER).walk()]
    assert len(every) == len({c.key for c in every}) == 2 + 2 + 6 + 6
    assert {len(c.actions) for c in every} == {0, 1, 2}


def test_a_walk_by_chance_visits_the_same_configurations() -> None:
    plain = {c.key for _, c in space(OVER).walk()}
    assert {c.key for _, c in space(OVER).walk(random.Random(3))} == plain
    answers, configuration = next(space(OVER).walk(random.Random(3)))
    assert answers["threads"] == configuration.settings["threads"]


def test_a_space_too_large_to_walk_is_drawn_from() -> None:
    wide = space({"threads": list(range(300)), "batch": list(range(1, 300))})
    drawn = [c for _, c in wide.walk(random.Random(0))]
    assert 9_000 < len(drawn) <= 10_000


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"thread": [1]}, "no such dimension"),
        ({"threads": []}, "not a list of choices"),
        ({"engine": "portable"}, "not a list of choices"),
        ({"actions": ["int5_weights"]}, "no action 'int5_weights'"),
        ({"actions": ["float16"], "palettize_weights.nbits": [2]}, "no such dimension"),
    ],
)
def test_a_space_that_makes_no_sense_is_one_clear_error(over: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownParameter, match=said) as caught:
        space(over)
    assert caught.value.hint


def measured(size: int = 100, ratio: float = 1.0, loss: float = 0.0) -> Measured:
    return Measured(size, ratio * 1e-3, ratio, ratio * 0.9, ratio * 1.1, loss)


def tuning(found: Sequence[Measured | None], tolerance: float = 0.1) -> Tuning:
    trials = tuple(
        Trial(
            i,
            Configuration(settings={"threads": i}),
            m,
            "" if m else "it fell",
            bool(m and m.loss <= tolerance),
        )
        for i, m in enumerate(found)
    )
    return Tuning("net", ("latency", "size"), tolerance, trials)


def test_the_front_is_what_nothing_beats_within_the_tolerance() -> None:
    found = [
        measured(100, 1.0),
        measured(50, 1.2),
        measured(60, 1.3),  # beaten by the one before
        measured(10, 0.1, loss=0.5),  # beyond the tolerance
        None,
        measured(50, 1.2),  # the same point again
    ]
    result = tuning(found)
    assert [t.number for t in result.front] == [0, 1]
    assert result.best().number == 0
    assert result.best("size").number == 1
    with pytest.raises(UnknownParameter, match="no objective 'energy'"):
        result.best("energy")
    with pytest.raises(LabError, match="it fell"):
        result.best and result.trials[4].found
    text = str(result)
    assert "it fell" in text
    assert "5 trials measured, 1 failed, 2 on the front" in text


def test_the_front_of_random_points_is_the_one_by_definition() -> None:
    rng = np.random.default_rng(5)
    result = tuning([measured(int(a), float(b)) for a, b in rng.integers(1, 9, (60, 2))])
    points = {result.point(t) for t in result.trials}
    undominated = {p for p in points if not any(beats(q, p) for q in points)}
    assert {result.point(t) for t in result.front} == undominated


def test_where_nothing_keeps_the_tolerance_the_nearest_is_named() -> None:
    result = tuning([measured(loss=0.5), measured(loss=0.3), None])
    with pytest.raises(LabError, match=r"nearest came threads=1 with 0\.3"):
        result.best()
    with pytest.raises(LabError, match="none could be run"):
        tuning([None]).best()


def landscape(task: Task) -> Measured:
    """A made-up model: 2 bits lose too much, fp16 halves the size, one thread is best."""
    bits = {a.name: a.arguments.get("nbits", 32) for a in task.configuration.actions}
    half = "float16" in bits
    width = bits.get("palettize_weights", 32)
    if task.configuration.settings["threads"] == 2 and half and width == 4:
        raise LabError("does not work together", hint="")
    loss = {2: 0.5, 4: 0.05, 8: 0.001, 32: 0.0}[width]
    return measured(
        width * (8 if half else 16),
        1 - 0.1 * half + 0.2 * task.configuration.settings["threads"],
        loss,
    )


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuning]:
    monkeypatch.setattr(study, "evaluate", landscape)
    model = mixed()

    def run(**how: Any) -> Tuning:
        with ThreadPoolExecutor(2) as pool:
            return cl.tune(model, X, OVER, **{"executor": pool, "tolerance": 0.1, **how})

    return run


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_no_configuration_is_tried_twice_and_a_small_space_wholly(
    made_up: Callable[..., Tuning], sampler: str
) -> None:
    result = made_up(n_trials=40, sampler=sampler)
    assert len(result) == 16
    assert len({t.configuration.key for t in result}) == 16
    assert sum(bool(t.failure) for t in result) == 1
    best = {result.point(t) for t in result.front}
    assert best == {(0.9 + 0.2 * 1, 4 * 8)}


def test_a_study_goes_on_where_it_was_left(made_up: Callable[..., Tuning], tmp_path: Path) -> None:
    first = made_up(n_trials=5, storage=f"sqlite:///{tmp_path}/study.db")
    assert len(first) == 5
    more = made_up(n_trials=9, storage=str(tmp_path / "study.db"))
    assert len(more) == 9
    assert [t.configuration.key for t in more][:5] == [t.configuration.key for t in first]
    assert [t.measured for t in more][:5] == [t.measured for t in first]


def test_an_interrupt_keeps_what_was_finished(made_up: Callable[..., Tuning]) -> None:
    def stop(trial: Trial, left: int) -> None:
        if left == 3:
            raise KeyboardInterrupt

    result = made_up(n_trials=6, progress=stop, parallel=1)
    assert len(result) == 3
    assert "interrupted" in str(result)


def test_the_chosen_trial_is_an_edit(made_up: Callable[..., Tuning], tmp_path: Path) -> None:
    result = made_up(n_trials=16)
    edit = result.apply(result.best("size"))
    assert [s.action.name for s in edit.steps] == ["float16", "palettize_weights"]
    assert cl.load(edit.save(tmp_path / "best.mlpackage")).info.precision == "fp16"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"objectives": ("speed",)}, "objectives: 'speed'"),
        ({"objectives": ()}, "objectives: none"),
        ({"sampler": "grid"}, "sampler='grid'"),
        ({"n_trials": 0}, "n_trials=0"),
        ({"parallel": 0}, "parallel=0"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    made_up: Callable[..., Tuning], how: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnknownParameter, match=said):
        made_up(**how)


def test_an_energy_that_is_only_estimated_is_not_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    guess = Quantity(float("nan"), "J", Provenance.ESTIMATED, 1.0, 4.0)
    monkeypatch.setattr(evaluation, "energy_of", lambda *_: Joules(guess, guess))
    with pytest.raises(ProbeError, match="cannot be ranked") as caught:
        cl.tune(mixed(), X, OVER, objectives=("energy",))
    assert "cpu_time" in caught.value.hint
    joules = Quantity(2.0, "J", Provenance.MEASURED)
    monkeypatch.setattr(evaluation, "energy_of", lambda *_: Joules(guess, joules))
    assert evaluation.counted(mixed(), X, 1.0) == 2.0  # idle included: all trials have that


def test_cpu_time_is_an_objective_of_its_own() -> None:
    found, other = (dataclasses.replace(measured(), cpu=cpu) for cpu in (0.5, 1.0))
    result = dataclasses.replace(tuning([other, found]), objectives=("cpu_time",))
    assert result.best().number == 1
    assert "CPU time ÷ original" in str(result)
    assert "CPU time" not in str(tuning([found]))


def test_data_are_needed(made_up: Callable[..., Tuning]) -> None:
    with pytest.raises(InputError, match="needs data"):
        cl.tune(mixed(), [], OVER)


def outcomes(workers: Workers, tasks: Sequence[str]) -> dict[str, Any]:
    for task in tasks:
        workers.submit(task, work, task)
    found = {}
    while len(workers):
        for ended in workers.ended():
            found[ended.tag] = ended.failure or ended.result
    workers.close()
    return found


def test_a_crash_and_a_refusal_end_their_own_trials_only() -> None:
    found = outcomes(Workers(None, 2, 60.0), ["a", "crash", "refuse", "b"])
    assert (found["a"], found["b"]) == ("A", "B")
    assert found["refuse"] == "CompileError: not with me"
    assert "ProcessExpired" in found["crash"]


def test_a_trial_that_hangs_is_stopped_and_the_others_go_on() -> None:
    found = outcomes(Workers(None, 2, 5.0), ["hang", "a"])
    assert found["hang"].startswith("Timeout")
    assert found["a"] == "A"


def test_trials_in_threads_have_the_settings_of_the_block_around_them() -> None:
    with ThreadPoolExecutor(2) as pool, cl.configure(threads=3):
        workers = Workers(pool, 2, 60.0)
        for tag in "ab":
            workers.submit(tag, lambda task: (task, config.current().threads), tag)
        found = {}
        while len(workers):
            found.update({ended.tag: ended.result for ended in workers.ended()})
    assert found == {"a": ("a", 3), "b": ("b", 3)}


class Never:
    """An executor whose futures never end."""

    def submit(self, *_: Any) -> Future[Any]:
        return Future()


def test_somebody_elses_executor_that_hangs_is_given_up() -> None:
    workers = Workers(Never(), 1, 0.05)  # type: ignore[arg-type]
    workers.submit("one", work, "a")
    (ended,) = workers.ended()
    assert "given up" in ended.failure
    assert not len(workers)


def task_for(model: Any, folder: Path, *actions: Action, **settings: Any) -> Task:
    save_samples(folder, [X])
    return Task(
        Configuration(actions, settings), model.info.package, "", str(folder), "coreml", 3, 1.0
    )


def test_a_trial_measures_size_time_and_loss(tmp_path: Path) -> None:
    model = mixed()
    plain = evaluate(task_for(model, tmp_path))
    assert plain.loss == 0
    small = evaluate(task_for(model, tmp_path, Action("int8_weights", {"weight_threshold": 64})))
    assert small.size < plain.size
    assert 0 < small.loss < 0.05
    assert small.latency > 0
    assert len(list(tmp_path.glob("*.mlpackage"))) == 1
    before = evaluation.original.cache_info().misses
    again = evaluate(task_for(model, tmp_path, Action("int8_weights", {"weight_threshold": 64})))
    assert again.size == small.size
    assert evaluation.original.cache_info().misses == before  # it is loaded once in a process


def test_actions_that_begin_alike_share_what_they_write(tmp_path: Path) -> None:
    model, eight = mixed(), Action("int8_weights", {"weight_threshold": 64})
    evaluation.built(task_for(model, tmp_path, Action("float16"), eight), [X])
    made = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.mlpackage/Data/*/*.mlmodel")}
    assert len(made) == 2
    evaluation.built(task_for(model, tmp_path, Action("float16"), Action("clean")), [X])
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.mlpackage/Data/*/*.mlmodel")}
    assert len(after) == 3
    assert made.items() <= after.items()


def test_a_metric_takes_the_place_of_the_error(tmp_path: Path) -> None:
    import cloudpickle

    task = task_for(mixed(), tmp_path, Action("float16"))
    metric = cloudpickle.dumps(lambda model: 0.9 if model.info.precision == "fp32" else 0.8)
    assert evaluate(dataclasses.replace(task, metric=metric)).loss == pytest.approx(0.1)


def test_a_batch_needs_a_model_that_takes_batches(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no 4 samples at once"):
        evaluate(task_for(mixed(), tmp_path, batch=4))
    task = task_for(flexible(), tmp_path, batch=4)
    save_samples(tmp_path, [{"x": np.ones((1, 8), np.float32)}])
    assert evaluate(task).loss == 0


def test_memory_is_an_objective_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = evaluate(dataclasses.replace(task_for(mixed(), tmp_path), memory=True))
    assert found.memory is not None
    assert 0 < found.memory < 1 << 30
    trial = Trial(0, Configuration(), found, kept=True)
    result = Tuning("net", ("memory", "latency"), 0.1, (trial,))
    assert result.point(trial) == (found.memory, found.ratio)
    assert result.figure().xaxis[0].axis_label.startswith("memory beyond an idle process (")


def test_the_figure_shows_every_trial_that_was_measured(made_up: Callable[..., Tuning]) -> None:
    result = made_up(n_trials=16)
    plot = result.figure("front")
    shown = [n for r in plot.renderers for n in r.data_source.data.get("name", ())]
    assert len(shown) == sum(t.measured is not None for t in result) == 15
    assert "data-figure" in result.to_document()


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs distributed")
def test_dask_runs_trials_and_a_failure_ends_its_own_trial_only() -> None:
    from distributed import Client, LocalCluster

    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**local) as cluster, Client(cluster) as client:
        found = outcomes(Workers(client.get_executor(), 2, 60.0), ["a", "refuse", "b"])
        over = {"actions": [None, "float16"]}
        how = {"n_trials": 2, "pairs": 3, "seconds": 0.5, "executor": client.get_executor()}
        result = cl.tune(mixed(), X, over, **how)
    assert found == {"a": "A", "b": "B", "refuse": "CompileError: not with me"}
    assert [t.failure for t in result] == ["", ""]


@pytest.mark.slow
def test_processes_try_a_real_model() -> None:
    over = {
        "actions": [None, "int8_weights", "linear_to_conv"],
        "int8_weights.weight_threshold": [64],
    }
    result = cl.tune(mixed(), X, over, n_trials=3, pairs=6, seconds=1.0, tolerance=0.05)
    assert len(result) == 3
    assert not [t.failure for t in result if t.failure]
    assert result.best("size").configuration.actions[0].name == "int8_weights"


def test_a_script_that_its_own_processes_would_run_again_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone:
        def schedule(self, *_: object, **__: object) -> None:
            raise RuntimeError("Unexpected error within the Pool")

    monkeypatch.setattr(workers, "_processes", lambda *_: Gone())
    with pytest.raises(EngineCrashed, match="cannot be kept") as caught:
        Workers(None, 1, 1.0).submit("tag", work, 1)
    assert "__main__" in caught.value.hint
