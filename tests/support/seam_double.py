"""A strict double of coremltools' compiled module: our runtime inside, the binding's manners out.

It takes what the real binding takes and refuses what that refuses, lets go of inputs late as
Core ML does, plans with a Neural Engine that is not there, and fails on demand. What it cannot
show is what only a Mac knows: placement, times, half-float arithmetic, texts of errors.

``SEAM_DOUBLE`` names a folder: a file ``<stage>-<fault>`` in it makes the next call of that stage
fail so, once; every call is written to ``calls`` there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.interop import compiled, runtime, seam, values
from coreml_lab.interop.structure import structure

VARIABLE = "SEAM_DOUBLE"
LATE = 1.0  # seconds after which Core ML lets go of a prediction's inputs
BLOAT = 1 << 26
HEAVY = frozenset({"conv", "linear", "matmul"})
KINDS = {
    "reshapeFrequency": {"Frequent", "Infrequent"},
    "specializationStrategy": {"Default", "FastPrediction"},
    "allowLowPrecisionAccumulationOnGPU": {"True", "False"},
}


def refuse(function: str) -> Any:
    raise TypeError(f"{function}(): incompatible function arguments.")


def checked(function: str, given: tuple[Any, ...], *wanted: Any) -> None:
    """pybind11 knows no keywords here, no defaults, and no conversions."""
    if len(given) != len(wanted) or not all(map(isinstance, given, wanted)):
        refuse(function)


def said(stage: str, *details: Any) -> None:
    """Write the call down, then fail as the folder asks for."""
    folder = Path(os.environ[VARIABLE])
    with (folder / "calls").open("a", encoding="utf-8") as file:
        file.write(json.dumps([stage, *details]) + "\n")
    for order in sorted(folder.glob(f"{stage}-*"))[:1]:
        order.unlink()
        FAULTS[order.name.removeprefix(f"{stage}-")]()


def fail() -> None:
    raise RuntimeError(values.described(values.FAILED))


def fail_late() -> None:
    time.sleep(1.5)
    fail()


def run_out() -> None:
    raise MemoryError("std::bad_alloc")


def grow() -> None:
    held = []
    while True:
        held.append(np.ones(BLOAT // 8))
        time.sleep(0.05)


FAULTS: dict[str, Any] = {
    "error": fail,
    "late": fail_late,
    "memory": run_out,
    "hang": lambda: time.sleep(3600),
    "slow": lambda: time.sleep(1.5),
    "exit": lambda: os._exit(3),
    "segv": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "bloat": grow,
    "wrong": lambda: WRONG.append(True),
}
WRONG: list[bool] = []


def let_go(arrays: list[Any]) -> None:
    """As Core ML does: late, in another thread, and fatal for what nobody else holds."""
    time.sleep(LATE)
    while arrays:
        array = arrays.pop()
        # The variable and the argument are the two references of this function's own.
        if sys.getrefcount(array) <= 2:
            os.kill(os.getpid(), signal.SIGSEGV)


class StrictState(seam.StateProxy):
    """A state that takes only what the binding takes."""

    def read_state(self, *arguments: Any) -> Any:
        checked("read_state", arguments, str)
        said("read", *arguments)
        return super().read_state(*arguments)

    def write_state(self, *arguments: Any) -> None:
        checked("write_state", arguments, str, np.ndarray)
        name, value = arguments
        said("write", name, value.dtype.name)
        if value.dtype.name not in values.ARRAYS or not value.flags.writeable:
            raise RuntimeError(values.NOT_CONVERTIBLE)
        super().write_state(name, value)


class StrictModel(seam.ModelProxy):
    """A model whose every argument is looked at."""

    def __init__(self, *arguments: Any) -> None:
        kinds = (str, str, str, dict, (seam.AssetProxy, type(None)))
        checked("__init__", arguments, *kinds[: max(len(arguments), 4)])
        _, units, function, hints = arguments[:4]
        if not all(type(k) is type(v) is str for k, v in hints.items()):
            refuse("__init__")
        said("load", units, function, hints)
        if any(v not in KINDS.get(k, ()) for k, v in hints.items()):
            raise RuntimeError(f"Invalid optimization hint: {hints}")
        super().__init__(*arguments)

    def predict(self, *arguments: Any) -> dict[str, Any]:
        checked("predict", arguments, dict, (StrictState, type(None)))
        given, state = arguments
        said("predict", {k: _kind(v) for k, v in given.items()})
        return self._late([given], lambda: [super(StrictModel, self).predict(given, state)])[0]

    def batchPredict(self, *arguments: Any) -> list[dict[str, Any]]:  # noqa: N802 - the binding's name
        checked("batchPredict", arguments, list)
        (batch,) = arguments
        said("batch", len(batch))
        return self._late(batch, lambda: super(StrictModel, self).batchPredict(batch))

    def _late(self, batch: list[dict[str, Any]], run: Any) -> Any:
        for given in batch:
            self._pictures(given)
        results = run()
        arrays = [v for given in batch for v in given.values() if isinstance(v, np.ndarray)]
        threading.Thread(target=let_go, args=(arrays,), daemon=True).start()
        if WRONG:
            WRONG.clear()
            return [{k: v * 2 + 1 for k, v in each.items()} for each in results]
        return results

    def _pictures(self, given: dict[str, Any]) -> None:
        """An image feature takes a PIL image only, of its own size."""
        for port in self._model.info.inputs:
            value = given.get(port.name)
            if port.kind == "image" and value is not None:
                if getattr(value, "mode", "") not in {"RGB", "L", "F"}:
                    raise RuntimeError(values.NOT_CONVERTIBLE)
                if value.size != (port.shape[3], port.shape[2]):
                    raise RuntimeError(values.described("Image is of the wrong size."))

    def newState(self, *arguments: Any) -> StrictState:  # noqa: N802 - the binding's name
        checked("newState", arguments)
        said("state")
        return StrictState(super().newState().state)

    @staticmethod
    def compileModel(*arguments: Any) -> str:  # noqa: N802 - the binding's name
        checked("compileModel", arguments, str)
        said("compile")
        folder = seam.ModelProxy.compileModel(*arguments)
        said("compiled", folder)
        return folder

    @staticmethod
    def get_available_compute_devices(*arguments: Any) -> list[Any]:
        checked("get_available_compute_devices", arguments)
        return list(devices().values())

    @staticmethod
    def get_compute_plan(*arguments: Any) -> Any:
        checked("get_compute_plan", arguments, str, str)
        path, units = arguments
        said("plan", units)
        from coremltools.models import compute_plan

        return compute_plan.MLComputePlan(StrictPlan(path, units))


class StrictNeuralEngine(seam.NeuralEngineProxy):
    """A Neural Engine of sixteen cores."""

    def get_total_core_count(self) -> int:
        return 16


class StrictPlan:
    """A plan by rule: heavy operations on the best unit allowed, the rest on the CPU."""

    def __init__(self, path: str = "", units: str = "ALL") -> None:
        with values.native_errors():
            self.model_structure = structure(compiled.source(Path(path)))
        best = {"ALL": "ne", "CPU_AND_NE": "ne", "CPU_AND_GPU": "gpu", "CPU_ONLY": "cpu"}
        self._best = best[units]
        blocks = [f.block for f in self.model_structure.program.functions.values()]
        self._count = sum(o.operator_name != "const" for b in blocks for o in b.operations)

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models import compute_plan

        if operation.operator_name == "const":
            return None
        found = devices()
        preferred = found[self._best if operation.operator_name in HEAVY else "cpu"]
        return compute_plan.MLComputePlanDeviceUsage(preferred, list(found.values()))

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models import compute_plan

        if operation.operator_name == "const":
            return None
        return compute_plan.MLComputePlanCost(1 / self._count)


def devices() -> dict[str, Any]:
    from coremltools.models import compute_device

    return {
        "cpu": compute_device.MLCPUComputeDevice(seam.CPUProxy()),
        "gpu": compute_device.MLGPUComputeDevice(seam.GPUProxy()),
        "ne": compute_device.MLNeuralEngineComputeDevice(StrictNeuralEngine()),
    }


def _kind(value: Any) -> str:
    return f"{value.dtype.name}{list(value.shape)}" if isinstance(value, np.ndarray) else "other"


def install() -> runtime.Runtime:
    """Put the double where coremltools looks for its compiled module."""
    seam.CLASSES.update(
        _MLModelProxy=StrictModel,
        _State=StrictState,
        _MLNeuralEngineComputeDeviceProxy=StrictNeuralEngine,
        _MLComputePlanProxy=StrictPlan,
    )
    return runtime.install_runtime()
