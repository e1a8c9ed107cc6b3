"""The advisor and its rules: pure functions from facts to suggestions."""

from __future__ import annotations

import dataclasses

import pytest

from coreml_lab.explain.advisor import RULES, advise
from coreml_lab.explain.facts import facts
from coreml_lab.explain.suggestion import Seen, Suggestion, rule
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Action, OpInfo
from tests.support.fakes import INFO, recording


def found(**changes):
    return Seen(facts(recording(program=dataclasses.replace(INFO, **changes), runs=())))


def test_large_float_weights_are_suggested_as_int8():
    (suggestion,) = advise(found())
    assert suggestion.rule == suggestion.action.name == "int8_weights"
    assert suggestion.gain.value == 2_500_000 * 3 // 4
    assert "2 of 3 operations hold 2.50 MB ●" in suggestion.evidence[0]
    assert "conv_0 (conv) 2.00 MB" in suggestion.evidence[1]


def test_a_gain_that_nobody_measured_is_an_estimate_with_its_basis():
    (suggestion,) = advise(found())
    assert suggestion.gain.provenance is Provenance.ESTIMATED
    assert "one byte instead of 4" in suggestion.gain.note


def test_fp16_weights_save_half():
    (suggestion,) = advise(found(precision="fp16"))
    assert suggestion.gain.value == 1_250_000


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "int32"},
        {"ops": (OpInfo("a", "conv", (1,), "fp32", weight_bytes=60_000),)},
        {"ops": (*INFO.ops, OpInfo("w", "constexpr_blockwise_shift_scale", (1,), "fp32"))},
        {"ops": tuple(OpInfo(f"a{i}", "add", (1,), "fp32", weight_bytes=4_000) for i in range(99))},
    ],
    ids=["no floats", "small", "compressed already", "only small arrays"],
)
def test_there_is_nothing_to_suggest_about(changes):
    assert advise(found(**changes)) == ()


def test_every_rule_explains_itself():
    assert all(r.__doc__ for r in RULES)
    assert all(s.why and s.evidence and s.sources for s in advise(found()))


def test_a_rule_bears_the_name_of_its_suggestions():
    @rule
    def one(facts):
        gain = Quantity.unavailable("s", "not known")
        return Suggestion("another", "", "", (), gain, Action("x"))

    with pytest.raises(ValueError, match="another"):
        list(one(found()))
