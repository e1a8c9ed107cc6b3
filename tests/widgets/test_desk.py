"""What the page asks of the kernel: recordings, suggestions tried in the background, strategies."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.run.split.strategy import current
from coreml_lab.widgets.desk import Desk
from coreml_lab.widgets.lane import Lane


def net(x):
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    return cl.ops.softmax(x=cl.ops.relu(x=cl.ops.conv(x=x, weight=weight)), axis=-1)


@pytest.fixture(scope="module")
def model():
    return cl.compile(net, x=cl.spec(1, 3, 8, 8))


@pytest.fixture(scope="module")
def inputs():
    return {"x": np.ones((1, 3, 8, 8), np.float32)}


@pytest.fixture(scope="module")
def recording(model, inputs):
    return cl.profile(model, inputs, runs=5, warmup=0)


class Stage:
    """A dashboard that shows a model and notes what it was told to show."""

    def __init__(self, model):
        self.model = model
        self.shown = []

    def show(self, model):
        self.model = model
        self.shown.append(model)


class Told:
    """A desk and everything it sent, as JSON carries it."""

    def __init__(self, model, folder):
        self.sent = []
        self.stage = Stage(model)
        self.desk = Desk(self.stage, self.take, folder=folder)

    def take(self, header, buffers):
        self.sent.append((json.loads(json.dumps(header, allow_nan=False)), buffers))

    def ask(self, what, arg=""):
        self.desk.heard({"k": "do", "v": 1, "what": what, "arg": arg})
        assert self.desk.drain()

    def last(self, kind):
        return next(header for header, _ in reversed(self.sent) if header["k"] == kind)

    def card(self, rule):
        return next(card for card in self.last("suggestions")["cards"] if card["rule"] == rule)


@pytest.fixture
def told(model, recording, tmp_path):
    made = Told(model, tmp_path)
    made.desk.recorded(recording)
    assert made.desk.drain()
    yield made
    made.desk.close()


def test_a_recording_is_told_with_its_spans_and_where_a_chip_would_run_it(told):
    header = told.last("recorded")
    spans = np.frombuffer(next(b for h, b in told.sent if h["k"] == "recorded")[0]).reshape(-1, 3)
    assert len(spans) == header["n"] > 0
    assert header["runs"] == 5
    row = next(op for op in header["ops"] if op["op"] == "conv")
    assert row["placed"] in {"CPU", "GPU", "Neural Engine"}
    assert "fp16" in row["why"]
    assert row["fused"] == ["relu"]
    assert spans[:, 1:].min() >= 0
    assert spans[:, 1].max() <= header["length"]


def test_a_page_that_comes_later_is_told_everything_again(told):
    told.sent.clear()
    told.desk.hello()
    assert told.desk.drain()
    kinds = {header["k"] for header, _ in told.sent}
    assert kinds == {"recorded", "suggestions", "strategy", "recording"}


def test_a_suggestion_is_tried_accepted_and_undone(told, model):
    card = told.card("fp16")
    assert card["state"] == "new"
    told.ask("try", card["id"])
    states = [
        next(c["state"] for c in header["cards"] if c["rule"] == "fp16")
        for header, _ in told.sent
        if header["k"] == "suggestions"
    ]
    assert states.index("waiting") < states.index("running")
    tried = told.card("fp16")
    assert tried["state"] in {"awaits", "rejected"}
    assert tried["ratio"]["value"] > 0
    assert tried["reasons"]
    told.ask("accept", card["id"])
    assert told.card("fp16")["state"] == "accepted"
    assert told.stage.model is not model
    told.ask("undo", card["id"])
    assert told.stage.model is model
    assert told.card("fp16")["state"] == "new"


def test_a_trial_stops_before_its_next_inference(told, monkeypatch):
    card = told.card("fp16")
    begun = threading.Event()
    go_on = threading.Event()
    cards = told.desk._cards
    load = cards._load

    def slow(*given):
        begun.set()
        assert go_on.wait(60)
        return load(*given)

    monkeypatch.setattr(cards, "_load", slow)
    told.desk.heard({"what": "try", "arg": card["id"]})
    assert begun.wait(60)
    told.desk.heard({"what": "halt"})
    go_on.set()
    assert told.desk.drain()
    assert told.card("fp16")["state"] == "stopped"


def test_wishes_that_make_no_sense_change_nothing(told, model):
    before = told.last("suggestions")
    advice = next((c["id"] for c in before["cards"] if not c["can"]), 99)
    for what, arg in (("try", 99), ("try", "x"), ("try", None), ("try", advice), ("accept", 1),
                      ("undo", 1), ("halt", ""), ("odd", 1), (None, None), ([], {})):  # fmt: skip
        told.ask(what, arg)
    assert told.last("suggestions")["cards"] == before["cards"]
    assert told.stage.shown == []


def test_recording_from_the_page_ends_with_a_recording(told, model, inputs):
    told.ask("record")
    assert told.last("recording")["on"] is True
    model.predict(inputs)
    told.ask("stop")
    assert told.last("recording")["on"] is False
    assert told.last("recording")["error"] == ""
    told.ask("record")
    told.ask("stop")
    assert told.last("recording")["error"] == "no model ran in it"


def test_a_saved_file_is_a_recording_and_never_replaces_another(told, recording, tmp_path):
    told.ask("save")
    told.ask("save")
    files = sorted(tmp_path.glob("*.json"))
    assert [file.name for file in files] == ["recording-net-1.json", "recording-net-2.json"]
    assert told.last("recording")["saved"] == "recording-net-2.json"
    assert cl.Recording.load(files[0]).program == recording.program
    told.ask("open", "recording-net-1.json")
    header = told.last("past")
    rows = np.frombuffer(next(b for h, b in told.sent if h["k"] == "past")[0])
    assert rows.size == header["n"] * (1 + len(header["schema"]["columns"]))
    told.ask("open", "nothing.json")
    assert "nothing.json" in told.last("recording")["error"]


def test_a_strategy_from_the_page_is_the_strategy(told):
    was = current().name
    try:
        told.ask("strategy", "battery")
        assert current().name == "battery"
        assert told.last("strategy")["current"] == "battery"
        told.ask("strategy", "nonsense")
        assert current().name == "battery"
        assert "nonsense" in told.last("recording")["error"]
    finally:
        cl.strategy(was)


def test_a_lane_goes_on_after_a_job_that_fails():
    seen = []
    lane = Lane("test lane", seen.append)
    lane.put(lambda: 1 / 0)
    lane.put(lambda: seen.append("next"))
    assert lane.drain(30)
    lane.close()
    assert [type(each).__name__ for each in seen] == ["ZeroDivisionError", "str"]
