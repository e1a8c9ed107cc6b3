"""An ONNX file in plain ONNX Runtime, with nothing of ours around it: a reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import EngineError, ModelError
from coreml_lab.program.graph import Array, Dim, TensorType
from coreml_lab.run.traits import QUIET, opened_exactly

# ONNX Runtime's names of element types -> NumPy's.
DTYPES = {
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "bool": "bool",
    **{f"{u}int{n}": f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)},
}


class OnnxFile:
    """A session on a file; ``inputs`` and ``outputs`` map names to types."""

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        """Open the file.

        Raises:
            ModelError: where it is missing, or ONNX Runtime refuses it.
        """
        import onnxruntime as ort  # noqa: PLC0415 - heavy, loaded when it is used

        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise ModelError(f"there is no file {self.path}", hint="check the path")

        def session(told: tuple[str, str]) -> Any:
            settings = ort.SessionOptions()
            settings.intra_op_num_threads = threads
            settings.log_severity_level = QUIET
            settings.add_session_config_entry(*told)
            return ort.InferenceSession(
                str(self.path), settings, providers=["CPUExecutionProvider"]
            )

        try:
            # What is compared with should be right on every processor, before it is fast.
            self._session, _ = opened_exactly(session)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise ModelError(
                f"ONNX Runtime does not open {self.path}: {_line(error)}",
                hint="onnx.checker.check_model(path) says more",
            ) from error
        self.title = f"ONNX Runtime {ort.__version__} (CPU)"
        self.inputs = self._types(self._session.get_inputs())
        self.outputs = self._types(self._session.get_outputs())

    def _types(self, ports: list[Any]) -> dict[str, TensorType]:
        return {port.name: self._type(port) for port in ports}

    def _type(self, port: Any) -> TensorType:
        name = port.type.removeprefix("tensor(").removesuffix(")")
        if name not in DTYPES:
            raise ModelError(
                f"{self.path}: {port.name!r} is {port.type}, not a tensor of numbers",
                hint="export the model with tensors at its border",
            )
        shape = tuple(
            d if isinstance(d, int) else Dim(str(d or f"{port.name}.{i}"), 0)
            for i, d in enumerate(port.shape)
        )
        return TensorType(shape, np.dtype(DTYPES[name]))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference.

        Raises:
            EngineError: where ONNX Runtime fails.
        """
        names = list(self.outputs)
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise EngineError(
                f"ONNX Runtime cannot run {self.path}: {_line(error)}",
                hint="run the file alone with the same inputs",
            ) from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
