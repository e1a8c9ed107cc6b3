"""Cold and warm starts: loaded anew, run once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.circumstances import Stage
from coreml_lab.errors import InputError
from coreml_lab.measure.starts import starts

X = {"x": np.ones((4, 16), "float32")}


class Loadable:
    """A model that leaves a file in the cache when it is loaded for the first time."""

    def __init__(self, log: list[tuple[str, bool]]) -> None:
        self.log = log
        self.stages: tuple[Stage, ...] = ()

    def again(self) -> Loadable:
        found = Loadable(self.log)
        kept = Path(config.current().cache_dir) / "kept"
        name = "session" if kept.exists() else "lowering"
        kept.write_text("compiled")
        found.stages = (Stage(name, 0, 5),)
        return found

    def predict(self, inputs: object) -> object:
        self.log.append((self.stages[0].name, inputs is X))
        self.stages = (*self.stages, Stage("first run", 5, 7))
        return inputs


def test_cold_starts_find_an_empty_cache_and_warm_ones_a_full_one_in_turns():
    log: list[tuple[str, bool]] = []
    before = config.current().cache_dir
    found = list(starts(Loadable(log), X, 2))
    assert [s.cached for s in found] == [False, True, False, True]
    assert [s.stages[0].name for s in found] == ["lowering", "session"] * 2
    assert {s.stages[-1].name for s in found} == {"first run"}
    # The very first one fills the cache of the warm ones, and is not told.
    assert log == [("lowering", True), *[("lowering", True), ("session", True)] * 2]
    assert config.current().cache_dir == before


def test_a_model_that_cannot_be_loaded_again_is_refused():
    with pytest.raises(InputError, match="cannot be loaded once more") as caught:
        list(starts(object(), X, 1))
    assert caught.value.hint == "cold=0"


def test_a_profile_holds_the_starts_that_were_asked_for():
    model = cl.compile(lambda x: {"y": cl.ops.relu(x)}, x=cl.spec(4, 16), name="relu")
    found = cl.profile(model, X, runs=2, warmup=0, spans=False, cold=1)
    assert [s.cached for s in found.starts] == [False, True]
    cold, warm = ({s.name for s in start.stages} for start in found.starts)
    assert cold - warm == {"lowering"}
    assert "first run" in warm
    assert cl.Recording.from_json(found.to_json()) == found
