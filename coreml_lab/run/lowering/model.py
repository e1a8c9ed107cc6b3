"""What a lowering results in: an ONNX model, its weights inside of it or in a file beside it.

ONNX Runtime maps such a file into memory and lets go of what it has repacked, and protobuf's limit
of 2 GB does not count there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import helper, numpy_helper

from coreml_lab.errors import EngineError
from coreml_lab.program.graph import Array

# From here on a constant lies in the file, at a multiple of a page: so it can be mapped.
LEAST = 4096
PAGE = 4096
CHUNK = 1 << 20
BESIDE = ".data"


@dataclass(frozen=True)
class Constant:
    """An array, and the element type it has in the model: widened when it is read, not before."""

    array: Array
    dtype: np.dtype[Any]

    @property
    def value(self) -> Array:
        """The array in the model's element type."""
        return self.array.astype(self.dtype, copy=False)

    @property
    def nbytes(self) -> int:
        """What it takes in the model."""
        return self.array.size * self.dtype.itemsize

    def inside(self, name: str) -> onnx.TensorProto:
        """The constant as a part of the model."""
        # ascontiguousarray makes a scalar one-dimensional: the reshape takes that back.
        array = np.ascontiguousarray(self.value).reshape(self.array.shape)
        return numpy_helper.from_array(array, name)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Its bytes as ONNX stores them, a few at a time."""
        if self.dtype.kind not in "fiub":  # packed below a byte
            yield self.inside("").raw_data
            return
        rows = self.array if self.array.ndim else self.array.reshape(1)
        step = max(1, CHUNK * len(rows) // max(1, rows.size))
        for start in range(0, len(rows), step):
            part = rows[start : start + step].astype(self.dtype, copy=False)
            yield np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class Lowered:
    """An ONNX model without its constants, these, and per ONNX node name the MIL op it came from.

    ``states`` names, per state, the output with its new contents ("" where nothing changes them),
    ``kept`` the element type in which it is handed in and out;
    ``nested`` the ONNX nodes inside branches and loops; ``entropy`` the input that wants two new
    random words for each run ("" where nothing is random).
    """

    frame: onnx.ModelProto
    constants: Mapping[str, Constant]
    origin: Mapping[str, str]
    states: Mapping[str, str] = field(default_factory=dict)
    nested: tuple[str, ...] = ()
    entropy: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What the constants take."""
        return sum(c.nbytes for c in self.constants.values())

    @property
    def model(self) -> onnx.ModelProto:
        """The model with its constants inside; beyond 2 GB it cannot be written."""
        model = self._copy()
        for name, constant in self.constants.items():
            model.graph.initializer.append(constant.inside(name))
        return model

    def write(self, file: Path, *, apart: bool, notes: Mapping[str, str] | None = None) -> None:
        """Write the model, and ``notes`` in its metadata; ``apart`` puts weights beside it.

        Raises:
            EngineError: where it is to be one file and larger than 2 GB.
        """
        model = self._beside(file.with_name(file.name + BESIDE)) if apart else self.model
        helper.set_model_props(model, dict(notes or {}))
        file.write_bytes(_serialized(model))

    def _copy(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.frame)
        return model

    def _beside(self, file: Path) -> onnx.ModelProto:
        """The model that finds big constants in ``file``, which is written now."""
        model = self._copy()
        with file.open("wb") as stream:
            for name, constant in self.constants.items():
                small = constant.nbytes < LEAST
                model.graph.initializer.append(
                    constant.inside(name) if small else _stored(name, constant, stream, file.name)
                )
        return model


def _stored(name: str, constant: Constant, stream: BinaryIO, location: str) -> onnx.TensorProto:
    start = -(-stream.tell() // PAGE) * PAGE
    stream.seek(start)
    stream.writelines(constant.chunks())
    kind = helper.np_dtype_to_tensor_dtype(constant.dtype)
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=constant.array.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    where = {"location": location, "offset": start, "length": stream.tell() - start}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _serialized(model: onnx.ModelProto) -> bytes:
    try:
        data: bytes = model.SerializeToString()
    except ValueError as error:  # protobuf's limit
        raise EngineError(
            f"the program is larger than the 2 GB that one ONNX file can hold: {error}",
            hint="compress its weights",
        ) from error
    return data
