"""Watching a stretch of code: the peak meanwhile, nested watches, and what is not known."""

from __future__ import annotations

import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError, ProbeError
from coreml_lab.measure.memory import Board, Peak, peak
from coreml_lab.metrics import Provenance
from coreml_lab.probes.highwater import Level
from coreml_lab.probes.protocol import NAN
from tests.support.touching import touch


class FakeMarks:
    """A process whose memory is told to it."""

    what = "fake memory"

    def __init__(self, refused="", neural=NAN):
        self.now = self.most = 100.0
        self.refused, self.neural = refused, neural

    def use(self, now):
        self.now, self.most = now, max(now, self.most)

    def level(self):
        return Level(self.now, self.most, self.neural, self.neural)

    def reset(self):
        if not self.refused:
            self.most = self.now
        return self.refused


def values(use):
    return use.before.value, use.peak.value, use.after.value, use.above.value, use.grown.value


def test_the_peak_is_that_of_the_block_alone():
    found = FakeMarks()
    found.use(900.0)
    found.use(100.0)
    with Peak(Board(found)) as p:
        found.use(400.0)
        found.use(150.0)
    assert values(p.use) == (100, 400, 150, 300, 50)
    assert p.use.peak.provenance is Provenance.MEASURED
    assert p.use.peak.note == "fake memory"


def test_watches_nest_though_there_is_one_mark():
    found = FakeMarks()
    board = Board(found)
    with Peak(board) as outer:
        found.use(500.0)
        found.use(200.0)
        with Peak(board) as inner:
            found.use(300.0)
            found.use(200.0)
        found.use(250.0)
    assert inner.use.peak.value == 300
    assert outer.use.peak.value == 500


def test_an_outer_watch_sees_what_an_inner_one_reached():
    found = FakeMarks()
    board = Board(found)
    with Peak(board) as outer:
        with Peak(board):
            found.use(800.0)
            found.use(100.0)
        with Peak(board) as second:
            found.use(110.0)
    assert outer.use.peak.value == 800
    assert second.use.peak.value == 110


def test_a_mark_that_cannot_be_set_back_still_tells_a_new_record():
    found = FakeMarks(refused="forbidden here")
    with Peak(Board(found)) as p:
        found.use(400.0)
        found.use(100.0)
    assert p.use.peak.value == 400


def test_below_the_record_the_peak_is_unavailable_and_says_why():
    found = FakeMarks(refused="forbidden here")
    found.use(900.0)
    found.use(100.0)
    with Peak(Board(found)) as p:
        found.use(400.0)
        found.use(150.0)
    assert p.use.peak.provenance is Provenance.UNAVAILABLE
    assert "forbidden here; the most so far was reached before" in p.use.peak.note
    assert p.use.grown.value == 50


def test_a_system_that_tells_nothing_leaves_every_number_unavailable():
    class Broken(FakeMarks):
        def level(self):
            raise ProbeError("refused")

    with Peak(Board(Broken())) as p:
        pass
    assert {q.provenance for q in vars(p.use).values()} == {Provenance.UNAVAILABLE}
    assert p.use.peak.note == "refused"


def test_the_neural_engines_memory_is_told_where_the_system_does():
    with Peak(Board(FakeMarks(neural=70.0))) as p:
        pass
    assert p.use.neural.value == 70
    with Peak(Board(FakeMarks())) as p:
        pass
    assert "only macOS" in p.use.neural.note


def test_an_error_in_the_block_leaves_the_watch_whole():
    board = Board(FakeMarks())
    watch = Peak(board)
    with pytest.raises(ZeroDivisionError), watch:
        1 / 0  # noqa: B018 - it raises
    assert watch.use.peak.value == 100
    assert board._watching == []


def test_looking_too_early_is_an_error():
    with Peak(Board(FakeMarks())) as p, pytest.raises(LabError, match="still running"):
        p.use  # noqa: B018 - it raises


def test_here_an_array_that_was_let_go_again_shows_in_the_peak_only():
    with peak() as p:
        touch(48 << 20)
    if p.use.peak.provenance is Provenance.UNAVAILABLE:
        pytest.skip(p.use.peak.note)
    assert p.use.above.value > 40e6
    assert p.use.grown.value < 8e6


def test_the_processs_own_peak_outlives_a_mark_that_was_set_back():
    before = cl.memory().process_peak.value
    with peak():
        pass
    assert cl.memory().process_peak.value >= before
