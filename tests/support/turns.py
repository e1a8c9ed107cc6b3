"""A recording of two engines in turns, as a hybrid program leaves it."""

from __future__ import annotations

from coreml_lab.metrics import Provenance
from coreml_lab.records import Incident, OpSpan, Recording, Run
from tests.support.fakes import MS, recording


def split() -> Recording:
    """Two engines in turns, at odd nanoseconds, and something at the same time."""
    rows = [
        ("a", "conv", "portable", "cpu", 1_001, 1_000),
        ("[cpu to cuda:0]", "[transfer]", "pytorch", "cuda:0", 2_001, 333),
        ("b", "linear", "pytorch", "cuda:0", 2_334, 2_111),
        ("c", "relu", "pytorch", "cuda:0", 3_000, 77),
        ("d", "softmax", "portable", "cpu", 4_445, 1),
    ]
    spans = tuple(
        OpSpan(node, op, engine, device, start, took, 8, Provenance.MEASURED)
        for node, op, engine, device, start, took in rows
    )
    incident = Incident(5 * MS, "DeviceLost", "it stopped", "Retry", "recovered")
    runs = (Run(0, 1_000, 3_446, spans, (incident,), instrumented=True),)
    return recording(runs=runs, incidents=(incident,))
