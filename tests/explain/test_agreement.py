"""How far the numbers of two runs are apart: last places, signal to noise, what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coreml_lab.errors import NumericalError
from coreml_lab.explain.agreement import agree
from coreml_lab.metrics import Provenance


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
