"""What a model is checked against: an ONNX file, another Core ML model, or saved outputs."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coreml_lab.errors import InputError, ModelError
from coreml_lab.improve.mapping import pairing, tensors
from coreml_lab.measure.recorder import Subject
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.run.onnx_file import OnnxFile

PACKAGES = (".mlpackage", ".mlmodel", ".mlmodelc")
# What NumPy raises for a file that is broken: it reads headers as Python, and sizes as they are;
# RuntimeError is for one that is encrypted.
UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Checkable(Subject, Protocol):
    """A model that can be checked."""

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """What it takes."""
        ...

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What it remembers."""
        ...

    def make_state(self) -> Any:
        """New contents for the states."""
        ...

    def predict(self, inputs: Mapping[str, Any], /, state: Any = None) -> Mapping[str, Any]:
        """One inference."""
        ...

    def feeds(self, inputs: Mapping[str, Any], /) -> Mapping[str, Array]:
        """The inputs as tensors."""
        ...


Load = Callable[[Path], Checkable]
Names = Mapping[str, str]


@dataclass(frozen=True)
class Ready:
    """A reference with its inputs: what it gives, and the work that gives it where it can be timed.

    ``results`` begins with empty states; ``work`` goes on with those it has.
    """

    results: Mapping[str, Array]
    work: Callable[[], object] | None


class Reference(Protocol):
    """Something that gives the expected outputs."""

    @property
    def title(self) -> str:
        """What tables call it."""
        ...

    @property
    def timed(self) -> bool:
        """Whether it runs, so that it takes time."""
        ...

    def ready(self, model: Checkable, inputs: Mapping[str, Any], names: Names) -> Ready:
        """With the inputs of a model that is checked; ``names``: its names -> the reference's."""
        ...


@dataclass(frozen=True)
class Saved:
    """Outputs that were kept."""

    title: str
    arrays: Mapping[str, Array]
    timed: bool = False

    def ready(self, model: Checkable, inputs: Mapping[str, Any], names: Names) -> Ready:
        """They are what they are, whatever the inputs."""
        del model, inputs, names
        return Ready(self.arrays, None)


@dataclass(frozen=True)
class Foreign:
    """An ONNX file, run by plain ONNX Runtime on the tensors that the model's engine is fed."""

    file: OnnxFile
    timed: bool = True

    @property
    def title(self) -> str:
        """The file and what runs it."""
        return f"{self.file.path.name}, {self.file.title}"

    def ready(self, model: Checkable, inputs: Mapping[str, Any], names: Names) -> Ready:
        """Inputs by name, else by order; a model's states are zeros for inputs of their names."""
        given = {k: np.asarray(v) for k, v in model.feeds(inputs).items()}
        types = {k: TensorType(a.shape, a.dtype) for k, a in given.items()}
        for name, kind in model.states.items():
            if name in self.file.inputs:
                given[name], types[name] = np.zeros(kind.sizes, kind.dtype), kind
        pairs = pairing(self.file.inputs, types, self.file.path.name, names)
        feeds = {
            name: given[mine].astype(self.file.inputs[name].dtype, copy=False)
            for name, mine in pairs.items()
        }
        return Ready(self.file.run(feeds), lambda: self.file.run(feeds))


@dataclass(frozen=True)
class Other:
    """Another Core ML model."""

    title: str
    model: Checkable
    timed: bool = True

    def ready(self, model: Checkable, inputs: Mapping[str, Any], names: Names) -> Ready:
        """Inputs by name, else by order."""
        pairs = pairing(self.model.inputs, _given(model, inputs), self.title, names)
        mine = {name: inputs[other] for name, other in pairs.items()}
        work = inference(self.model, mine)
        return Ready(tensors(work(), self.model.info), work)


def _given(model: Checkable, inputs: Mapping[str, Any]) -> dict[str, TensorType]:
    return {name: kind for name, kind in model.inputs.items() if name in inputs}


def inference(model: Checkable, inputs: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
    """What runs a model once; its states begin empty and go on from run to run."""
    if not model.states:
        return lambda: model.predict(inputs)
    state = model.make_state()
    return lambda: model.predict(inputs, state=state)


def opened(source: Any, load: Load, *, threads: int) -> Reference:
    """The reference that ``source`` means: by a file's suffix, a model, or arrays by name.

    Raises:
        ModelError: where a file is missing, broken, or of no kind that can be a reference.
    """
    if isinstance(source, Mapping):
        return Saved("given outputs", {k: np.asarray(v) for k, v in source.items()})
    if not isinstance(source, str | Path):
        return Other(source.info.name, source)
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return Foreign(OnnxFile(path, threads=threads))
    if suffix == ".npz":
        return Saved(f"saved outputs, {path.name}", arrays(path))
    if suffix in PACKAGES:
        return Other(path.name, load(path))
    raise ModelError(
        f"{path} is no reference: {suffix or 'no suffix'}",
        hint="give an ONNX file (.onnx), a Core ML model (.mlpackage) or saved outputs (.npz)",
    )


def arrays(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file.

    Raises:
        InputError: where it is missing or not such a file.
    """
    hint = "make it with np.savez(path, name=array, …)"
    try:
        # Opened as what it must be: np.load would also take single arrays and pickles.
        with path.expanduser().open("rb") as file, np.lib.npyio.NpzFile(file) as found:
            return {name: found[name] for name in found.files}
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read: {error}", hint=hint) from error
