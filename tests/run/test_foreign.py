"""An engine that somebody else wrote is taken as it is, and told what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError, EngineUnavailable, NumericalError, UnknownParameter
from coreml_lab.run.engine import Availability
from coreml_lab.run.reference import ReferenceEngine

HERE = Availability(available=True)
X = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)


@dataclass(frozen=True)
class Abacus:
    """Runs on the definitions, and notes what it was asked."""

    name: str = "abacus"
    devices: tuple[str, ...] = ("beads:0", "cpu")
    here: Availability = HERE
    forgets: str = ""
    asked: list[str] = field(default_factory=list)

    def title(self, device: str) -> str:
        return f"an abacus ({device})"

    def available(self) -> Availability:
        return self.here

    def supports(self, node: Any) -> bool:
        return ReferenceEngine().supports(node)

    def load(self, program: Any, device: str, options: Any) -> Any:
        self.asked.append(device)
        loaded = ReferenceEngine().load(program, device, options)
        run = loaded.run

        def forgetful(inputs: Mapping[str, Any], *state: Any) -> dict[str, Any]:
            return {k: v for k, v in run(inputs, *state).items() if k != self.forgets}

        loaded.run = forgetful  # type: ignore[method-assign, assignment]
        return loaded


def relu(x: Any) -> Any:
    return cl.ops.relu(x)


def compiled(engine: Any, **how: Any) -> Any:
    return cl.compile(relu, x=cl.spec(2, 3), engine=engine, **how)


def test_an_engine_of_ones_own_runs_a_program_on_a_device_of_its_own() -> None:
    engine = Abacus()
    model = compiled(engine)
    found = model.predict({"x": X})
    assert engine.asked == ["beads:0"]
    np.testing.assert_array_equal(next(iter(found.values())), np.maximum(X, 0))
    assert model.plan.engine == "abacus"
    assert model.plan.title == "an abacus (beads:0)"
    assert "abacus (beads:0)" in repr(model)


def test_a_stored_model_runs_on_it_too() -> None:
    package = compiled("auto").program.package
    model = cl.load(package, engine=Abacus(), device="cpu")
    assert model.plan.title == "an abacus (cpu)"
    np.testing.assert_array_equal(next(iter(model.predict({"x": X}).values())), np.maximum(X, 0))


def test_a_model_keeps_its_engine_where_that_drives_the_device() -> None:
    model = compiled(Abacus())
    assert model.to("cpu").plan.engine == "abacus"
    assert model.to("beads").device == "beads:0"
    assert model.to("coreml").plan.engine != "abacus"


def test_what_its_programs_tell_besides_is_used() -> None:
    model = compiled(Abacus())
    before = cl.memory()["beads:0"]
    model.predict({"x": X})
    after = cl.memory()["beads:0"]
    assert after.shares == before.shares + 2
    assert after.untold == 0


def test_a_model_on_it_is_profiled_and_debugged() -> None:
    model = compiled(Abacus())
    assert any(span.op == "relu" for span in model.trace({"x": X}, runs=1)[0].spans)
    root = cl.compile(cl.ops.sqrt, x=cl.spec(2, 3), engine=Abacus())
    with pytest.raises(NumericalError, match="sqrt"):
        root.debug({"x": X})


def test_a_device_that_it_does_not_drive_is_refused_with_those_it_does() -> None:
    with pytest.raises(EngineUnavailable, match="abacus does not drive coreml") as caught:
        compiled(Abacus(), device="coreml")
    assert caught.value.reason == "it drives beads:0, cpu"


def test_an_engine_that_is_not_here_says_why() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        compiled(Abacus(here=Availability(available=False, reason="a bead is missing")))
    assert caught.value.reason == "a bead is missing"


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (42, "int is no engine: it lacks title, available, supports, load, name"),
        (Abacus, "Abacus is no engine: it is a class"),
        (Abacus(name=""), "lacks name"),
        (Abacus(devices=()), "lacks devices"),
    ],
)
def test_what_is_no_engine_is_told_what_it_lacks(engine: Any, told: str) -> None:
    with pytest.raises(UnknownParameter) as caught:
        compiled(engine)
    assert told in caught.value.message


def test_a_program_without_a_part_of_the_protocol_is_refused() -> None:
    class Empty(Abacus):
        def load(self, program: Any, device: str, options: Any) -> Any:
            del program, device, options
            return object()

    with pytest.raises(EngineError, match="lacks run, states, make_state, trace"):
        compiled(Empty())


def test_an_output_that_is_not_there_is_an_error_that_names_it() -> None:
    name = next(iter(compiled(Abacus()).outputs))
    with pytest.raises(EngineError, match=f"gave nothing for the output '{name}'"):
        compiled(Abacus(forgets=name)).predict({"x": X})


class Swift(Abacus):
    """One that takes batches and deadlines, too, and has a say in what they give."""

    gives: Any = staticmethod(lambda found: found)

    def load(self, program: Any, device: str, options: Any) -> Any:
        loaded = super().load(program, device, options)
        run, within = loaded.run, loaded.run_within
        loaded.run = lambda *given: self.gives(run(*given))
        loaded.run_within = lambda *given: self.gives(within(*given))
        loaded.run_batch = lambda batch: [loaded.run(each) for each in batch]
        return loaded


WAYS = {
    "run": lambda model: model.predict({"x": X}),
    "run_within": lambda model: model.predict({"x": X}, deadline=60),
    "run_batch": lambda model: model.predict([{"x": X}] * 2),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda _: {}, "nothing"),
        (lambda _: None, "NoneType"),
        (lambda found: list(found.values()), "list"),
        (lambda found: {k: v.tolist() for k, v in found.items()}, "list"),
    ],
    ids=["no output", "nothing", "no names", "no arrays"],
)
def test_whatever_is_asked_each_output_must_be_there(way: str, gives: Any, told: str) -> None:
    class Odd(Swift):
        pass

    Odd.gives = staticmethod(gives)
    model = compiled(Odd())
    with pytest.raises(EngineError, match=f"abacus gave {told} for the output ") as caught:
        WAYS[way](model)
    assert f"{way}()" in caught.value.hint


@pytest.mark.parametrize(
    ("gives", "told"),
    [(lambda _: [], "0"), (lambda _: None, "NoneType")],
    ids=["none of them", "nothing"],
)
def test_a_batch_has_as_many_results_as_inferences(gives: Any, told: str) -> None:
    class Odd(Swift):
        def load(self, *given: Any) -> Any:
            loaded = super().load(*given)
            loaded.run_batch = gives
            return loaded

    with pytest.raises(EngineError, match=f"gave {told} for the results of 2 inferences"):
        compiled(Odd()).predict([{"x": X}] * 2)


def test_batches_and_deadlines_of_ones_own_engine_are_used() -> None:
    for way in WAYS.values():
        found = way(compiled(Swift()))
        for each in found if isinstance(found, list) else [found]:
            np.testing.assert_array_equal(next(iter(each.values())), np.maximum(X, 0))
