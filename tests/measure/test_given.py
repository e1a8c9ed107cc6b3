"""What is given to measuring and explaining by mistake: one error that says what to give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError
from tests.support.fakes import FakeModel, recording

MEASURING = (cl.profile, cl.energy, cl.leaks, cl.footprint, cl.compare)
X = {"x": [1.0]}


@pytest.mark.parametrize("function", MEASURING)
def test_a_path_is_no_model_and_how_it_becomes_one_is_said(function: Callable[..., Any]) -> None:
    verb = function.__name__
    with pytest.raises(InputError) as caught:
        function("net.mlpackage", X)
    assert caught.value.message == f"{verb} takes a model, not a str"
    assert caught.value.hint == f"cl.{verb}(cl.load('net.mlpackage'), inputs)"


@pytest.mark.parametrize("function", MEASURING)
def test_inputs_in_the_place_of_the_model_are_told(function: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=f"{function.__name__} takes a model, not a "):
        function(X, FakeModel())


def test_one_that_is_no_model_among_several_is_told() -> None:
    with pytest.raises(InputError, match="compare takes a model, not a str"):
        cl.compare([FakeModel(), "net.mlpackage"], X)


@pytest.mark.parametrize("function", [cl.report, lambda r: cl.diff_recordings(r, r)])
def test_a_model_is_no_recording(function: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="takes a recording, not a FakeModel") as caught:
        function(FakeModel())
    assert caught.value.hint == "cl.profile(model, inputs) makes one"


def test_a_profile_is_asked_for_its_recording() -> None:
    with pytest.raises(InputError) as caught:
        cl.report(cl.profile())
    assert caught.value.hint == "give its .recording: cl.report(p.recording)"


def test_a_report_holds_results_and_no_model() -> None:
    with pytest.raises(InputError, match="besides its recording, not a FakeModel"):
        cl.report(recording(), FakeModel())


def test_recordings_are_also_named_by_their_files(tmp_path: Path) -> None:
    path = recording().save(tmp_path / "r.json")
    assert str(cl.report(path)) == str(cl.report(recording()))
    assert str(cl.diff_recordings(path, str(path))) == str(
        cl.diff_recordings(recording(), recording())
    )
