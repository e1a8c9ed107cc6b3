"""profile(): what is recorded of a model, of a block, and of what is interrupted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coreml_lab.errors import EngineError, InputError, LabError
from coreml_lab.measure import recorder
from coreml_lab.measure.effort import Effort
from coreml_lab.measure.profiler import Profile, profile, record
from coreml_lab.measure.telling import STARTS, Teller
from coreml_lab.metrics import Provenance
from coreml_lab.probes.disturbance import Reading
from coreml_lab.records import Incident, Recording
from coreml_lab.run.activity import ACTIVITY
from tests.support.fakes import MS, FakeModel, FakeSource

X = {"x": np.ones((1, 8), "float32")}


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(milliseconds=lambda call: 4 + call % 2)


def recorded(model, *, runs=4, warmup=2, spans=True) -> Recording:
    return record(
        model,
        X,
        Effort(runs, warmup),
        spans=spans,
        clock=model.clock,
        source=FakeSource(),
        machine=lambda: Reading(model.clock.now_ns()),
    )


def block(model, **options) -> Profile:
    def machine():
        return Reading(model.clock.now_ns())

    return Profile(clock=model.clock, source=FakeSource(), machine=machine, **options)


def plain(recording):
    return [run for run in recording.runs if not run.instrumented]


def test_runs_are_timed_uninstrumented_and_the_warm_up_is_not_among_them(model):
    found = recorded(model)
    assert [run.duration_ns for run in plain(found)] == [5 * MS, 4 * MS, 5 * MS, 4 * MS]
    assert not any(run.spans for run in plain(found))
    assert model.calls == 6


def test_instrumented_runs_follow_with_spans_and_continue_the_numbering(model):
    found = recorded(model)
    traced = [run for run in found.runs if run.instrumented]
    assert len(traced) == 4
    assert [run.index for run in found.runs] == list(range(8))
    assert {span.provenance for span in found.spans} == {Provenance.MEASURED}


def test_no_more_than_ten_instrumented_runs_are_made(model):
    assert sum(run.instrumented for run in recorded(model, runs=30).runs) == recorder.TRACED


def test_spans_can_be_left_out(model):
    assert not recorded(model, spans=False).spans


def test_the_samples_are_those_of_the_uninstrumented_runs(model):
    source = FakeSource()
    found = record(model, X, Effort(2, 0), clock=model.clock, source=source)
    assert source.windows == [(0, 9 * MS)]
    assert [s.t_ns for s in found.samples] == [9 * MS] * 2
    assert not source.running


def test_the_recording_says_where_it_was_made(model):
    found = recorded(model)
    assert {"system", "processor", "cores", "python", "numpy", "onnxruntime", "coreml-lab"} <= set(
        found.environment
    )
    assert found.environment["engine"] == "Core ML program, portable engine (CPU)"
    assert found.program is model.info
    assert found.plan == model.plan


def test_the_recording_keeps_its_model_and_inputs_while_the_process_lives(model):
    found = recorded(model)
    assert found.live[0] is model
    assert Recording.from_json(found.to_json()).live is None


def test_a_recording_survives_json(model):
    found = recorded(model)
    again = Recording.from_json(found.to_json())
    assert again.runs == found.runs
    assert again.environment == found.environment
    assert again.overhead_ns == found.overhead_ns
    assert math.isnan(again.samples[1].value)
    assert again.samples[1].note == "no RAPL"


def test_a_run_has_its_own_incidents_and_each_is_told_once(model):
    def troubled(call):
        if call == 3:
            said = Incident(model.clock.now_ns(), "EngineCrashed", "gone", "Reload", "recovered")
            model.incidents = (said,)
            ACTIVITY.report(said)
            ACTIVITY.report(Incident(said.t_ns, "DeviceLost", "of another model", "Retry", "ok"))
        return 4

    model.milliseconds = troubled
    found = recorded(model, warmup=0)
    assert [len(run.incidents) for run in plain(found)] == [0, 0, 1, 0]
    assert [i.error for i in found.every_incident] == ["EngineCrashed", "DeviceLost"]
    assert Recording.from_json(found.to_json()) == found


def test_incidents_of_the_runs_are_kept_and_older_ones_are_not(model):
    ACTIVITY.report(Incident(0, "Old", "before", "none", "none"))

    def fails_once(call: int) -> float:
        if call == 2:
            ACTIVITY.report(Incident(1, "DeviceLost", "gone", "Retry", "recovered"))
        return 4.0

    model.milliseconds = fails_once
    assert [i.error for i in recorded(model).incidents] == ["DeviceLost"]


def test_recording_a_run_costs_what_is_measured_and_less_than_50_microseconds():
    found = profile_of_nothing()
    assert 0 < found.overhead_ns < 50_000


def profile_of_nothing() -> Recording:
    from coreml_lab.clock import SYSTEM

    return record(FakeModel(), X, Effort(3, 0), spans=False, clock=SYSTEM, source=FakeSource())


@pytest.mark.parametrize(("runs", "warmup"), [(0, 3), (-1, 0), (5, -1)])
def test_nothing_to_measure_is_refused(model, runs, warmup):
    with pytest.raises(LabError, match="nothing to measure"):
        recorded(model, runs=runs, warmup=warmup)


def test_a_model_without_inputs_is_refused_with_an_example(model):
    with pytest.raises(InputError, match="needs inputs") as caught:
        profile(model)
    assert "cl.profile(model" in caught.value.hint


def test_an_interrupt_keeps_what_was_recorded_so_far(model):
    model.interrupt_at = 6
    with pytest.raises(KeyboardInterrupt) as caught:
        recorded(model, runs=10)
    assert len(caught.value.recording.runs) == 3
    assert not caught.value.recording.spans
    assert "3 of 10 runs" in caught.value.__notes__[0]
    assert len(plain(recorded(model))) == 4


def test_an_interrupt_before_the_first_run_leaves_no_recording(model):
    model.interrupt_at = 1
    source = FakeSource()
    with pytest.raises(KeyboardInterrupt) as caught:
        record(model, X, Effort(5, 2), clock=model.clock, source=source)
    assert not hasattr(caught.value, "recording")
    assert not source.running


def test_an_interrupt_of_the_instrumented_runs_loses_no_run(model, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "trace", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        recorded(model)
    assert len(caught.value.recording.runs) == 4


def test_a_model_that_cannot_be_traced_is_recorded_without_spans_and_says_so(model, monkeypatch):
    def refuses(*_, **__):
        raise EngineError("no profiler here")

    monkeypatch.setattr(model, "trace", refuses)
    found = recorded(model)
    assert len(found.runs) == 4
    assert [(i.error, i.message) for i in found.incidents] == [("EngineError", "no profiler here")]


def test_a_block_records_what_runs_inside_it(model):
    model.predict(X)
    with block(model) as p:
        model.predict(X)
        model.predict(X)
    model.predict(X)
    assert len(plain(p.recording)) == 2
    assert p.recording.spans
    assert p.recording.live == (model, X)
    assert not ACTIVITY.watchers
    assert repr(p) == "Profile(tiny: 2 runs)"


def test_a_block_gives_one_recording_per_model_the_busiest_first(model):
    slow = FakeModel(model.clock, lambda _: 50.0, "cpu")
    with block(model) as p:
        model.predict(X)
        slow.predict(X)
    assert [r.plan.device for r in p.recordings] == ["cpu", "coreml:0"]
    assert p.recording is p.recordings[0]


def test_a_block_in_which_nothing_ran_says_so(model):
    with block(model) as p:
        pass
    with pytest.raises(LabError, match="no model ran") as caught:
        p.recording  # noqa: B018
    assert "predict" in caught.value.hint
    assert repr(p) == "Profile(nothing ran)"


def test_a_block_that_still_runs_has_no_recording_and_cannot_be_entered_again(model):
    with block(model) as p:
        assert repr(p) == "Profile(running)"
        with pytest.raises(LabError, match="still running"):
            p.recording  # noqa: B018
        with pytest.raises(LabError, match="already running"):
            p.__enter__()


def test_an_interrupted_block_keeps_its_runs_and_runs_nothing_more(model):
    model.interrupt_at = 3
    p = block(model)

    def work():
        with p:
            for _ in range(5):
                model.predict(X)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(p.recording.runs) == 2
    assert not p.recording.spans
    assert not ACTIVITY.watchers


def test_a_profile_can_be_made_inside_another(model):
    with block(model) as outer:
        inner = recorded(model, runs=3, warmup=0)
    assert len(plain(inner)) == len(plain(outer.recording)) == 3


def test_a_profile_watches_in_the_background_until_it_is_stopped(model):
    p = block(model).start()
    model.predict(X)
    assert p.running
    assert [len(r.runs) for r in p.snapshot()] == [1]
    model.predict(X)
    (found,) = p.stop()
    model.predict(X)
    assert not p.running
    assert len(plain(found)) == 2
    assert found.spans
    assert p.recording is found
    assert p.snapshot() == p.stop() == p.recordings


def test_a_profile_that_was_never_started_has_nothing(model):
    p = block(model)
    assert p.stop() == p.snapshot() == ()


def test_a_stop_without_spans_runs_nothing_more(model):
    p = block(model).start()
    model.predict(X)
    assert not p.stop(spans=False)[0].spans
    assert model.calls == 1


def test_a_recording_tells_its_pace_and_what_measuring_costs(model):
    found = recorded(model)
    assert found.pace.warmed == "2 runs, as asked"
    assert found.pace.warmup_ns == (5 * MS, 4 * MS)
    assert found.pace.ended == "4 runs, as asked: 4 runs are too few for an interval"
    assert found.overhead.run_ns == found.overhead_ns == 0  # the clock stands still
    assert found.overhead.sampler_cores.value == 0.002


def test_without_a_number_the_runs_end_when_the_median_is_known(model):
    model.milliseconds = lambda call: 8 + 0.001 * (call % 7)
    found = recorded(model, runs=None, warmup=None)
    assert found.pace.stable
    assert len(plain(found)) == 30
    assert found.pace.ended.startswith("the median is known")


def test_the_machine_is_read_before_and_after_the_runs_that_count(model):
    readings = []

    def machine():
        readings.append((model.calls, model.clock.now_ns()))
        return Reading(model.clock.now_ns(), swapped=float(len(readings)))

    source, effort = FakeSource(), Effort(4, 2)
    found = record(model, X, effort, clock=model.clock, source=source, machine=machine, spans=False)
    assert [calls for calls, _ in readings] == [2, 6]
    swapped = next(c for c in found.conditions if c.name == "moved to and from swap")
    assert swapped.noisy
    assert swapped.value.value == 1


class Counting(FakeModel):
    """A model with a state: how often it ran since that was made."""

    made = 0

    @property
    def states(self):
        return {"count": "int32[1]"}

    def make_state(self):
        self.made += 1
        return [0]

    def predict(self, inputs, state=None):
        state[0] += 1
        self.last = state[0]
        return super().predict(inputs)


def test_a_model_with_states_goes_on_with_them_from_run_to_run():
    model = Counting()
    found = recorded(model, runs=5, warmup=2)
    assert len(plain(found)) == 5
    assert (model.made, model.last) == (1, 7)


def test_progress_is_told_between_runs_and_twice_a_second_at_most():
    heard = []
    model = FakeModel(milliseconds=lambda _: 200)
    record(
        model,
        X,
        Effort(runs=10, warmup=1),
        progress=lambda what, share: heard.append((what, round(share, 2))),
        clock=model.clock,
        source=FakeSource(),
        machine=lambda: Reading(model.clock.now_ns()),
    )
    assert heard == [
        ("warming up", 0.0),
        ("run 3", 0.28),
        ("run 6", 0.46),
        ("run 9", 0.64),
        ("parts and operations", 0.85),
        ("done", 1.0),
    ]


def test_progress_by_time_stays_within_its_stage():
    heard = []
    teller = Teller(Effort(seconds=1.0), lambda _, share: heard.append(share), 0)
    for second in range(1, 4):
        teller.ran(second * 1000 * MS)
    assert heard == [STARTS] * 3


def test_the_processor_is_read_from_the_kernel_or_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    file = tmp_path / "cpuinfo"
    file.write_text("processor: 0\nmodel name\t: A Chip 9000\n")
    assert recorder.processor(file) == "A Chip 9000"
    assert recorder.processor(tmp_path / "absent") == "unknown"


def test_on_a_mac_the_processor_comes_from_sysctl_or_is_unknown(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    answer = type("Answer", (), {"stdout": "Apple M9\n"})
    monkeypatch.setattr("subprocess.run", lambda *_, **__: answer)
    assert recorder.processor() == "Apple M9"

    def absent(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("subprocess.run", absent)
    assert recorder.processor() == "unknown"
