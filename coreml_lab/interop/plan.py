"""A compute plan in coremltools' own classes, made of our estimate of Core ML's placement.

The classes have no place for saying that a plan is estimated. So it is said once, in the log, and
the plan's proxy says it to whoever looks: ``plan.__proxy__.provenance``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremltools.models import compute_device
from coremltools.models import compute_plan as public

from coreml_lab.explain.placement import program_of
from coreml_lab.explain.placing.estimate import UNITS, estimate
from coreml_lab.explain.placing.estimated import OpPlacement
from coreml_lab.explain.placing.tables import Chip
from coreml_lab.interop.structure import OperationProxy, structure
from coreml_lab.metrics import Provenance

LOG = logging.getLogger("coreml_lab")
SAID = (
    "Compute plans of coreml_lab are estimated from published findings, for %s: nothing ran on "
    "Apple hardware. cl.placement(model) says how, and why."
)


class CPUProxy:
    """The CPU."""


class GPUProxy:
    """A GPU; none is listed as being here, but plans name it."""


class NeuralEngineProxy:
    """A Neural Engine; likewise."""

    def __init__(self, cores: int = 16) -> None:
        self._cores = cores

    def get_total_core_count(self) -> int:
        """How many cores the chip's engine has."""
        return self._cores


@dataclass(frozen=True)
class _Told:
    """What the plan says of one operation; no usage where Core ML would tell of none."""

    usage: Any
    cost: Any


class PlanProxy:
    """A plan: device usage and cost per operation of its own structure."""

    provenance = Provenance.ESTIMATED

    def __init__(
        self, model_structure: Any, chip: str, told: Mapping[OperationProxy, _Told]
    ) -> None:
        self.model_structure = model_structure
        self.chip = chip
        self._told = told

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        """Where an operation is estimated to run; None for constants and what is folded."""
        told = self._told.get(operation.__proxy__)
        return None if told is None else told.usage

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        """Its share of what the planner is estimated to expect of all; None as above."""
        told = self._told.get(operation.__proxy__)
        return None if told is None else told.cost

    def get_compute_device_usage_for_neuralnetwork_layer(self, layer: Any) -> Any:  # noqa: ARG002 - the binding's
        """None: classic networks have no plan here."""
        return

    def __repr__(self) -> str:
        return f"<compute plan, estimated for {self.chip}: {len(self._told)} operations>"


def plan(folder: Path, compute_units: str, chip: Chip) -> Any:
    """The estimated ``MLComputePlan`` of a compiled model, every function of it.

    Raises:
        ModelError: where it is not an ML Program.
    """
    _say(chip.name)
    found = structure(folder)
    devices = _devices(chip)
    told: dict[OperationProxy, _Told] = {}
    for name, function in found.program.functions.items():
        graph, info = program_of(folder, name)
        placed = estimate(graph, info, chip, compute_units).placed
        rows = {op.node: op for op in placed}
        told.update(_tell(function.block, rows, devices, UNITS[compute_units]))
    return public.MLComputePlan(PlanProxy(found, chip.name, told))


def _devices(chip: Chip) -> dict[str, Any]:
    engine = NeuralEngineProxy(int(chip.number("ne_cores")))
    return {
        "cpu": compute_device.MLCPUComputeDevice(CPUProxy()),
        "gpu": compute_device.MLGPUComputeDevice(GPUProxy()),
        "ne": compute_device.MLNeuralEngineComputeDevice(engine),
    }


def _tell(
    block: Any,
    rows: Mapping[str, OpPlacement],
    devices: Mapping[str, Any],
    allowed: tuple[str, ...],
    around: _Told | None = None,
) -> Iterator[tuple[OperationProxy, _Told]]:
    """What there is to say of a block's operations: those inside of control flow go with it."""
    for operation in block.operations:
        row = rows.get(operation.outputs[0].name) if operation.outputs else None
        told = around
        if row is not None:
            supported = [devices[d] for d in row.supported if d in allowed] or [devices["cpu"]]
            usage = public.MLComputePlanDeviceUsage(devices[row.device], supported)
            told = _Told(usage, public.MLComputePlanCost(row.weight))
        if told is not None and operation.operator_name != "const":
            yield operation.__proxy__, told
        inside = None if told is None else _Told(told.usage, None)
        for inner in operation.blocks:
            yield from _tell(inner, rows, devices, allowed, inside)


@functools.cache
def _say(chip: str) -> None:
    """Once per chip: what kind of plan this is."""
    LOG.warning(SAID, chip)
