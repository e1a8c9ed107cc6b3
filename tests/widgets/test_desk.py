"""What the page asks of the kernel: recordings, suggestions tried in the background, strategies."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError
from coreml_lab.explain import comparison
from coreml_lab.run.split.strategy import current
from coreml_lab.widgets.desk import Desk
from coreml_lab.widgets.lane import Lane
from coreml_lab.widgets.recorded import recorded


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
    assert len(spans) == sum(track["n"] for track in header["tracks"])
    assert header["tracks"][0]["n"] == header["n"] > 0
    assert header["runs"] == 5
    row = next(op for op in header["ops"] if op["op"] == "conv")
    assert row["placed"] in {"CPU", "GPU", "Neural Engine"}
    assert "fp16" in row["why"]
    assert row["fused"] == ["relu"]
    assert spans[:, 1:].min() >= 0
    assert spans[: header["n"], 1].max() <= header["length"]


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


def test_the_devices_are_told_on_request_and_the_model_goes_to_one(told, model):
    assert told.last("strategy")["places"] == []
    told.ask("places")
    places = {place["device"]: place for place in told.last("strategy")["places"]}
    assert places["cpu"]["available"]
    assert places["coreml:0"]["available"]
    assert all(place["reason"] for place in places.values() if not place["available"])
    assert told.last("strategy")["device"] == "coreml:0"
    told.ask("device", "cpu")
    assert told.stage.model is not model
    assert told.last("strategy")["device"] == "cpu"
    assert told.last("strategy")["engine"] == told.stage.model.plan.engine
    told.ask("device", "cuda:77")
    assert "no device cuda:77" in told.last("strategy")["error"]
    assert told.stage.model.plan.device == "cpu"


def test_without_a_model_nothing_moves(told):
    told.stage.model = None
    told.ask("device", "cpu")
    assert "no model is shown" in told.last("strategy")["error"]


def test_a_comparison_is_made_in_the_background_and_told_with_its_pairs(told, monkeypatch):
    asked = []

    def fake(model, inputs, **options):
        asked.append((model, options["budget"]))
        options["progress"]("time", 0.5)
        told.desk.compared(found)

    found = cl.compare(
        {"a": told.stage.model, "b": told.stage.model},
        recorded_inputs(told),
        pairs=4,
        parts=("time",),
    )
    monkeypatch.setattr(comparison, "compare", fake)
    told.ask("compare")
    assert told.desk.drain()
    stages = [h["stage"] for h, _ in told.sent if h["k"] == "comparing"]
    assert stages == ["start", "time", ""]
    said = told.last("compared")
    assert said["reference"]["name"] == "a"
    assert [arm["name"] for arm in said["arms"]] == ["b"]
    assert len(said["arms"][0]["times"]) == len(said["reference"]["times"]) == said["pairs"]
    row = next(r for r in said["arms"][0]["rows"] if r["metric"] == "latency.p50")
    assert row["value"]["provenance"] == "measured"
    assert row["ratio"]["value"] > 0


def recorded_inputs(told):
    return told.desk.recording.live[1]


def test_a_comparison_that_cannot_be_made_says_why(told, monkeypatch):
    def refused(*_, **__):
        raise LabError("compare needs two devices")

    monkeypatch.setattr(comparison, "compare", refused)
    told.ask("compare")
    assert told.last("comparing")["error"] == "compare needs two devices"
    assert told.last("comparing")["stage"] == ""
    told.desk.recording = None
    told.ask("compare")
    assert "record once" in told.last("comparing")["error"]


def test_a_page_that_comes_later_is_told_of_comparisons_too(told):
    told.desk.compared(
        cl.compare({"a": told.stage.model, "b": told.stage.model}, recorded_inputs(told), pairs=2,
                   parts=("time",))
    )  # fmt: skip
    assert told.desk.drain()
    told.sent.clear()
    told.desk.hello()
    assert told.desk.drain()
    assert told.last("compared")["arms"]


def test_lines_of_cells_are_told_with_their_neighbours_and_no_others(recording):
    ops = [replace(op, where=w) for op, w in zip(recording.program.ops, WHERES, strict=False)]
    changed = replace(recording, program=replace(recording.program, ops=tuple(ops)))
    cells = ["", "a = 1\nb = 2\nc = 3\nd = 4\x1b"]
    header, _ = recorded(changed, 1, {}, "", cells)
    known = {code["where"]: code for code in header["code"]}
    assert "Cell In[9], line 1" not in known
    found = known.get("Cell In[1], line 4")
    assert found is not None
    assert found["lines"][found["line"]].startswith("d = 4")
    assert "\x1b" not in "".join(found["lines"])
    assert found["first"] == 2
    assert recorded(changed, 1, {}, "")[0]["code"] == []
    assert all(roof["flops"] > 0 for roof in header["roofs"])


WHERES = ("Cell In[1], line 4", "Cell In[9], line 1", "net.py, line 3")
