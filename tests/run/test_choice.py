"""Which engine is faster: those that disagree are no rivals, and only what lasts is remembered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, LabError, OutOfMemory, UnsupportedOp
from coreml_lab.program.graph import Array
from coreml_lab.run import choice
from coreml_lab.run.executor import Interrupted
from coreml_lab.run.portable import PortableEngine

ONES = {"x": np.ones(3)}


@dataclass
class Timed:
    """Sleeps, then gives its input times a factor."""

    seconds: float
    factor: Any = 2.0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        time.sleep(self.seconds)
        return {"y": inputs["x"] * self.factor}


def chosen(first: Timed, *rivals: Any) -> choice.Choice:
    named = [(f"rival {i}", load) for i, load in enumerate(rivals)]
    known: Any = ("first", first)
    return choice.fastest(known, named, ONES)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (2.0, NAN),
        (NAN, 2.0),
        (2.0, [2.0, NAN, 2.0]),
        ([2.0, NAN, 2.0], [2.0, 2.0, NAN]),
        (INF, -INF),
        (INF, NAN),
        ([2.0, INF, 2.0], 2.0),
    ],
)
def test_a_rival_that_is_not_finite_elsewhere_does_not_agree(ours: Any, theirs: Any) -> None:
    found = chosen(Timed(0.005, np.array(ours)), lambda: Timed(0.0, np.array(theirs)))
    assert found.engine == "first"
    assert "not finite elsewhere" in found.why


def test_the_same_nan_and_infinities_agree_and_the_rest_is_compared() -> None:
    ours, near, far = ([2.0, NAN, x] for x in (INF, INF, INF))
    near[0], far[0] = 2.0 + 1e-6, 2.1
    assert chosen(Timed(0.005, np.array(ours)), lambda: Timed(0, np.array(near))).engine != "first"
    found = chosen(Timed(0.005, np.array(ours)), lambda: Timed(0, np.array(far)))
    assert (found.engine, "differ by 5.0e-02" in found.why) == ("first", True)
    everywhere = np.full(3, NAN)
    assert chosen(Timed(0.005, everywhere), lambda: Timed(0, everywhere)).engine == "rival 0"


def test_an_output_that_is_missing_or_of_another_shape_does_not_agree() -> None:
    class Other(Timed):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {"z": inputs["x"] * 2}

    assert chosen(Timed(0.005), lambda: Other(0)).engine == "first"
    assert chosen(Timed(0.005), lambda: Timed(0, np.full((2, 1), 2.0))).engine == "first"


def test_each_rival_is_compared_with_the_best_so_far() -> None:
    found = chosen(Timed(0.02), lambda: Timed(0.0), lambda: Timed(0.01))
    assert found.engine == "rival 0"
    assert "ms on first" in found.why
    assert "ms on rival 1" in found.why


def test_threads_that_still_spin_after_a_run_do_not_slow_the_next_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "REST", 0.3)
    ended = [-1.0]

    class Spinning(Timed):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            found = super().run(inputs)
            ended[0] = time.monotonic()
            return found

    class Disturbed(Timed):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            late = time.monotonic() < ended[0] + 0.25
            return Timed(self.seconds * (10 if late else 1)).run(inputs)

    found = chosen(Spinning(0.01), lambda: Disturbed(0.002))
    assert found.engine == "rival 0", found.why
    assert chosen(Disturbed(0.002), lambda: Spinning(0.01)).engine == "first"


def test_only_a_refusal_for_good_is_remembered() -> None:
    def fails(error: LabError) -> Any:
        def load() -> Any:
            raise error

        return load

    refused = chosen(Timed(0), fails(UnsupportedOp("no such op")))
    assert ("no such op" in refused.why, refused.lasting) == (True, True)
    short = chosen(Timed(0), fails(OutOfMemory("too large")))
    assert ("too large" in short.why, short.lasting) == (True, False)


def test_a_rival_that_was_short_of_memory_is_asked_again(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    cl.configure(rivals=True)
    asked: list[bool] = []

    def measured(*_: Any) -> choice.Choice:
        asked.append(True)
        return choice.Choice("portable", "portable: openvino cannot run it", len(asked) > 1)

    monkeypatch.setattr(choice, "fastest", measured)
    package = cl.compile(cl.ops.exp, x=cl.spec(3), engine="portable").program.package
    for _ in range(3):
        assert cl.load(package).plan.engine == "portable"
    assert len(asked) == 2


def test_a_first_engine_that_fails_is_blamed_itself() -> None:
    class Broken(Timed):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            raise EngineError("its kernel is broken")

    found = chosen(Broken(0), lambda: Timed(0))
    assert (found.engine, found.lasting) == ("first", False)
    assert found.why == (
        "first: first fails on simulated inputs (its kernel is broken), nothing is compared"
    )


def test_an_interrupt_ends_the_choice(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    package = cl.compile(cl.ops.exp, x=cl.spec(3), engine="portable").program.package
    cl.configure(rivals=True)
    asked: list[bool] = []

    def stopped(*_: Any) -> Any:
        asked.append(True)
        raise Interrupted("a model inside of it was stopped")

    monkeypatch.setattr(PortableEngine, "load", stopped)
    with pytest.raises(KeyboardInterrupt):
        cl.load(package)
    assert len(asked) == 1


def test_an_interrupt_ends_the_comparison() -> None:
    class Stopped(Timed):
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            raise Interrupted("a model inside of it was stopped")

    for first, rival in ((Stopped(0), Timed(0)), (Timed(0), Stopped(0))):
        with pytest.raises(KeyboardInterrupt):
            chosen(first, lambda rival=rival: rival)
