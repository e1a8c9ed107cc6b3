"""Settings: argument > configure() > environment > default; errors say what to try."""

from __future__ import annotations

from pathlib import Path

import pytest

import coreml_lab as cl
from coreml_lab import config, errors
from coreml_lab.errors import LabError, UnknownParameter


def test_the_environment_overrides_defaults() -> None:
    found = config.from_environment(
        {
            "COREML_LAB_PRECISION": "fp16",
            "COREML_LAB_RECOVER": "no",
            "COREML_LAB_CACHE_DIR": "/tmp/c",
        }
    )
    assert (found.precision, found.recover, found.cache_dir) == ("fp16", False, Path("/tmp/c"))


def test_configure_holds_until_the_block_ends() -> None:
    before = config.current()
    with cl.configure(precision="fp16", threads=1) as inside:
        assert (inside.precision, inside.threads) == ("fp16", 1)
    assert config.current() == before


def test_configure_without_a_block_stays() -> None:
    cl.configure(interval=0.5)
    assert config.current().interval == 0.5


def test_an_unknown_setting_names_those_there_are() -> None:
    with pytest.raises(UnknownParameter, match="no such setting") as caught:
        cl.configure(precison="fp16")
    assert "precision" in caught.value.hint


def test_a_variable_that_is_no_number_says_which() -> None:
    with pytest.raises(UnknownParameter, match="COREML_LAB_INTERVAL"):
        config.from_environment({"COREML_LAB_INTERVAL": "fast"})


def test_every_setting_has_a_variable_and_a_sentence() -> None:
    for name, variable, _default, help_text in config.rows():
        assert variable == "COREML_LAB_" + name.upper()
        assert help_text.endswith(".")


def test_every_error_is_a_lab_error_drawn_in_the_tree() -> None:
    drawn = errors.__doc__ or ""
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, LabError)
        assert kind.__name__ in drawn


def test_a_message_ends_with_what_to_try() -> None:
    assert str(LabError("it broke", hint="mend it")) == "it broke\ntry: mend it"
    assert str(LabError("it broke")) == "it broke"
