"""Optimizing: what is tried, how bits are shared out, verdicts, whole searches on a small model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CacheError, InputError, LabError, ProbeError, UnknownParameter
from coreml_lab.improve import islands
from coreml_lab.improve.optimizing import bench, footprint, mixed, search
from coreml_lab.improve.optimizing.allocation import Choice, allocate
from coreml_lab.improve.optimizing.candidates import Candidate, Chosen, candidates, together
from coreml_lab.improve.optimizing.ledger import Entry
from coreml_lab.improve.optimizing.sensitivity import Way, sensitivities
from coreml_lab.improve.tuning.evaluation import save_samples
from coreml_lab.measure.paired import Ratio
from coreml_lab.records import Action
from coreml_lab.run.executor import Interrupted
from tests.improve.nets import mixed as mixed_model
from tests.improve.nets import snr, weights

X = {"x": np.random.default_rng(0).random((1, 4, 8, 8)).astype(np.float32)}
QUICK: dict[str, Any] = {"weight_threshold": 64, "pairs": 6, "seconds": 0.5, "engines": ()}


@pytest.fixture(scope="module")
def model() -> Any:
    return mixed_model()


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is asked in one test; elsewhere that would be a process for each candidate.

    Nor does any verdict here depend on how busy the machine is: all take the same time.
    """
    monkeypatch.setattr(bench, "ratio", lambda pairs: Ratio(1.0, 0.99, 1.01, len(pairs.arm)))
    monkeypatch.setattr(bench, "footprint", lambda *_, **__: (1_000_000,) * 3)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only fp16, int8 and 6-bit tables are tried: how a search goes on does not need all."""
    monkeypatch.setattr(search, "candidates", lambda *a, **k: candidates(*a, **k)[:3])
    monkeypatch.setattr(mixed, "measured", lambda *_: {})
    monkeypatch.setattr(mixed, "candidate", lambda *_: None)


def layers(seed: int, count: int = 6, ways: int = 3) -> dict[str, dict[str, Choice]]:
    rng = np.random.default_rng(seed)
    return {
        f"layer{i}": {
            str(w): Choice(int(rng.integers(1, 60)), float(rng.random())) for w in range(ways)
        }
        for i in range(count)
    }


@pytest.mark.parametrize("seed", range(8))
def test_bits_are_shared_out_as_by_trying_all(seed: int) -> None:
    rows = layers(seed)
    every = [dict(zip(rows, pick, strict=True)) for pick in itertools.product(*rows.values())]
    for budget in (60, 120, 200, 400):
        fits = [f for f in every if sum(rows[n][w].bytes for n, w in f.items()) <= budget]
        if not fits:
            with pytest.raises(LabError, match="at least"):
                allocate(rows, budget)
            continue
        found = allocate(rows, budget)
        assert sum(rows[n][w].bytes for n, w in found.items()) <= budget
        best = min(mixed.predicted(rows, f) for f in fits)
        assert mixed.predicted(rows, found) == pytest.approx(best)


def test_a_budget_is_kept_where_sizes_are_rounded() -> None:
    rows = {f"l{i}": {"a": Choice(999_983, 0.0), "b": Choice(500_009, 0.1)} for i in range(40)}
    for budget in (21_000_000, 30_000_001, 39_000_000):
        found = allocate(rows, budget)
        assert sum(rows[n][w].bytes for n, w in found.items()) <= budget


def test_the_smallest_choice_for_a_loss_keeps_it() -> None:
    rows = layers(3, count=8)
    sizes = []
    for loss in (0.5, 1.0, 1.5, 2.5):
        found = mixed.smallest(rows, loss)
        if found is not None:
            assert mixed.predicted(rows, found) <= loss
            sizes.append(sum(rows[n][w].bytes for n, w in found.items()))
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) > 1
    assert mixed.smallest(rows, -1.0) is None


def test_a_layers_loss_is_that_of_a_file_in_which_it_alone_is_small(model: Any) -> None:
    how = {"nbits": 4, "mode": "uniform", "weight_threshold": 64}
    small = cl.edit(model).apply("palettize_weights", **how)
    found = {x.name: x for x in sensitivities(model.program, {"4": Way(small.package, 4)}, [X])}
    assert [x.op for x in found.values()] == ["conv", "conv", "linear", "linear"]
    (want,) = model.predict(X).values()
    for name, layer in found.items():
        others = [other for other in found if other != name]
        alone = cl.edit(model).apply("palettize_weights", **how, skip=others).model
        (got,) = alone.predict(X).values()
        loss = np.linalg.norm(got - want) / np.linalg.norm(want)
        assert layer.choices["4"].loss == pytest.approx(loss, rel=1e-3)
        assert layer.choices["4"].bytes < layer.choices[""].bytes / 2


def test_a_part_takes_the_place_of_what_it_was_before() -> None:
    half = Candidate("precision", "fp16", "", (Action("float16"),))
    tables = Candidate("weights", "tables", "", (Action("palettize_weights"),))
    eight = Candidate("activations", "W8A8", "", (Action("w8a8"),))
    chosen = Chosen().replaced(tables).replaced(half)
    assert [a.name for a in chosen.configuration.actions] == ["float16", "palettize_weights"]
    assert [a.name for a in chosen.replaced(eight).configuration.actions] == ["w8a8"]


def test_what_is_tried_fits_the_goal_and_the_model(model: Any) -> None:
    speed = candidates(model.info, "latency", {"openvino": "coreml:0"})
    assert [c.part for c in speed] == ["engine", "activations", "activations", "layout", "passes"]
    small = [c.title for c in candidates(model.info, "size")]
    assert small[:2] == ["fp16", "int8 weights"]
    stored = cl.edit(model).apply("int8_weights", weight_threshold=64).model
    assert [c.part for c in candidates(stored.info, "size")] == ["passes"]
    assert [c.title for c in candidates(model.info, "memory", rows=32)][-3:-1] == [
        "slices of 8 rows",
        "slices of 2 rows",
    ]
    assert [(a.part, b.title) for a, b in together(speed)] == [("activations", "engine openvino")]
    relu = cl.compile(cl.ops.relu, x=cl.spec(2, 3))
    assert [c.title for c in candidates(relu.info, "latency")] == ["Core ML's passes again"]


def test_a_smaller_file_is_found_and_the_original_left_alone(model: Any, tmp_path: Path) -> None:
    before = Path(model.info.package)
    held = {p: p.read_bytes() for p in before.rglob("*") if p.is_file()}
    told: list[Entry] = []
    result = cl.optimize(model, X, goal="size", tolerance=0.03, progress=told.append, **QUICK)
    assert list(result) == told
    assert [e.title for e in result if e.accepted][:2] == ["fp16", "int8 weights"]
    assert any("beyond 0.03" in e.reason for e in result)
    assert any("mixed bits" in e.title for e in result)
    assert result.after.size < 0.6 * result.before.size
    assert result.after.loss <= 0.03
    saved = cl.load(result.save(tmp_path / "small.mlpackage"))
    (want,), (got,), (again,) = (m.predict(X).values() for m in (model, result.model, saved))
    assert snr(want, got) > 30
    assert np.array_equal(got, again)
    assert held == {p: p.read_bytes() for p in before.rglob("*") if p.is_file()}
    page = str(result)
    assert "Before and after" in page
    assert "What was tried" in page


def test_layers_get_their_own_bits_where_fewer_for_all_lose_too_much(model: Any) -> None:
    found = mixed.candidate(mixed.measured(cl.edit(model), [X], 64), 0.1, 64)
    assert found is not None
    bits = {v["nbits"] if v else None for v in found.actions[0].arguments["by_name"].values()}
    assert len(bits) > 1
    (want,) = model.predict(X).values()
    (got,) = cl.edit(model).apply(found.actions[0]).model.predict(X).values()
    assert np.linalg.norm(got - want) <= 0.1 * np.linalg.norm(want)


@pytest.mark.usefixtures("few")
def test_a_tolerance_that_cannot_be_kept_gives_the_original_and_the_nearest(model: Any) -> None:
    result = cl.optimize(model, X, goal="size", tolerance=1e-9, **QUICK)
    assert not result.configuration.actions or result.after.loss <= 1e-9
    assert result.after.loss <= 1e-9
    assert "Nearest to the tolerance came" in str(result) or any(e.accepted for e in result)


@pytest.mark.usefixtures("few")
def test_a_metric_decides_where_one_is_given(model: Any) -> None:
    def metric(one: Any) -> float:
        return 0.5 if any(op.op.startswith("constexpr_lut") for op in one.info.ops) else 0.9

    result = cl.optimize(model, X, goal="size", tolerance=0.01, metric=metric, **QUICK)
    tables = [e for e in result if "tables" in e.title]
    assert tables
    assert not any(e.accepted for e in tables)
    assert all(e.evidence and e.evidence.loss == pytest.approx(0.4) for e in tables)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("where", ["run", "half"])
def test_an_interrupt_during_a_run_ends_the_search_and_is_no_verdict(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise Interrupted("stopped", hint="")

    if where == "half":
        monkeypatch.setattr(islands, "faithful", stop)
    else:
        evidence_of, calls = bench.Bench.evidence, itertools.count()
        monkeypatch.setattr(
            bench.Bench,
            "evidence",
            lambda self, *a, **k: stop() if next(calls) == 1 else evidence_of(self, *a, **k),
        )
    result = cl.optimize(model, X, goal="size", tolerance=0.03, folder=tmp_path, **QUICK)
    assert result.ledger == ()
    assert "interrupted" in str(result)
    assert not (tmp_path / "ledger.json").exists()


def test_engines_are_named_by_one_text_or_several_and_a_wrong_one_is_told(model: Any) -> None:
    own = model.plan.engine
    assert search.chosen_engines(own, own) == {}
    here = search.engines_here(own)
    assert search.chosen_engines(None, own) == here
    for name in here:
        assert search.chosen_engines(name, own) == {name: here[name]}
    for wrong in ("opnvino", ["opnvino"]):
        with pytest.raises(UnknownParameter, match="engines: 'opnvino' is not here") as caught:
            cl.optimize(model, X, engines=wrong)
        assert own in caught.value.hint


@pytest.mark.usefixtures("few")
def test_a_metrics_drop_is_told_in_its_own_unit(model: Any) -> None:
    points = lambda one: 40.0 - 5 * (one.info.precision == "fp16")  # noqa: E731
    result = cl.optimize(model, X, goal="size", tolerance=10, metric=points, **QUICK)
    page = str(result)
    assert "drop of the metric" in page
    assert "500" not in page
    assert "5.00 ●" in page
    plain = cl.optimize(model, X, goal="size", tolerance=0.1, **QUICK)
    assert "drop of the metric" not in str(plain)


@pytest.mark.usefixtures("few")
def test_a_model_with_states_begins_each_sample_anew() -> None:
    def step(x: Any, past: Any) -> Any:
        now = cl.ops.add(x, past)
        return {"y": cl.ops.linear(now, weight=weights(64, 64)), "now": cl.ops.mul(now, 0.5)}

    given = {"x": cl.spec(1, 64), "past": cl.spec(1, 64)}
    model = (
        cl.edit(cl.compile(step, name="cache", **given))
        .apply("states", pairs={"past": "now"})
        .model
    )
    rng = np.random.default_rng(2)
    data = [{"x": rng.standard_normal((1, 64)).astype(np.float32)} for _ in range(2)]
    result = cl.optimize(model, data, goal="size", tolerance=0.05, **QUICK)
    assert not [e for e in result if e.verdict == "failed"]
    assert any(e.accepted for e in result)
    with pytest.raises(InputError, match="cache has states: its energy is not measured"):
        cl.optimize(model, data, goal="energy", **QUICK)


@pytest.mark.usefixtures("few")
def test_a_search_goes_on_where_it_was_interrupted(model: Any, tmp_path: Path) -> None:
    def stop(entry: Entry) -> None:
        if entry.title == "int8 weights":
            raise KeyboardInterrupt

    how = {"goal": "size", "tolerance": 0.03, "folder": tmp_path, **QUICK}
    first = cl.optimize(model, X, progress=stop, **how)
    assert [e.title for e in first] == ["fp16", "int8 weights"]
    assert "interrupted" in str(first)
    held = json.loads((tmp_path / "ledger.json").read_text(encoding="utf-8"))
    assert len(held["entries"]) == 2
    again = cl.optimize(model, X, **how)
    assert [e.title for e in again][:2] == ["fp16", "int8 weights"]
    assert len(again.ledger) > 2
    with pytest.raises(CacheError, match="another model, data, goal or tolerance"):
        cl.optimize(model, X, **{**how, "goal": "latency"})
    (tmp_path / "ledger.json").write_text("{", encoding="utf-8")
    with pytest.raises(CacheError, match="cannot be gone on with"):
        cl.optimize(model, X, **how)


@pytest.mark.usefixtures("few")
def test_a_candidate_that_fails_is_an_entry_and_the_search_goes_on(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search.Bench.made

    def fails(self: Any, configuration: Any) -> Any:
        if configuration.actions[-1].name == "int8_weights":
            raise LabError("no space left", hint="")
        return made(self, configuration)

    monkeypatch.setattr(search.Bench, "made", fails)
    result = cl.optimize(model, X, goal="size", tolerance=0.03, **QUICK)
    entry = next(e for e in result if e.title == "int8 weights")
    assert (entry.verdict, entry.reason) == ("failed", "no space left")
    assert result.ledger[-1] is not entry


def test_bad_arguments_are_one_clear_error(model: Any) -> None:
    with pytest.raises(UnknownParameter, match="goal='speed'"):
        cl.optimize(model, X, goal="speed")
    with pytest.raises(UnknownParameter, match="latency\\+memory"):
        cl.optimize(model, X, goal="size+")
    with pytest.raises(InputError, match="needs data"):
        cl.optimize(model, [])
    with pytest.raises(InputError):
        cl.optimize(model, {"x": np.zeros((2, 2), np.float32)})


def test_memory_is_measured_in_a_process_of_its_own(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_samples(tmp_path, [X])
    where: dict[str, Any] = {"function": "", "device": "coreml", "settings": {"threads": 1}}
    found = footprint.footprint(Path(model.info.package), tmp_path / "data.npz", **where)
    assert len(found) == footprint.TIMES
    assert all(0 < each < 500e6 for each in found)
    monkeypatch.setattr(footprint.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(ProbeError, match="could not be measured"):
        footprint.footprint(tmp_path / "none.mlpackage", tmp_path / "data.npz", **where)
