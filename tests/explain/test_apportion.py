"""Energy of operations where a machine has several GPUs."""

from __future__ import annotations

import math

from coreml_lab.explain.apportion import planned, shares
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import OpSpan, Placement, Run

PLAN = (Placement("a", "conv", "gpu", ("gpu",), 0.9), Placement("b", "conv", "cpu", ("cpu",), 0.1))
BELOW_ONE, BELOW_TWO = (
    Quantity(math.nan, "J", Provenance.MEASURED, 0.0, high, "below resolution")
    for high in (0.001, 0.002)
)


def joules(value):
    return Quantity(value, "J", Provenance.MEASURED, value * 0.95, value * 1.05)


def on_gpu(device):
    span = OpSpan("c", "conv", "hybrid", device, 0, 50, 1, Provenance.MEASURED)
    return [Run(0, 0, 100, (span,), instrumented=True)]


def test_of_several_gpus_the_one_that_drew_is_the_one_that_worked():
    drawn = {"package": joules(1.0), "gpu/0": BELOW_ONE, "gpu/1": joules(5.0)}
    assert shares(on_gpu("cuda:1"), (), drawn)[0].energy.value == 5.0
    (gpu,) = [row for row in planned(PLAN, drawn) if row[0] == "GPU"]
    assert gpu[2].value == 5.0


def test_where_several_gpus_drew_energy_none_is_given_to_an_operation():
    drawn = {"package": joules(1.0), "gpu/0": joules(0.001), "gpu/1": joules(5.0)}
    (found,) = shares(on_gpu("cuda:1"), (), drawn)
    assert found.energy.provenance is Provenance.UNAVAILABLE
    why = "several GPUs drew energy (gpu/0, gpu/1): which of them did the work is not known"
    assert found.energy.note == why
    (gpu,) = [row for row in planned(PLAN, drawn) if row[0] == "GPU"]
    assert (gpu[2].note, gpu[3].note, gpu[4]) == (why, why, "cannot be checked")


def test_where_no_gpu_is_seen_to_have_drawn_the_loosest_bound_holds():
    gone = Quantity.unavailable("J", "it was reset")
    drawn = {"gpu/0": gone, "gpu/1": BELOW_ONE, "gpu/2": BELOW_TWO}
    (found,) = shares(on_gpu("cuda:0"), (), drawn)
    assert (found.energy.high, found.energy.provenance) == (0.002, Provenance.APPORTIONED)
    (found,) = shares(on_gpu("cuda:0"), (), {"gpu/0": gone, "gpu/1": gone})
    assert found.energy.note == "it was reset"
