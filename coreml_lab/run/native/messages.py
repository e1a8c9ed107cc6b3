"""What kernel and Core ML worker say to each other: plain data, framed by the pipe between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coreml_lab.records import Placement, PortInfo

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """Where an array lies in a shared file."""

    name: str
    dtype: str
    shape: Shape
    offset: int


@dataclass(frozen=True)
class Parcel:
    """Arrays in a shared file: the slots of each example of a batch."""

    file: str
    examples: tuple[tuple[Slot, ...], ...]


@dataclass(frozen=True)
class Compile:
    """Make a ``.mlmodelc`` folder at ``destination``."""

    package: str
    destination: str


@dataclass(frozen=True)
class MakePlan:
    """Tell on which device each operation of a compiled model is going to run."""

    compiled: str
    units: str
    function: str


@dataclass(frozen=True)
class Load:
    """Load a compiled model; ``hints`` maps the names of optimization hints to their values."""

    handle: int
    compiled: str
    source: str
    units: str
    function: str
    hints: Mapping[str, str]
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]
    labels: tuple[str | int, ...]
    # None where they are not known yet: the worker reads them from the package.
    states: tuple[StateSlot, ...] | None = None


@dataclass(frozen=True)
class Unload:
    """A model, with its states, that is not needed any more."""

    handle: int


@dataclass(frozen=True)
class Predict:
    """One inference per example; ``state`` is the handle of one, for a single example."""

    handle: int
    inputs: Parcel
    state: int | None = None


@dataclass(frozen=True)
class MakeState:
    """Make new contents for the states of a model."""

    handle: int
    state: int


@dataclass(frozen=True)
class DropState:
    """A state that is not needed any more."""

    handle: int
    state: int


@dataclass(frozen=True)
class ReadState:
    """Give what one state holds."""

    handle: int
    state: int
    name: str


@dataclass(frozen=True)
class WriteState:
    """Replace what one state holds."""

    handle: int
    state: int
    contents: Parcel


@dataclass(frozen=True)
class Forget:
    """Forget what was dropped meanwhile."""

    dropped: tuple[Unload | DropState, ...]


Request = Compile | MakePlan | Load | Predict | MakeState | ReadState | WriteState | Forget


@dataclass(frozen=True)
class Ready:
    """The worker's first word: what it runs on, or why it cannot; ``units`` are Core ML's own."""

    version: str
    refusal: str = ""
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """Done, with nothing to tell; ``seconds`` is how long the framework took."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Planned:
    """Where operations are going to run; without any, ``reason`` says why."""

    placements: tuple[Placement, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class StateSlot:
    """The name and type of one state."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class LoadedModel:
    """A model is loaded; ``load_ns`` is Core ML's own measure of it, compiling not included."""

    states: tuple[StateSlot, ...] = ()
    load_ns: int | None = None


@dataclass(frozen=True)
class Times:
    """What a prediction's time was spent on, in nanoseconds.

    Attributes:
        convert: changes of form: half floats, images, dictionaries.
        copy: into and out of shared memory.
        framework: the call into coremltools, with what its binding does.
        native: Core ML's own measure inside of it; None where it gives none.
    """

    convert: int = 0
    copy: int = 0
    framework: int = 0
    native: int | None = None

    def plus(self, *, convert: int = 0, copy: int = 0) -> Times:
        """The times with the kernel's own share of converting and copying."""
        return Times(self.convert + convert, self.copy + copy, self.framework, self.native)


@dataclass(frozen=True)
class Predicted:
    """The results, in the worker's own shared file."""

    outputs: Parcel
    times: Times = field(default_factory=Times)


@dataclass(frozen=True)
class Failed:
    """It did not work.

    Attributes:
        kind: ``memory`` or ``engine``.
        after: whether the prediction was made, and a state with it; only its results are lost.
    """

    kind: str
    message: str
    after: bool = False


Reply = Ready | Done | Planned | LoadedModel | Predicted | Failed
