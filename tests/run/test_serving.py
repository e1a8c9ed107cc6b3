"""What schedulers tell recordings and the dashboard."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import EngineError, QueueFull
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.program.graph import Dim
from coreml_lab.run.activity import Activity
from coreml_lab.run.scheduler import Scheduler
from coreml_lab.run.serving import (
    CANCELLED,
    FAILED,
    REFUSED,
    SERVED,
    Outcome,
    Serving,
    figures,
    series,
)
from tests.run.test_scheduler import Fake, held, one

MS = 1_000_000
S = "coreml_lab.scheduler."


def served(at_ms: float, waited_ms: float, batch: int = 1, waiting: int = 0) -> Outcome:
    return Outcome(int(at_ms * MS), SERVED, int(waited_ms * MS), batch, waiting)


def test_figures_of_a_stretch_are_rates_percentiles_and_requests_per_run() -> None:
    outcomes = [*(served(10, w, batch=4) for w in (1, 2, 3, 4)), served(20, 5, batch=1)]
    found = figures([*outcomes, Outcome(0, REFUSED)], 0.5)
    assert found[f"{S}throughput"] == 10
    assert found[f"{S}batch"] == pytest.approx(2.5)  # five requests in two runs
    assert found[f"{S}wait.p50"] == pytest.approx(3e-3)
    assert found[f"{S}wait.p99"] == pytest.approx(4.96e-3)


def test_nothing_served_has_no_percentiles_and_no_batch() -> None:
    assert figures([Outcome(0, FAILED)], 1.0) == {f"{S}throughput": 0}
    assert series([], (0, 1)) == ()


def test_a_series_has_ten_steps_a_second_and_counts_since_the_start() -> None:
    outcomes = [
        served(50, 1, waiting=3),
        Outcome(120 * MS, REFUSED, waiting=7),
        Outcome(220 * MS, CANCELLED, waiting=1),
        served(1500, 9),
    ]
    found = series(list(reversed(outcomes)), (0, 2000 * MS))
    rows: dict[str, list[float]] = {}
    for sample in found:
        rows.setdefault(sample.metric, []).append(sample.value)
    assert rows[f"{S}waiting"][:3] == [3, 7, 1]
    assert rows[f"{S}refused"][:3] == [0, 1, 1]
    assert rows[f"{S}cancelled"] == [0, 0, *[1] * 18]
    assert len(rows[f"{S}throughput"]) == 20
    # Over the second before each step: the first request counts until 1.05 s.
    assert rows[f"{S}throughput"][9:12] == [1, 0, 0]
    assert rows[f"{S}wait.p50"][-1] == pytest.approx(9e-3)
    assert {s.metric for s in found} <= set(METRICS)


def test_each_outcome_is_counted_once_however_long_the_series_is() -> None:
    read: list[Outcome] = []

    class Watched(Outcome):
        """Notes when its kind is read."""

        @property
        def kind(self) -> str:  # type: ignore[override]
            read.append(self)
            return FAILED

    outcomes = [Watched(i * 100 * MS, FAILED) for i in range(600)]
    found = series(outcomes, (0, 60_000 * MS))
    assert [s.value for s in found if s.metric == f"{S}failed"][-1] == 600
    assert len(read) < 20 * len(outcomes)


def test_what_a_closed_scheduler_drops_does_not_wait_any_more() -> None:
    activity = Activity()
    scheduler = Scheduler(activity=activity)
    fake: Any = Fake()
    held(scheduler, fake)
    futures = [scheduler.submit(fake, one(i)) for i in range(3)]
    closer = threading.Thread(target=scheduler.close, kwargs={"drain": False})
    closer.start()
    for future in futures:
        assert "closed" in str(future.exception(30))
    assert activity.serving.waiting == 0
    assert {o.waiting for o in activity.serving.outcomes} == {0}
    fake.open.set()
    closer.join(30)
    assert not activity.serving.queues


def test_a_scheduler_leaves_an_outcome_for_every_request() -> None:
    activity, fake = Activity(), Fake()
    shared: Any = fake
    with Scheduler(limit=2, activity=activity) as scheduler:
        first = held(scheduler, shared)
        bad, back = (scheduler.submit(shared, one(v)) for v in (13, 1))
        assert activity.serving.waiting == 2
        with pytest.raises(QueueFull):
            scheduler.submit(shared, one(2))
        assert back.cancel()
        more = scheduler.submit(shared, one(3))  # in the place of the one that was taken back
        fake.open.set()
        assert first.result(30)["y"] == 1
        assert more.result(30)["y"] == 4
        with pytest.raises(EngineError):
            bad.result(30)
    serving = activity.serving
    assert dict(serving.counts) == {SERVED: 2, REFUSED: 1, CANCELLED: 1, FAILED: 1}
    assert scheduler.statistics().cancelled == 1
    assert serving.waiting == 0
    assert "0 waiting; 1 per run; waited p50" in str(serving)
    assert str(serving).endswith("1 refused; 1 cancelled; 1 failed")
    assert str(Serving()) == ""


def test_an_error_that_is_no_exception_still_belongs_to_its_request() -> None:
    class Leaving(Fake):
        def run(self, *_: Any) -> Any:
            raise SystemExit(3)

    leaving: Any = Leaving()
    with Scheduler() as scheduler:
        with pytest.raises(SystemExit):
            scheduler.submit(leaving, one(1)).result(30)
        fake: Any = Fake()
        assert scheduler.submit(fake, one(1)).result(30)["y"] == 2


def test_a_recording_holds_what_the_scheduler_did_meanwhile() -> None:
    model = cl.compile(ops.relu, x=cl.spec(Dim("n", 1, 8), 4))
    x = np.ones((1, 4), np.float32)
    with cl.profile(spans=False) as profile, Scheduler() as scheduler:
        threads = [
            threading.Thread(target=lambda: scheduler.submit(model, {"x": x}).result(30))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recording = profile.recording
    last = {s.metric: s for s in recording.samples if s.metric.startswith(S)}
    assert set(last) >= {f"{S}{k}" for k in ("throughput", "waiting", "batch", "wait.p99")}
    assert last[f"{S}batch"].value >= 1
    assert last[f"{S}refused"].value == 0
    assert {s.provenance for s in last.values()} == {Provenance.MEASURED}
    assert "requests per run" in cl.report(recording).to_markdown()
    path = cl.Recording.from_json(recording.to_json())
    assert [s for s in path.samples if s.metric.startswith(S)]
