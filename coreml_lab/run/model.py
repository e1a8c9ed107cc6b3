"""Model: a program on a device, ready to predict."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, overload

import numpy as np

from coreml_lab import config
from coreml_lab.circumstances import Split, Stage
from coreml_lab.errors import EngineError, EngineUnavailable, InputError
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.program.program import Program
from coreml_lab.records import Incident, PlanInfo, ProgramInfo, Run
from coreml_lab.run import laps, stages
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.call import seconds
from coreml_lab.run.engine import Engine, Options, weighed
from coreml_lab.run.executor import Executor
from coreml_lab.run.export import export_onnx, save_package
from coreml_lab.run.interface import Border, Interface
from coreml_lab.run.op_memory import HINT, Accounting, MemoryTrace
from coreml_lab.run.state import State


class Model:
    """A compiled program; ``inputs`` and ``outputs`` map names to types."""

    def __init__(
        self,
        program: Program,
        plan: PlanInfo,
        executor: Executor,
        move: Callable[..., Model],
        options: Options,
        *,
        engine: Engine,
        interface: Border | None = None,
    ) -> None:
        self.program = program
        self.plan = plan
        self._interface: Border = interface or Interface(program.info)
        self.inputs = self._interface.inputs
        self.outputs = self._interface.outputs
        self._executor = executor
        self._move = move
        self._debugged: tuple[str, Model] | None = None  # and where it ran when that was made
        self.options = options
        self.engine = engine
        self._stages = stages.current()

    @property
    def info(self) -> ProgramInfo:
        """Name, interface, operations and size."""
        return self.program.info

    @property
    def name(self) -> str:
        """What it is called."""
        return self.program.info.name

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.plan.device

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights as the engine holds them; as stored, where it does not tell."""
        return weighed(self._executor.loaded, self.info)

    @property
    def functions(self) -> tuple[str, ...]:
        """Every function of the file: ``cl.load(path, function=…)`` opens another one."""
        return self.info.functions

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What the model remembers from one prediction to the next; mostly nothing."""
        return self._executor.states

    def make_state(self) -> State:
        """New contents, all zero, for ``predict(inputs, state=…)``: ``.read(name)``, ``.write``.

        Raises:
            InputError: where the model has no states.
        """
        if not self.states:
            raise InputError(f"{self.name} has no states", hint="predict(inputs) is all it needs")
        return self._executor.make_state()

    @overload
    def predict(
        self,
        inputs: Mapping[str, Any],
        state: State | None = None,
        *,
        deadline: float | None = None,
    ) -> dict[str, Any]: ...

    @overload
    def predict(
        self,
        inputs: Sequence[Mapping[str, Any]],
        state: State | None = None,
        *,
        deadline: float | None = None,
    ) -> list[dict[str, Any]]: ...

    def predict(
        self,
        inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        state: State | None = None,
        *,
        deadline: float | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """One inference: values by input name in, by output name out; a list of them: a list.

        float64 and int64 arrays are narrowed; everything else must have the declared type. An
        image is a PIL image or a uint8 array (height, width, 3) in RGB order, and comes back as a
        PIL image; a classifier gives its label and a dictionary of probabilities. Inputs with a
        default may be left out. A model with states reads and changes ``state``; a list of inputs
        goes through it one after the other. ``deadline`` is what one inference may take, in
        seconds (default: ``Config.deadline`` as it is now; 0 means no limit); an engine that can
        be stopped is stopped then.

        Raises:
            InputError: for a missing or unknown input, a wrong shape, size or element type, a
                missing or foreign state, or a deadline that is no number of seconds.
            Timeout: when it was stopped at its deadline.
            ExecutionError: when it failed and recovery did, too; ``.incidents`` tells the story.
        """
        self.check_state(state)
        if isinstance(inputs, list | tuple):
            return self._several(inputs, state, deadline)
        return self._one(cast("Mapping[str, Any]", inputs), state, deadline)

    def _several(
        self, inputs: Sequence[Mapping[str, Any]], state: State | None, deadline: float | None
    ) -> list[dict[str, Any]]:
        settings = config.current()
        limit = _limit(deadline, settings)
        # Each in its turn: who watches wants its time, and a deadline is one run's.
        if state is not None or ACTIVITY.watchers or limit:
            return [self._one(each, state, limit) for each in inputs]
        feeds = [self._interface.feeds(each) for each in inputs]
        found = self._executor.run_batch(feeds, recover=settings.recover)
        ACTIVITY.plan, ACTIVITY.program = self.plan, self.program.info.name
        return [self._interface.results(each) for each in found]

    def check_state(self, state: State | None) -> None:
        """Raise InputError unless ``state`` is what the model needs."""
        if state is None and not self.states:
            return
        held = {} if state is None else state.types
        if held != dict(self.states) or state is None:
            wanted = ", ".join(f"{k}: {t}" for k, t in self.states.items()) or "none"
            given = ", ".join(f"{k}: {t}" for k, t in held.items()) or "none"
            raise InputError(
                f"{self.name}: its states are {wanted}, the given ones are {given}",
                hint="state = model.make_state(); model.predict(inputs, state=state)",
            )

    def _one(
        self, inputs: Mapping[str, Any], state: State | None, deadline: float | None
    ) -> dict[str, Any]:
        return self.run(self._interface.feeds(inputs), state, inputs, deadline)

    def run(
        self,
        feeds: Mapping[str, Array],
        state: State | None = None,
        inputs: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """``predict`` for inputs that ``feeds()`` has checked; ``inputs`` are what they were."""
        settings = config.current()
        limit = _limit(deadline, settings)
        run = self._executor.timed
        made, start, duration = run(feeds, state, limit, recover=settings.recover)
        outputs = self._interface.results(made)
        ACTIVITY.plan, ACTIVITY.program = self.plan, self.program.info.name
        if ACTIVITY.watchers:
            for watch in ACTIVITY.watchers:
                watch(self, feeds if inputs is None else inputs, start, duration)
        return outputs

    @property
    def batched(self) -> bool:
        """Whether inputs may be joined along their first, flexible dimension.

        Rows together must give what they give alone: that is tried on noise when it is first
        asked, and kept in the compile cache.
        """
        return self._executor.batched

    @property
    def batched_known(self) -> bool:
        """Whether ``batched`` stays as it is: what failed on the noise is tried again."""
        return self._executor.batched_known

    @property
    def largest_batch(self) -> int | None:
        """The most rows one run takes; None where there is no bound."""
        first = next((p.shape[0] for p in self.info.inputs if p.shape), 1)
        return (self.info.dims[first][1] or None) if isinstance(first, str) else first

    def padded(self, rows: int) -> int:
        """How many rows to run for that many: what the program takes.

        A power of two, where its engine prepares itself for each shape.
        """
        sizes, most = self._executor.sizes, self.largest_batch or sys.maxsize
        if self._executor.per_shape:
            rows = min(1 << (rows - 1).bit_length(), most)
        return rows if sizes is None else sizes.fitted(rows) or rows

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array for inputs that are put together, with anything in it.

        It may be in memory that is scarce: it is for what is used again.
        """
        return self._executor.room(shape, dtype)

    def feeds(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Checked inputs as engines take them."""
        return self._interface.feeds(inputs)

    def trace(self, inputs: Mapping[str, Any], *, runs: int = 10) -> tuple[Run, ...]:
        """Instrumented inferences: slower, with a measured span per operation."""
        return self._executor.trace(self._interface.feeds(inputs), runs)

    def split(self, inputs: Mapping[str, Any], *, runs: int = 20) -> tuple[Split, ...]:
        """Where the time of inferences goes: conversion, copies, the framework, our binding.

        They are as fast as others but for a look at the clock after each part. States begin as
        zeros in each of them.
        """
        found, settings = [], config.current()
        for _ in range(runs):
            state = self.make_state() if self.states else None
            with laps.watching() as watch:
                feeds = self._interface.feeds(inputs)
                watch.lap("convert")
                limit = _limit(None, settings)
                outputs = self._executor.run(feeds, state, limit, recover=settings.recover)
                watch.lap(laps.OURS)
                self._interface.results(outputs)
                watch.lap("convert")
            found.append(watch.split)
        return tuple(found)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """How long the steps of loading it took; the last one is its first run, once it ran."""
        first = self._executor.first_run
        return self._stages if first is None else (*self._stages, first)

    def again(self) -> Model:
        """The same, loaded once more; what is in the caches on disk is taken from there."""
        return self._move(self.device, engine=self.plan.engine)

    def account(self, inputs: Mapping[str, Any]) -> MemoryTrace:
        """What the engine's allocator holds, operation by operation, in one inference.

        Raises:
            EngineError: where the engine does not tell.
        """
        loaded = self._executor.loaded
        if not isinstance(loaded, Accounting):
            told = f"{self.plan.engine} does not tell what its operations hold"
            raise EngineError(told, hint=HINT)
        return loaded.account(self._interface.feeds(inputs))

    def debug(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """As ``predict``, but it stops at the first operation that makes NaN or infinity.

        Every result is looked at, so it is slower and holds all of them at once. What is infinite
        because of a constant or an input (an attention mask) does not stop it. To run all of a
        model so: ``cl.load(path, debug=True)``, ``cl.configure(debug=True)``.

        Raises:
            NumericalError: naming the operation, its operands and what to try; ``.node``.
        """
        if self.options.debug:
            return self.predict(inputs, state)
        where = self._executor.fallen_back_to
        if self._debugged is None or self._debugged[0] != where:
            self._debugged = where, self._watched()
        return self._debugged[1].predict(inputs, state)

    def _watched(self) -> Model:
        """The same on an engine that shows results inside: that where it runs, if it does."""
        runner = self._executor
        engine, device = runner.fallen_back_to, runner.fallen_back_on
        try:
            return self._move(device or self.device, engine=engine or self.plan.engine, debug=True)
        except EngineUnavailable:
            return self._move(self.device, debug=True)

    def export_onnx(self, path: str | Path, *, packed: str = "off") -> Path:
        """Write it as ONNX, for any ONNX runtime; states become inputs and outputs.

        Weights are expanded, unless ``packed`` says otherwise (see ``Config.packed``): such a
        file may hold operators that only ONNX Runtime has.
        """
        return export_onnx(self.program, path, packed=packed)

    def save(self, path: str | Path) -> Path:
        """Write its file, as Core ML reads it, to a new ``.mlpackage`` (or what it was read from).

        Raises:
            InputError: for a name of another ending.
            ModelError: where there is something already: nothing is overwritten.
        """
        return save_package(Path(self.info.package), Path(path))

    def to(self, device: str) -> Model:
        """The same program on another device.

        Raises:
            EngineUnavailable: when the device is not here; the message says why.
        """
        return self._move(device)

    def __repr__(self) -> str:
        ports = " -> ".join(
            ", ".join(f"{n}: {t}" for n, t in side.items()) for side in (self.inputs, self.outputs)
        )
        moved = self._executor.fallen_back_to
        title = self.plan.title + (f", fell back to {moved}" if moved else "")
        title += ", promoted to fp32" if self._executor.promoted else ""
        title += f" on {on}" if (on := self._executor.promoted_on) else ""
        told = f"; {n} incidents" if (n := len(self.incidents)) > 1 else "; 1 incident" * n
        return f"Model({self.name}: {ports}; {len(self.info.ops)} ops, {title}{told})"

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What went wrong in its runs, and what was done about it."""
        return tuple(self._executor.incidents)


def _limit(deadline: float | None, settings: config.Config) -> float:
    """The seconds that an inference may take: those asked for, or else what is configured now."""
    return seconds(settings.deadline if deadline is None else deadline)
