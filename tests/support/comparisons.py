"""Comparisons of models that take as long as they are told, on a clock of the test's own."""

from __future__ import annotations

import numpy as np

from coreml_lab.clock import FakeClock
from coreml_lab.explain.comparison import measure
from coreml_lab.explain.comparison_study import Joules, Tools
from coreml_lab.metrics import Quantity
from tests.support.fakes import FakeModel

X = {"x": np.arange(8, dtype="float32").reshape(1, 8)}


def tools(clock, **more):
    """Nothing of it asks the machine."""
    held = {"cpu": lambda: clock.now_ns() * 2, "alone": lambda *_: (), "joules": no_joules}
    return Tools(clock, **{**held, **more})


def no_joules(model, inputs, seconds):
    return Joules(Quantity.unavailable("J", "no counter here"))


def compared(arm=lambda _: 2.0, base=lambda _: 4.0, pairs=20, error=0.0, **options):
    clock = FakeClock()
    cpu = FakeModel(clock, base, "cpu", error)
    model = FakeModel(clock, arm, siblings={"cpu": cpu})
    settings = {"devices": ("coreml", "cpu"), "baseline": None, **options}
    return measure(model, X, settings.pop("devices"), pairs=pairs, tools=tools(clock), **settings)


def measured(models, clock, devices=(), **options):
    settings = {"baseline": None, "pairs": 20, "tools": tools(clock)}
    return measure(models, X, devices, **{**settings, **options})


def before_and_after(**options):
    clock = FakeClock()
    models = {"before": FakeModel(clock, lambda _: 4.0), "after": FakeModel(clock, lambda _: 3.0)}
    return measured(models, clock, **options)
