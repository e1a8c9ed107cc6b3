"""compare(): arms in turns, ratios, verdicts, and how far the numbers are apart."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from coreml_lab.clock import FakeClock
from coreml_lab.errors import EngineUnavailable, LabError, NumericalError
from coreml_lab.explain.agreement import agree
from coreml_lab.explain.comparison import compare, measure
from coreml_lab.metrics import Provenance
from tests.support.fakes import FakeModel

X = {"x": np.arange(8, dtype="float32").reshape(1, 8)}


def compared(arm=lambda _: 2.0, base=lambda _: 4.0, pairs=20, error=0.0, **options):
    clock = FakeClock()
    cpu = FakeModel(clock, base, "cpu", error)
    model = FakeModel(clock, arm, siblings={"cpu": cpu})
    settings = {"devices": ("coreml", "cpu"), "baseline": None, **options}
    return measure(model, X, settings.pop("devices"), pairs=pairs, clock=clock, **settings)


def test_the_last_device_is_the_baseline_and_the_ratio_is_arm_over_baseline():
    (arm,) = compared().arms
    assert (arm.device, arm.ratio.value) == ("coreml", 0.5)
    assert (arm.latency.value, arm.baseline_latency.value) == pytest.approx((2e-3, 4e-3))
    assert arm.verdict == "less time"


def test_another_baseline_can_be_named():
    found = compared(baseline="coreml")
    assert found.baseline.device == "coreml:0"
    assert found.arms[0].ratio.value == 2
    assert found.arms[0].verdict == "more time"


def test_arms_bear_the_titles_of_their_plans():
    found = str(compared())
    assert "Core ML program, portable engine (CPU)" in found
    assert "baseline: NumPy reference (CPU)" in found


def test_no_verdict_is_given_where_the_interval_contains_one():
    (arm,) = compared(arm=lambda call: 3.0 if call % 2 else 5.0).arms
    assert arm.verdict == "no difference shown"


def test_too_few_pairs_are_called_that():
    (arm,) = compared(pairs=3).arms
    assert arm.verdict == "not resolved: 3 pairs are too few"


def test_slow_arms_are_measured_as_often_as_a_minute_allows():
    (arm,) = compared(base=lambda _: 9000.0, pairs=100).arms
    assert arm.ratio.pairs < 10


def test_the_page_says_how_it_was_measured_and_what_it_does_not_say():
    notes = compared().page.notes
    assert "sign test" in notes[0]
    assert "Nothing here is a statement about Core ML on Apple hardware" in notes[-1]


def test_equal_engines_are_pointed_out():
    clock = FakeClock()
    twin = FakeModel(clock, device="coreml")
    model = FakeModel(clock, device="coreml", siblings={"cpu": twin})
    found = measure(model, X, ("coreml", "cpu"), baseline=None, pairs=8, clock=clock)
    assert any("the noise of this machine" in note for note in found.page.notes)


def test_numbers_that_are_equal_are_identical():
    (agreement,) = compared().arms[0].agreement
    assert agreement.identical
    assert "identical" in str(compared())


def test_numbers_that_differ_show_how_far():
    (agreement,) = compared(error=1e-3).arms[0].agreement
    assert agreement.snr.value == pytest.approx(60, abs=0.1)
    assert agreement.largest.value == pytest.approx(14e-3, rel=0.01)
    assert agreement.ulp.value > 1000


def test_a_comparison_is_also_json_and_html():
    data = json.loads(compared().to_json())
    assert data["tables"][0]["rows"][0][3]["low"] == 0.5
    assert "less time" in compared()._repr_html_()
    assert repr(compared()).startswith("<Comparison: tiny against NumPy reference (CPU)")


@pytest.mark.parametrize("devices", [(), ("cpu",), "cpu", ("cpu", "cpu")])
def test_fewer_than_two_devices_are_refused(devices):
    with pytest.raises(LabError, match="two devices"):
        compared(devices=devices)


def test_a_device_that_is_not_here_says_so():
    with pytest.raises(EngineUnavailable, match="metal"):
        compare(FakeModel(), X, devices=("metal", "cpu"))


def arrays(*values, dtype="float32"):
    return {"y": np.asarray(values, dtype)}


def test_neighbouring_floats_are_one_ulp_apart_also_across_zero():
    one = np.float32(1)
    assert agree(arrays(one), arrays(np.nextafter(one, np.float32(2))))[0].ulp.value == 1
    tiny = np.nextafter(np.float32(0), one)
    assert agree(arrays(tiny), arrays(-tiny))[0].ulp.value == 2
    assert agree(arrays(0.0), arrays(-0.0))[0].ulp.value == 0


def test_last_places_are_those_of_the_common_float_type():
    assert agree(arrays(1, dtype="float16"), arrays(2, dtype="float16"))[0].ulp.value == 512
    mixed = agree(arrays(1, dtype="float16"), arrays(2, dtype="float32"))[0].ulp
    assert mixed.provenance is Provenance.UNAVAILABLE
    assert "float16 and float32" in mixed.note


def test_values_that_are_not_finite_are_left_out_and_counted():
    found = agree(arrays(1, math.nan, math.inf), arrays(1, 2, 3))[0]
    assert not found.identical
    assert found.largest.value == 0
    assert found.note == "2 of 3 values are not finite and were left out"


def test_equal_nans_are_identical_and_nothing_finite_is_unavailable():
    found = agree(arrays(math.nan), arrays(math.nan))[0]
    assert found.identical
    assert found.largest.provenance is Provenance.UNAVAILABLE
    assert found.ulp.provenance is Provenance.UNAVAILABLE


def test_a_signal_of_zeros_has_no_signal_to_noise():
    found = agree(arrays(1.0), arrays(0.0))[0]
    assert found.snr.provenance is Provenance.UNAVAILABLE


def test_outputs_of_other_names_or_shapes_are_refused():
    with pytest.raises(NumericalError, match="differ in name"):
        agree(arrays(1), {"z": np.ones(1)})
    with pytest.raises(NumericalError, match="shape"):
        agree(arrays(1), arrays(1, 2))
