"""The feed: each row once, at most one patch per interval, nothing lost silently."""

from __future__ import annotations

import numpy as np

from coreml_lab.widgets.feed import EVENTS_KEPT, Feed, quiet

MS = 1_000_000


def incident(number):
    return {
        "k": "incident",
        "id": number,
        "t": float(number),
        "error": "Timeout",
        "message": "late",
        "action": "retry",
        "outcome": "recovered",
    }


def test_a_row_is_handed_out_once_and_at_most_every_interval():
    feed = Feed(("cpu",))
    feed.push(0, (1.0,))
    feed.push(10 * MS, (2.0,))
    first = feed.poll(10 * MS)
    assert first is not None
    assert first.rows.tolist() == [[0.0, 1.0], [0.01, 2.0]]
    feed.push(50 * MS, (3.0,))
    assert feed.poll(60 * MS) is None
    second = feed.poll(110 * MS)
    assert second is not None
    assert (second.seq, second.rows.tolist()) == (2, [[0.05, 3.0]])
    assert feed.poll(300 * MS) is None


def test_rows_that_fall_out_before_anyone_was_told_are_counted():
    feed = Feed(("cpu",), capacity=3)
    for i in range(5):
        feed.push(i * MS, (float(i),))
    patch = feed.poll(10 * MS)
    assert patch is not None
    assert (patch.dropped, patch.seq, patch.rows[:, 1].tolist()) == (2, 2, [2.0, 3.0, 4.0])


def test_rows_that_were_told_may_fall_out_without_being_dropped():
    feed = Feed(("cpu",), capacity=3, every_ns=0)
    for i in range(9):
        feed.push(i * MS, (float(i),))
        feed.poll(i * MS)
    assert feed.dropped == 0


def test_a_patch_that_could_not_be_sent_is_counted_and_its_events_go_again():
    feed = Feed(("cpu",), every_ns=0)
    feed.push(0, (1.0,))
    feed.event(incident(1))
    lost = feed.poll(1)
    assert lost is not None
    feed.lost(lost)
    again = feed.poll(2)
    assert again is not None
    assert (again.dropped, len(again.rows), len(again.events)) == (1, 0, 1)


def test_the_history_holds_everything_that_is_kept_and_ends_what_was_pending():
    feed = Feed(("cpu",), capacity=4)
    for i in range(6):
        feed.push(i * MS, (float(i),))
    feed.event(incident(1))
    patch = feed.history(10 * MS)
    assert (patch.full, patch.seq, len(patch.rows), len(patch.events)) == (True, 2, 4, 1)
    assert feed.poll(500 * MS) is None


def test_an_event_replaces_the_one_with_its_id_and_the_oldest_are_forgotten():
    feed = Feed(("cpu",))
    feed.event(incident(1))
    feed.event({**incident(1), "outcome": "failed"})
    assert [e["outcome"] for e in feed.events if e["k"] == "incident"] == ["failed"]
    for i in range(2, EVENTS_KEPT + 10):
        feed.event(incident(i))
    assert len(feed.events) == EVENTS_KEPT


def test_a_change_of_the_state_alone_is_told():
    feed = Feed(("cpu",), every_ns=0)
    assert feed.poll(0) is not None
    assert feed.poll(1) is None
    feed.state = {**quiet(), "busy": True}
    patch = feed.poll(2)
    assert patch is not None
    assert patch.state["busy"] is True


def test_a_message_is_a_header_without_nan_and_one_buffer_of_float64():
    feed = Feed(("a", "b"))
    feed.push(1_500 * MS, (float("nan"), 2.0))
    patch = feed.poll(2_000 * MS)
    assert patch is not None
    header, buffers = patch.message()
    assert (header["k"], header["seq"], header["n"], header["now"]) == ("f", 0, 1, 2.0)
    row = np.frombuffer(buffers[0], "<f8")
    assert row[0] == 1.5
    assert np.isnan(row[1])
    assert row[2] == 2.0


def test_steps_that_jitter_around_the_interval_each_get_their_patch():
    feed = Feed(("cpu",))
    told = 0
    for i in range(50):
        now = i * 100 * MS + (7 * MS if i % 2 else 0)
        feed.push(now, (0.0,))
        told += feed.poll(now) is not None
    assert told == 50


def test_steps_that_come_too_often_get_no_more_patches_than_intervals():
    feed = Feed(("cpu",))
    told = 0
    for i in range(100):
        feed.push(i * 20 * MS, (0.0,))
        told += feed.poll(i * 20 * MS) is not None
    assert told <= 21
