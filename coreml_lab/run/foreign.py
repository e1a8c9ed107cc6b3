"""Engines that others wrote: an object that has what the protocol asks is taken as it is.

    class Mine:
        name, devices = "mine", ("npu:0",)
        def title(self, device): return "Core ML program, my NPU"
        def available(self): return Availability(True)
        def supports(self, node): return node.op in MY_OPS
        def load(self, program, device, options): return MyProgram(program.graph)

    cl.load("model.mlpackage", engine=Mine()).predict(inputs)

``tests/run/test_foreign.py`` holds a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from coreml_lab.errors import EngineError, EngineUnavailable, UnknownParameter
from coreml_lab.program.graph import Array, Node, TensorType
from coreml_lab.program.program import Program
from coreml_lab.records import Run
from coreml_lab.run.engine import Availability, Engine, Loaded, Options
from coreml_lab.run.state import State

METHODS = ("title", "available", "supports", "load")
# What a loaded program may have besides, batches and deadlines apart: its plan, what it copies, and
# whether it prepares itself for each shape.
OPTIONAL = (
    "title",
    "placements",
    "remark",
    "border",
    "weight_bytes",
    "per_shape",
    "account",
)
LOADED = ("run", "states", "make_state", "trace")


def checked(engine: object) -> Engine:
    """``engine`` itself, watched for what it promises.

    Raises:
        UnknownParameter: where it lacks a part of the protocol; the message names each part.
    """
    lacks = [name for name in METHODS if not callable(getattr(engine, name, None))]
    if not isinstance(name := getattr(engine, "name", None), str) or not name:
        lacks.append("name (a string)")
    named = getattr(engine, "devices", None)
    if not isinstance(named, tuple) or not named or not all(isinstance(d, str) for d in named):
        lacks.append("devices (a tuple of their names)")
    if isinstance(engine, type) or lacks:
        what = engine.__name__ if isinstance(engine, type) else type(engine).__name__
        told = f"lacks {', '.join(lacks)}" if lacks else "is a class: give an object of it"
        raise UnknownParameter(
            f"engine={what} is no engine: it {told}",
            hint="give the name of an engine, or an object with all of "
            "coreml_lab.run.engine.Engine",
        )
    return Foreign(cast("Engine", engine))


def place(engine: object, asked: str | None, usual: str) -> str:
    """The device that a foreign engine is to use: the one asked for, the usual one, or its first.

    Raises:
        EngineUnavailable: where it does not drive the device that was asked for.
    """
    drives, full = checked(engine).devices, _spellings(engine)
    if asked is None:
        return full.get(usual, drives[0])
    if asked not in full:
        raise EngineUnavailable(
            f"the engine {checked(engine).name} does not drive {asked}",
            reason=f"it drives {', '.join(drives)}",
            hint=f"device={drives[0]!r}",
        )
    return full[asked]


def kept(engine: object, device: str) -> Engine | None:
    """The engine itself, where it is a foreign one that drives the device too."""
    if engine is None or isinstance(engine, str) or device not in _spellings(engine):
        return None
    return cast("Engine", engine)


def _spellings(engine: object) -> dict[str, str]:
    """The engine's devices by their names, with and without the number 0."""
    drives = checked(engine).devices
    return {d: d for d in drives} | {d.removesuffix(":0"): d for d in drives}


@dataclass(frozen=True)
class Foreign:
    """A foreign engine, whose programs are asked for every output that was promised."""

    engine: Engine

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self.engine.name

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it drives."""
        return self.engine.devices

    def title(self, device: str) -> str:
        """What it says of itself."""
        return self.engine.title(device)

    def available(self) -> Availability:
        """Whether it can run here."""
        return self.engine.available()

    def supports(self, node: Node) -> bool:
        """Whether it has the operation."""
        return self.engine.supports(node)

    def load(self, program: Program, device: str, options: Options) -> Loaded:
        """What it loads, checked for what a loaded program must have.

        Raises:
            EngineUnavailable: where it says that it cannot run here.
            EngineError: where what it loads lacks a part of the protocol.
        """
        state = self.available()
        if not state.available:
            raise EngineUnavailable(
                f"the engine {self.name} cannot be used: {state.reason}",
                reason=state.reason,
                hint="cl.doctor() lists the engines that are here",
            )
        loaded = self.engine.load(program, device, options)
        if lacks := [name for name in LOADED if not hasattr(loaded, name)]:
            raise EngineError(
                f"the engine {self.name} loaded a {type(loaded).__name__}, "
                f"which lacks {', '.join(lacks)}",
                hint="it must have all of coreml_lab.run.engine.Loaded",
            )
        ports = program.info.outputs
        wanted = tuple(dict.fromkeys(p.source or p.name for p in ports))
        return Watched(loaded, Promise(self.name, wanted))


@dataclass(frozen=True)
class Promise:
    """What was promised of each inference: every output, as an array."""

    engine: str
    wanted: tuple[str, ...]

    def kept(self, found: object, method: str = "run") -> dict[str, Array]:
        """``found`` itself.

        Raises:
            EngineError: where an output is missing, or no array.
        """
        told = "" if isinstance(found, Mapping) else type(found).__name__
        for name in self.wanted:
            array = found.get(name) if isinstance(found, Mapping) else None
            if not isinstance(array, np.ndarray):
                given = told or (type(array).__name__ if array is not None else "nothing")
                raise EngineError(
                    f"the engine {self.engine} gave {given} for the output {name!r}",
                    hint=f"{method}() returns a NumPy array for every output of the program",
                )
        return cast("dict[str, Array]", found)

    def batch(self, found: object, count: int) -> list[dict[str, Array]]:
        """``found`` itself, the results of so many inferences.

        Raises:
            EngineError: where it is anything else.
        """
        if not isinstance(found, Sequence) or len(found) != count:
            given = len(found) if isinstance(found, Sequence) else type(found).__name__
            raise EngineError(
                f"the engine {self.engine} gave {given} for the results of {count} inferences",
                hint="run_batch() returns a list with the outputs of each",
            )
        return [self.kept(each, "run_batch") for each in found]


class Watched:
    """A program of a foreign engine: each output must be there, and be an array."""

    def __init__(self, loaded: Loaded, promise: Promise) -> None:
        self._loaded = loaded
        self._promise = promise
        # Protocols are looked for in the object itself, from Python 3.12 on.
        for part in OPTIONAL:
            if hasattr(loaded, part):
                setattr(self, part, getattr(loaded, part))
        for part, watch in (("run_within", _within), ("run_batch", _batches)):
            if hasattr(loaded, part):
                setattr(self, part, watch(getattr(loaded, part), promise))

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What the program remembers from run to run."""
        return self._loaded.states

    def make_state(self) -> State:
        """New contents for its states."""
        return self._loaded.make_state()

    def trace(self, inputs: Mapping[str, Array], runs: int) -> tuple[Run, ...]:
        """Its instrumented inferences."""
        return self._loaded.trace(inputs, runs)

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Array]:
        """One inference.

        Raises:
            EngineError: where an output is missing, or no array.
        """
        return self._promise.kept(
            self._loaded.run(inputs) if state is None else self._loaded.run(inputs, state)
        )


# Functions, and no methods: an object that holds its own is not let go of at once.
def _within(run: Callable[..., object], promise: Promise) -> Callable[..., object]:
    def run_within(
        seconds: float, inputs: Mapping[str, Array], state: State | None = None
    ) -> dict[str, Array]:
        return promise.kept(run(seconds, inputs, state), "run_within")

    return run_within


def _batches(run: Callable[..., object], promise: Promise) -> Callable[..., object]:
    def run_batch(batch: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        return promise.batch(run(batch), len(batch))

    return run_batch
