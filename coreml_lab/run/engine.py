"""What an engine is: two protocols and their options. Engines do not know one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from coreml_lab.errors import Timeout, UnsupportedOp
from coreml_lab.program.graph import Array, Node, TensorType, signature
from coreml_lab.records import Placement, PlanInfo, ProgramInfo, Run

if TYPE_CHECKING:
    from coreml_lab.program.program import Program
    from coreml_lab.run.state import State


@dataclass(frozen=True)
class Availability:
    """Whether an engine can run here and, if not, why."""

    available: bool
    reason: str = ""
    version: str = ""


def package_version(name: str) -> str:
    """The version of an installed package, without importing it; "" where it is not installed."""
    spec = find_spec(name)
    if spec is None:
        return ""
    homes = [Path(place).parent for place in spec.submodule_search_locations or ()]
    records = [record.name for home in homes for record in home.glob(f"{name}-*.dist-info")]
    if len(records) == 1:  # its name holds the version: a warm load needs no more
        return records[0].removeprefix(f"{name}-").removesuffix(".dist-info")
    from importlib import metadata  # noqa: PLC0415 - slow to import

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Options:
    """What an engine is told besides the program.

    Attributes:
        threads: inside one operation; 0 means one per core.
        faithful: round every fp16 result to fp16, as hardware that computes in fp16 must.
        debug: stop at the first operation that makes NaN or infinity (see ``run/debug``).
        compute_units: which processors Core ML itself may use.
        hints: Core ML's own optimization hints.
        packed: how linear-quantized weights stay: high, exact, fast or off (``Config.packed``).
    """

    threads: int = 0
    faithful: bool = False
    debug: bool = False
    compute_units: str = "ALL"
    hints: Mapping[str, str | bool] = field(default_factory=dict)
    packed: str = "off"


@dataclass(frozen=True)
class Border:
    """What becomes of arrays that go to a program and come back.

    Attributes:
        copies_inputs: whether it reads a copy, and not the caller's own memory.
        copies_outputs: whether results are copied once more after they were computed.
        counts: whether the engine itself tells the ledger what it copied.
        writes: whether it reads in place only what could be written to.
    """

    copies_inputs: bool
    copies_outputs: bool
    counts: bool = False
    writes: bool = False


@runtime_checkable
class Bordered(Protocol):
    """A loaded program that tells what it copies, so that it can be counted."""

    @property
    def border(self) -> Border:
        """What becomes of arrays at its border."""
        ...


@runtime_checkable
class Weighing(Protocol):
    """A loaded program that knows how many bytes its weights take."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights, in the form in which it holds them."""
        ...


class Loaded(Protocol):
    """A program that is ready to run."""

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference; inputs have been checked against the program's description.

        ``state`` may come from another engine; it changes only when the run succeeds.
        """
        ...

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What the program remembers from run to run."""
        ...

    def make_state(self) -> State:
        """New contents, all zero, for the states of the program."""
        ...

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """``runs`` instrumented inferences: slower, with a span per operation."""
        ...


def unsupported(node: Node, engine: str, called: str) -> UnsupportedOp:
    """What an engine that has no lowering for an op raises; ``called``: as people know it."""
    at = f" (at {node.name})" if node.name else ""
    return UnsupportedOp(
        f"{signature(node)}: the {called} engine has no {node.op!r}{at}",
        node=node.name,
        engine=engine,
        hint="see cl.doctor() for what this version runs",
    )


def stopped(seconds: float, what: str) -> Timeout:
    """The error of a run that was stopped at its deadline."""
    return Timeout(
        f"{what} was stopped: the run took longer than {seconds:.3g} s",
        hint="predict(inputs, deadline=…) or cl.configure(deadline=…); 0 means no limit",
    )


@runtime_checkable
class Bounded(Protocol):
    """A loaded program whose runs can be stopped."""

    def run_within(
        self, seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        """``run``, or Timeout after ``seconds``; the program stays usable, ``state`` unchanged."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A loaded program whose framework tells where it plans to run the operations."""

    @property
    def placements(self) -> tuple[Placement, ...]:
        """What is planned; empty where it is not known."""
        ...

    @property
    def remark(self) -> str:
        """Why it is not known."""
        ...


@runtime_checkable
class Titled(Protocol):
    """A loaded program that knows better than its engine who runs it."""

    @property
    def title(self) -> str:
        """What arms and panels call it."""
        ...


@runtime_checkable
class Batching(Protocol):
    """A loaded program that takes several examples at once, whatever its shapes."""

    def run_batch(self, batch: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """An inference for each of them."""
        ...


@runtime_checkable
class Shaped(Protocol):
    """A loaded program that may prepare itself for each shape of its inputs anew."""

    @property
    def per_shape(self) -> bool:
        """Whether it does, so that few different shapes are better than many."""
        ...


@runtime_checkable
class Fetching(Protocol):
    """A loaded program that may read inputs faster from memory of another kind than NumPy's."""

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        """An array in such memory, with anything in it; None where there is none, or no more."""
        ...


class Engine(Protocol):
    """Something that runs programs on a kind of device."""

    @property
    def name(self) -> str:
        """What settings and plans call it."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it drives."""
        ...

    def title(self, device: str) -> str:
        """What arms and panels call it, honestly: on which hardware the work really happens."""
        ...

    def available(self) -> Availability:
        """Whether it can run on this machine."""
        ...

    def supports(self, node: Node) -> bool:
        """Whether it has the operation."""
        ...

    def load(self, program: Program, device: str, options: Options) -> Loaded:
        """Make a program ready to run.

        Raises:
            UnsupportedOp: for an op it does not have.
            EngineError: when its library refuses the program.
        """
        ...


def weighed(loaded: Loaded, info: ProgramInfo) -> int:
    """Bytes of a loaded program's weights; as stored, where it does not tell."""
    if isinstance(loaded, Weighing):
        return loaded.weight_bytes
    return sum(op.weight_bytes for op in info.ops)


def planned(engine: Engine, device: str, options: Options, loaded: Loaded, why: str) -> PlanInfo:
    """Who runs it, and what the framework itself tells of its plans."""
    title = loaded.title if isinstance(loaded, Titled) else engine.title(device)
    title += ", each result rounded to fp16" if options.faithful else ""
    if options.packed == "fast" and engine.name == "portable":
        title += ", inputs of packed products rounded to int8"
    if not isinstance(loaded, Placed):
        return PlanInfo(engine.name, device, title, why)
    title += f", {options.compute_units}" if options.compute_units != "ALL" else ""
    why = "; ".join(filter(None, (why, loaded.remark)))
    return PlanInfo(engine.name, device, title, why, loaded.placements)
