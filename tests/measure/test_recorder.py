"""What is kept of runs while they happen."""

from __future__ import annotations

from coreml_lab.clock import FakeClock
from coreml_lab.measure import recorder
from tests.support.fakes import FakeModel


def test_two_threads_with_a_models_first_run_both_have_theirs_kept(monkeypatch):
    """The second comes between the look for what is known of the model and the keeping."""
    model, made = FakeModel(), recorder.Seen
    kept = recorder.Recorder(FakeClock())

    def interrupted(*arguments):
        monkeypatch.setattr(recorder, "Seen", made)
        kept.ran(model, {}, 1, 10)
        return made(*arguments)

    monkeypatch.setattr(recorder, "Seen", interrupted)
    kept.ran(model, {}, 0, 10)
    assert kept.window == (0, 11)
