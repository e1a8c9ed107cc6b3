"""Energy counters as this machine really has them: written into the report for us to learn from."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.clock import SYSTEM
from coreml_lab.explain.energy import own_target
from coreml_lab.measure.energy_watch import Watch, in_a_thread
from coreml_lab.metrics import Provenance
from coreml_lab.probes.sources import described_sources, sources

pytestmark = [pytest.mark.macos, pytest.mark.slow]

WEIGHT = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32) / 23
X = {"x": np.random.default_rng(1).normal(size=(64, 512)).astype(np.float32)}
SECONDS = 7.0


def test_the_counters_of_this_machine_and_how_often_they_are_published(note: Any) -> None:
    found = sources(own_target(), gpus=None)
    note(counters=described_sources(found))
    watch = Watch([each for each in found if each.domains], SYSTEM)
    with in_a_thread(watch):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            np.dot(WEIGHT, WEIGHT)
            watch.mark()
            time.sleep(0.02)
    for domain in watch.domains:
        points = watch.points(domain.name)
        gaps = [(b.t_ns - a.t_ns) * 1e-6 for a, b in pairwise(points)]
        grown = points[-1].joules - points[0].joules if points else None
        note(
            **{
                domain.name: {
                    "unit": domain.unit,
                    "stamped": domain.stamped,
                    "publications": len(points),
                    "median_gap_ms": median(gaps) if gaps else None,
                    "joules": grown,
                }
            }
        )
    assert any(each.domains for each in found)


def test_the_energy_of_an_inference_and_what_the_plan_says(note: Any) -> None:
    model = cl.compile(
        lambda x: {"y": cl.ops.relu(cl.ops.matmul(x, WEIGHT))}, x=cl.spec(64, 512), name="net"
    )
    found = cl.energy(model, X, seconds=12.0)
    for row in found.rows:
        assert row.above_idle.provenance is not Provenance.SIMULATED
    note(energy=str(found))
