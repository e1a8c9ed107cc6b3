"""placement(): what it says of whole programs, and how it says it."""

from __future__ import annotations

import pytest

import coreml_lab as cl
from coreml_lab.errors import LabError, UnknownParameter


@pytest.fixture(scope="module")
def digits() -> cl.Model:
    return cl.zoo.digits(precision="fp16", engine="reference", device="cpu")


def test_an_unknown_chip_is_answered_with_the_names_of_all(digits: cl.Model) -> None:
    with pytest.raises(UnknownParameter, match="no chip '\\?'") as caught:
        cl.placement(digits, "?")
    for name in ("A12", "A17 Pro", "A19 Pro", "M1", "M4 Max", "M6"):
        assert name in caught.value.hint


def test_chips_are_found_however_they_are_spelled(digits: cl.Model) -> None:
    assert cl.placement(digits, " m4pro").estimated.chip.name == "M4 Pro"


def test_only_models_and_paths_are_placed() -> None:
    with pytest.raises(LabError, match="a model or a path, not int"):
        cl.placement(7)  # type: ignore[call-overload]
