"""The Inspector's widget: traits hold all it draws; newer times follow; words without a page."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError
from coreml_lab.run.activity import Activity
from coreml_lab.widgets import inspector as module
from coreml_lab.widgets.inspector import Inspector


@pytest.fixture
def activity(monkeypatch):
    """What runs elsewhere in this process is not heard."""
    made = Activity()
    monkeypatch.setattr(module, "ACTIVITY", made)
    return made


@pytest.fixture(scope="module")
def recorded():
    model = cl.zoo.digits()
    return model, cl.profile(model, {"x": np.zeros((1, 1, 8, 8), np.float32)}, runs=3)


def test_the_scene_and_the_layout_come_compressed_with_the_opening_message(recorded, activity):
    view = Inspector(recorded[0])
    scene = json.loads(gzip.decompress(view.scene))
    assert [b["op"] for b in scene["pictures"][0]["nodes"]][1:3] == ["conv", "relu"]
    assert b"EPL-2.0" in gzip.decompress(view.layouter)[:200]
    assert len(view.scene) < 5_000
    view.close()
    assert activity.recorders == []


def test_a_recording_that_is_made_later_brings_its_times(recorded, activity):
    model, recording = recorded
    view = Inspector(model, model)
    assert view.pictures[0].timed.rows == {}
    activity.recorded(recording)
    assert view.drain()
    assert set(view.timed) == {"0", "1"}
    assert any(row["seconds"] for row in view.timed["0"]["rows"].values())
    view.close()


def test_a_given_recording_is_used_and_another_programs_is_refused(recorded, activity):
    model, recording = recorded
    view = Inspector(model, recording=recording)
    assert view.pictures[0].timed.runs > 0
    view.close()
    with pytest.raises(LabError, match="not of digits"):
        Inspector(model, recording=cl.Recording({}, _other(recording), recording.plan, ()))
    with pytest.raises(LabError, match="a model or a path"):
        Inspector(42)


def _other(recording):
    return type(recording.program)("other", "k", "", "fp32", (), (), (), 0)


def test_without_a_page_there_are_words_a_table_and_a_still_picture(recorded, activity):
    view = Inspector(recorded[0])
    data, _ = view._repr_mimebundle_()
    assert "conv 2" in data["text/plain"]
    assert "on M4 ≈" in repr(view)
    assert "data:image/svg+xml;base64," in data["text/html"]
    assert "<script" not in data["text/html"]
    assert view.to_svg().startswith("<svg")
    view.close()
