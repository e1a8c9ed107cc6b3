"""Energy on a made-up Mac: Core ML's plan from the double beside counters that are made up, too."""

from __future__ import annotations

from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.explain.energy import measured
from coreml_lab.metrics import Provenance
from coreml_lab.probes.counters import Scope
from tests.support.energy import Machine
from tests.support.native import Double

X = {"x": np.ones((2, 8), np.float32)}


def test_core_mls_plan_stands_beside_what_its_processors_drew(mac: Double) -> None:
    weight = np.eye(8, dtype=np.float32)
    model: Any = cl.compile(
        lambda x: {"y": cl.ops.relu(cl.ops.matmul(x, weight))}, x=cl.spec(2, 8), name="net"
    )
    assert model.plan.placements
    machine = Machine()

    class Watched:
        info, plan = model.info, model.plan

        def predict(self, inputs: Any) -> Any:
            machine.work()
            return model.predict(inputs) if machine.calls < 3 else {}

        def trace(self, inputs: Any, *, runs: int) -> Any:
            return model.trace(inputs, runs=runs)

    groups = ("ane", "gpu", "cpu")
    found = measured(
        Watched(),
        X,
        [machine.counter(name=g, group=g, stamped=True, scope=Scope.DEVICE) for g in groups],
        seconds=16.0,
        operations=True,
        clock=machine.clock,
        keep=machine.clock.polling,
        conditions=lambda: (),
    )
    assert [row[0] for row in found.against_plan] == ["Neural Engine", "GPU", "CPU"]
    planned = sum(row[1].value for row in found.against_plan)  # type: ignore[union-attr]
    assert abs(planned - 1) < 1e-9
    assert {s.energy.provenance for s in found.operations} == {Provenance.APPORTIONED}
    assert "Plan against reality" in found.to_markdown()
