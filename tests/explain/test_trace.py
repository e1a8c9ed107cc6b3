"""The trace, read as Perfetto reads it: threads by number, slices that nest, flows that bind."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from coreml_lab.circumstances import Region
from coreml_lab.explain.renderers import trace
from coreml_lab.explain.renderers.trace import microseconds
from coreml_lab.records import Recording
from tests.support.fakes import MS, recording
from tests.support.turns import split

# What the format asks of each phase, besides ph, pid and ts.
NEEDED = {
    "X": {"tid", "name", "dur"},
    "C": {"name", "args"},
    "M": {"tid", "name", "args"},
    "i": {"name", "s"},
    "s": {"tid", "name", "cat", "id"},
    "f": {"tid", "name", "cat", "id", "bp"},
}


def events(found: Recording) -> list[dict[str, Any]]:
    return json.loads(trace.render(found))["traceEvents"]


def ns(value: float) -> int:
    """A time as Perfetto's importer takes it: a fraction is cut, not rounded."""
    return value * 1000 if isinstance(value, int) else int(value * 1000.0)


def complaints(found: list[dict[str, Any]]) -> list[str]:
    """What an importer of the format would drop, or draw otherwise than it is meant."""
    told = [f"{e['ph']} lacks keys" for e in found if not FORMAT[e["ph"]] <= e.keys()]
    told += [f"{e['name']} at {e['ts']}" for e in found if not (e["ts"] >= 0 and ns(e["ts"]) >= 0)]
    threads = {(e["pid"], e["tid"]) for e in found if e["name"] == "thread_name"}
    lanes, flows = defaultdict(list), defaultdict(list)
    for event in found:
        match event["ph"]:
            case "X":
                start, took = ns(event["ts"]), ns(event["dur"])
                lanes[event["pid"], event["tid"]].append((start, -took))
                told += [f"{event['name']} ends before it begins"] if took < 0 else []
            case "s" | "f":
                flows[event["id"]].append(event["ph"])
            case "C":
                values = event["args"].values()
                told += [f"{event['name']}: {v}" for v in values if type(v) not in {int, float}]
    told += [f"thread {lane} has no name" for lane in lanes if lane not in threads]
    told += [f"flow {number}: {ends}" for number, ends in flows.items() if ends != ["s", "f"]]
    for lane, rows in lanes.items():
        open_: list[int] = []
        for start, less in sorted(rows):
            open_ = [end for end in open_ if end > start]
            told += (
                [f"{lane} at {start}: not nested"] if any(start - less > e for e in open_) else []
            )
            open_.append(start - less)
    return told


FORMAT = {phase: {"ph", "pid", "ts", "name"} | needed for phase, needed in NEEDED.items()}
NESTED = (Region(1, "all", None, 0, 9 * MS), Region(2, "part", 1, MS, 2 * MS))


@pytest.mark.parametrize(
    "found",
    [recording(), split(), recording(runs=(), samples=()), recording(regions=NESTED)],
)
def test_the_format_is_kept_to_the_letter(found: Recording) -> None:
    assert complaints(events(found)) == []


def test_what_breaks_the_format_is_found() -> None:
    found = events(split())
    shown = [e for e in found if e["ph"] == "X" and e["cat"] == "op"]
    shown[0]["dur"] = -1
    del next(e for e in found if e["ph"] == "f")["bp"]
    found.remove(next(e for e in found if e["ph"] == "s"))
    told = "; ".join(complaints(found))
    for said in ("ends before it begins", "f lacks keys", "flow 1: ['f']"):
        assert said in told


def test_numbers_of_threads_and_processes_are_all_different() -> None:
    found = events(split())
    pairs = {(e["pid"], e["tid"]) for e in found if e["ph"] in "Xsf"}
    threads = [tid for _, tid in pairs]
    assert len(threads) == len(set(threads))
    assert not {e["pid"] for e in found} & set(threads)


def test_cut_to_nanoseconds_every_time_is_what_it_was() -> None:
    for value in (*range(5000), 3_600_000_000_001, 3_600_000_000_999, 86_400 * 10**9 + 1):
        assert ns(microseconds(value)) == value


def test_slices_of_one_thread_never_overlap_by_a_nanosecond() -> None:
    lanes = defaultdict(list)
    for event in events(split()):
        if event["ph"] == "X":
            lanes[event["tid"]].append((ns(event["ts"]), ns(event["dur"])))
    assert len(lanes) == 4
    for rows in lanes.values():
        assert all(a + took <= b for (a, took), (b, _) in pairwise(sorted(rows)))


def test_devices_are_tracks() -> None:
    found = events(split())
    names = {e["tid"]: e["args"]["name"] for e in found if e["name"] == "thread_name"}
    device = {e["name"]: names[e["tid"]] for e in found if e["ph"] == "X"}
    assert device["conv"] == device["softmax"] == "cpu · portable"
    assert device["linear"] == device["[transfer]"] == "cuda:0 · pytorch"
    assert device["relu"] == "cuda:0 · pytorch, at the same time (2)"


def test_flows_lead_from_device_to_device_and_are_bound_to_slices() -> None:
    found = events(split())
    slices = [e for e in found if e["ph"] == "X" and e["cat"] == "op"]

    def bound(end: dict[str, Any]) -> str:
        (name,) = [
            e["name"]
            for e in slices
            if e["tid"] == end["tid"] and ns(e["ts"]) <= ns(end["ts"]) < ns(e["ts"]) + ns(e["dur"])
        ]
        return name

    flows = defaultdict(list)
    for event in found:
        if event["ph"] in "sf":
            flows[event["id"]].append(event)
    assert all(ends[1]["bp"] == "e" for ends in flows.values())
    told = [(bound(start), bound(end)) for start, end in flows.values()]
    assert told == [("conv", "[transfer]"), ("relu", "softmax")]
    assert found.index(flows[1][0]) > max(map(found.index, slices))


def test_one_device_has_no_flows() -> None:
    assert not [e for e in events(recording()) if e["ph"] in "sf"]


def test_incidents_of_runs_are_shown_too_and_each_once() -> None:
    both, own = split(), dataclasses.replace(split(), incidents=())
    for found in (both, own):
        assert len([e for e in events(found) if e["ph"] == "i"]) == 1


def test_counters_belong_to_the_machine_and_slices_to_the_program() -> None:
    found = events(recording())
    names = {e["pid"]: e["args"]["name"] for e in found if e["name"] == "process_name"}
    (machine,) = {names[e["pid"]] for e in found if e["ph"] == "C"}
    assert machine.startswith("this machine")
    assert {names[e["pid"]] for e in found if e["ph"] == "X"} == {"tiny"}


def test_the_same_span_twice_is_two_slices() -> None:
    run = split().runs[0]
    found = dataclasses.replace(split(), runs=(run, dataclasses.replace(run, index=1)))
    slices = [e for e in events(found) if e["ph"] == "X" and e["cat"] == "op"]
    assert len(slices) == 10


def test_regions_are_slices_of_their_own_inner_ones_on_a_lane_below() -> None:
    found = recording(
        regions=(Region(1, "decode", None, 0, 5 * MS), Region(2, "st\u202eep", 1, MS, 2 * MS))
    )
    shown = [e for e in events(found) if e.get("cat") == "region"]
    assert [(ns(e["ts"]), ns(e["dur"])) for e in shown] == [(0, 5 * MS), (MS, 2 * MS)]
    assert shown[0]["name"] == "decode"
    assert "\u202e" not in shown[1]["name"]
    assert len({e["tid"] for e in shown}) == 2
