"""The classes of coremltools' compiled module, with its signatures, on our runtime.

Names, argument orders and the rule that every failure is a RuntimeError are the binding's.
"""

from __future__ import annotations

import shutil
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import coremltools
import numpy as np
from coremltools.models import compute_device, model

from coreml_lab import config
from coreml_lab.interop import chips, compiled, plan, values
from coreml_lab.interop.plan import CPUProxy, GPUProxy, NeuralEngineProxy, PlanProxy
from coreml_lab.interop.structure import OperationProxy, structure
from coreml_lab.run import compiler
from coreml_lab.run.state import State

UNITS = frozenset({"ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"})
MAC = sys.platform == "darwin"


def _engine() -> str | None:
    """On a Mac, too, this runtime takes the place of Core ML: it must not ask Core ML itself."""
    return "portable" if config.current().engine in {"auto", "coreml"} and MAC else None


class AssetProxy:
    """A compiled model held for later loading; a temporary one goes with it."""

    def __init__(self, folder: Path, *, temporary: bool) -> None:
        self.folder = folder
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


class StateProxy:
    """What a model remembers between predictions."""

    def __init__(self, state: State | None) -> None:
        self.state = state

    def read_state(self, name: str) -> Any:
        """A copy of what one state holds, half floats as float32."""
        with values.native_errors():
            return values.widened(self._held(name).read(name))

    def write_state(self, name: str, value: Any) -> None:
        """Replace what one state holds."""
        if not isinstance(value, np.ndarray):
            raise RuntimeError(values.NOT_CONVERTIBLE)  # noqa: TRY004 - the binding's error
        with values.native_errors():
            self._held(name).write(name, value)

    def _held(self, name: str) -> State:
        if self.state is None:
            raise RuntimeError(values.described(f"The model has no state named {name}."))
        return self.state


class ModelProxy:
    """A loaded model."""

    def __init__(
        self,
        path: str,
        compute_units: str,
        function_name: str,
        hints: Mapping[str, str],
        asset: AssetProxy | None = None,
    ) -> None:
        if compute_units not in UNITS:
            raise RuntimeError(f"Unknown compute units: {compute_units}")
        self._asset = asset
        self._hints = dict(hints)
        self._folder = self._compiled(path, asset)
        with values.native_errors():
            begin = time.perf_counter_ns()
            self._model = compiler.load(
                compiled.source(self._folder), function=function_name or None, engine=_engine()
            )
            self._load_ns = time.perf_counter_ns() - begin
        self._predict_ns: int | None = None

    def _compiled(self, path: str, asset: AssetProxy | None) -> Path:
        """The compiled model; one made here is removed with this object."""
        if asset is not None:
            return asset.folder
        if compiled.is_compiled(path):
            return Path(path)
        with values.native_errors("Error compiling model: "):
            folder = compiled.compile_model(Path(path))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def predict(self, given: Mapping[str, Any], state: StateProxy | None) -> dict[str, Any]:
        """One inference."""
        held = None if state is None else state.state
        return self._timed([given], held)[0]

    def batchPredict(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:  # noqa: N802
        """Inferences one after the other, timed together."""
        return self._timed(batch, None)

    def _timed(
        self, batch: Sequence[Mapping[str, Any]], state: State | None
    ) -> list[dict[str, Any]]:
        fed = [values.feeds(self._model, given) for given in batch]
        begin = time.perf_counter_ns()
        results = [values.predict(self._model, each, state) for each in fed]
        self._predict_ns = time.perf_counter_ns() - begin
        return [values.given_back(each) for each in results]

    def newState(self) -> StateProxy:  # noqa: N802
        """New contents of the model's states, all zero."""
        return StateProxy(self._model.make_state() if self._model.states else None)

    def get_compiled_model_path(self) -> str:
        """Where the compiled model is; it lives no longer than this object."""
        return str(self._folder)

    def get_load_duration_in_nano_seconds(self) -> int | None:
        """How long loading took, without compiling."""
        return self._load_ns

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        """How long the last prediction took, without conversions; None before the first."""
        return self._predict_ns

    @staticmethod
    def auto_set_specification_version(spec: bytes) -> bytes:
        """The description as it is: lowering its version is an economy of Core ML's own."""
        return spec

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """The newest version that coremltools here knows."""
        begin = "_SPECIFICATION_VERSION_IOS_"
        return max(int(v) for name, v in vars(coremltools).items() if name.startswith(begin))

    @staticmethod
    def compileModel(path: str) -> str:  # noqa: N802
        """A compiled copy of a model in a new temporary folder."""
        with values.native_errors("Error compiling model: "):
            return str(compiled.compile_model(Path(path)))

    @staticmethod
    def create_model_asset_from_path(path: str) -> Any:
        """An asset of a compiled model."""
        with values.native_errors():
            compiled.source(Path(path))
        return model.MLModelAsset(AssetProxy(Path(path), temporary=False))

    @staticmethod
    def create_model_asset_from_memory(spec: bytes, blobs: Mapping[str, bytes]) -> Any:
        """An asset of a description and its weights."""
        with values.native_errors():
            folder = compiled.assembled(spec, blobs)
        return model.MLModelAsset(AssetProxy(folder, temporary=True))

    @staticmethod
    def get_model_structure(path: str) -> Any:
        """The operations of a compiled model."""
        with values.native_errors():
            return structure(compiled.source(Path(path)))

    @staticmethod
    def get_available_compute_devices() -> list[Any]:
        """The CPU: no engine here drives anything else."""
        return [compute_device.MLCPUComputeDevice(CPUProxy())]

    @staticmethod
    def get_all_compute_devices() -> list[Any]:
        """The same."""
        return ModelProxy.get_available_compute_devices()

    @staticmethod
    def get_compute_plan(path: str, compute_units: str) -> Any:
        """An estimate of Core ML's plan for the chip that the runtime was installed for."""
        if compute_units not in UNITS:
            raise RuntimeError(f"Unknown compute units: {compute_units}")
        with values.native_errors():
            return plan.plan(compiled.source(Path(path)), compute_units, chips.chip())


class LayerProxy:
    """A layer of a classic network; none is made here, but coremltools checks for the class."""


CLASSES: dict[str, type] = {
    "_MLModelProxy": ModelProxy,
    "_MLModelAssetProxy": AssetProxy,
    "_State": StateProxy,
    "_MLCPUComputeDeviceProxy": CPUProxy,
    "_MLGPUComputeDeviceProxy": GPUProxy,
    "_MLNeuralEngineComputeDeviceProxy": NeuralEngineProxy,
    "_MLComputePlanProxy": PlanProxy,
    "_MLModelStructureProgramOperationProxy": OperationProxy,
    "_MLModelStructureNeuralNetworkLayerProxy": LayerProxy,
}


def module(name: str) -> ModuleType:
    """The module that takes the place of the compiled one."""
    made = ModuleType(name, __doc__)
    vars(made).update(CLASSES)
    return made
