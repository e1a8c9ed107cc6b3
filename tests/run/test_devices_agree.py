"""Networks of the zoo give the same on every engine and device that is here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.run import compiler, devices

# Largest difference in fp32, relative to the largest value of each output.
APART = 1e-4
PLACES = (
    ("portable", "coreml:0"),
    ("openvino", "coreml:0"),
    ("pytorch", "cpu"),
    ("pytorch", "cuda:0"),
    ("pytorch", "metal:0"),
    ("tinygrad", "opencl:0"),
    ("hybrid", "cpu"),
)
QUICK = "digits"
CASES = [
    pytest.param(name, *place, marks=() if name == QUICK else pytest.mark.sweep)
    for name in sorted(cl.zoo.NETWORKS)
    for place in PLACES[1:]
]


def absent(engine: str, device: str) -> str:
    """Why an engine cannot be asked on a device; empty where it can."""
    if engine == "hybrid":
        return ""
    found = next(e for e in compiler.engines() if e.name == engine)
    here = found.available()
    if not here.available:
        return here.reason
    return "" if devices.device(device).available else devices.device(device).reason


def result(name: str, engine: str, device: str) -> Any:
    given = getattr(cl.zoo, name)()
    model = cl.load(given.program.package, engine=engine, device=device)
    return model.predict(cl.zoo.inputs(name))


@pytest.fixture(scope="module")
def portable() -> dict[str, Any]:
    """Results of the portable engine, each computed once."""
    return {}


@pytest.mark.torch
@pytest.mark.parametrize(("name", "engine", "device"), CASES)
def test_a_network_gives_the_same_as_on_the_portable_engine(
    name: str, engine: str, device: str, portable: dict[str, Any]
) -> None:
    if why := absent(engine, device):
        pytest.skip(why)
    if name not in portable:
        portable[name] = result(name, *PLACES[0])
    found = result(name, engine, device)
    assert found.keys() == portable[name].keys()
    for key, wanted in portable[name].items():
        apart = np.abs(found[key].astype(np.float64) - wanted).max() / np.abs(wanted).max()
        assert apart <= APART
