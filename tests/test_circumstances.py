"""What is around the runs of a recording, when it is saved, read and merged."""

from __future__ import annotations

import dataclasses

from coreml_lab.circumstances import (
    Condition,
    Overhead,
    Pace,
    Region,
    Split,
    Stage,
    Start,
    worst,
)
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Recording, Run
from tests.support.fakes import MS, recording


def condition(name: str, value: float, *, noisy: bool = False) -> Condition:
    return Condition(name, Quantity(value, "1", Provenance.MEASURED), noisy)


def whole(**changes: object) -> Recording:
    stage = Stage("session", 1, 2)
    settings: dict[str, object] = {
        "runs": (Run(0, 10, MS, region=0), Run(1, 30, MS)),
        "stages": (stage,),
        "starts": (Start(True, (stage,)),),
        "pace": Pace((1, 2), None, "as asked", "as asked"),
        "splits": (Split(0, 5, {"framework": 5}),),
        "regions": (Region(0, "decode", None, 0, 5), Region(3, "step", 0, 1, 2, "other")),
        "conditions": (
            condition("heat", 1.0),
            Condition("swap", Quantity.unavailable("By", "it does not tell")),
        ),
        "overhead": Overhead(500, 3000, Quantity.unavailable("{core}", "no sampler")),
    }
    return recording(**{**settings, **changes})


def test_all_of_it_is_saved_and_read_again() -> None:
    assert Recording.from_json(whole().to_json()) == whole()


def test_a_recording_that_lacks_it_is_read_as_before() -> None:
    found = Recording.from_json(recording().to_json())
    assert (found.stages, found.splits, found.regions, found.pace) == ((), (), (), None)


def test_merged_regions_stay_apart_and_runs_keep_theirs() -> None:
    other = whole(runs=(Run(0, 20, MS, region=3), Run(1, 40, MS)))
    merged = whole().merge(other)
    names = {region.index: region.name for region in merged.regions}
    assert names == {0: "decode", 3: "step", 4: "decode", 7: "step"}
    assert merged.regions[3].parent == 4
    assert [run.region for run in merged.runs] == [0, 7, None, None]
    assert len(merged.splits) == len(merged.starts) == 2
    assert merged.pace is None
    assert merged.stages == whole().stages


def test_of_conditions_the_worse_is_kept() -> None:
    loud, louder, quiet = (
        condition("load", 0.3, noisy=True),
        condition("load", 0.9, noisy=True),
        condition("load", 2.0),
    )
    assert worst((quiet, loud, louder, loud)) == (louder,)
    unknown = dataclasses.replace(quiet, value=Quantity.unavailable("1", "why"))
    assert worst((unknown, quiet)) == (quiet,)
    assert worst((unknown, loud)) == (loud,)


def test_of_changes_down_and_up_the_larger_is_kept() -> None:
    fell, rose = (condition("frequency", value, noisy=True) for value in (-0.30, 0.06))
    assert worst((fell, rose)) == worst((rose, fell)) == (fell,)
