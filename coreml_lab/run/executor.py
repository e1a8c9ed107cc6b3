"""Run a loaded program, and count what ran; ``recovering`` says what is done when it fails."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.circumstances import Stage
from coreml_lab.errors import DeviceResting, LabError, NumericalError, Timeout
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.records import Run
from coreml_lab.run.call import NO_LIMIT, Call, Limit
from coreml_lab.run.engine import Batching, Bounded, Fetching, Loaded
from coreml_lab.run.recovering import Arrays, Recovering
from coreml_lab.run.recovery import Promotion, SplitBatch, steps
from coreml_lab.run.state import State


class Interrupted(LabError, KeyboardInterrupt):
    """The user stopped a run."""


class Executor(Recovering):
    """Runs one program; arguments as of ``Recovering``."""

    first_run: Stage | None = None

    @property
    def loaded(self) -> Loaded:
        """The program where it runs now."""
        return self._loaded

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What the program remembers from run to run."""
        return self._loaded.states

    @property
    def per_shape(self) -> bool:
        """Whether each new shape of the inputs takes it longer than one that it knows."""
        # As of ``Shaped``. Asking whether it is one takes 70 us, and schedulers ask for each batch.
        return bool(getattr(self._loaded, "per_shape", False))

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array to put inputs in, with anything in it: where the engine reads it fastest."""
        loaded = self._loaded
        found = loaded.room(shape, dtype) if isinstance(loaded, Fetching) else None
        return np.empty(shape, dtype) if found is None else found

    def make_state(self) -> State:
        """New contents, all zero, for the states of the program."""
        state = self._loaded.make_state()
        held = sum(math.prod(t.sizes) * t.dtype.itemsize for t in state.types.values())
        self._account.hold(state, held)
        return state

    def run(
        self,
        inputs: Arrays,
        state: State | None = None,
        deadline: float = 0.0,
        *,
        recover: bool = True,
    ) -> dict[str, Array]:
        """One inference; on failure the policy's steps in order.

        ``deadline`` is in seconds; 0 means no limit. An engine that can be stopped is stopped then;
        the late result of another one is still given, and an incident tells of it. Without
        ``recover`` the error is raised at once.

        Raises:
            ExecutionError: when every step failed; ``.incidents`` tells the story.
            StateLost: when what ``state`` held went with the process that failed.
            Timeout: when it was stopped at its deadline.
            Interrupted: when the user stopped it.
        """
        return self.timed(inputs, state, deadline, recover=recover)[0]

    def timed(
        self,
        inputs: Arrays,
        state: State | None = None,
        deadline: float = 0.0,
        *,
        recover: bool = True,
    ) -> tuple[dict[str, Array], int, int]:
        """``run``, and when it began and how long it took (monotonic nanoseconds)."""
        # In this order: what overflows while another thread promotes it is promoted, too.
        start, promote, loaded = time.monotonic_ns(), self._promote, self._loaded
        limit = Limit.of(deadline, self.name) if deadline else NO_LIMIT
        call = Call(inputs, state, limit, self._recover and recover)
        try:
            if deadline or self._breaker.failures or promote:
                outputs = self._careful(call, loaded, promote, start)
            else:
                outputs = self._run(loaded, call)
        except LabError as error:
            outputs = self._mended(error, call, loaded, start)
        except KeyboardInterrupt as error:
            raise self._interrupted(start, state) from error
        duration = time.monotonic_ns() - start
        if self.first_run is None:
            self.first_run = Stage("first run", start, duration)
        self._meter.count(inputs, outputs)
        self._activity.finished.append((start, duration))
        self._activity.total += 1
        return outputs, start, duration

    def _mended(self, error: LabError, call: Call, failed: Loaded, start: int) -> dict[str, Array]:
        try:
            return self._recovered(error, call, failed)
        except Interrupted:  # by a model inside this one
            raise
        except KeyboardInterrupt as stop:
            raise self._interrupted(start, call.state) from stop
        finally:
            del error  # raised again, it has this frame: in turn, it would keep itself

    def _careful(
        self, call: Call, loaded: Loaded, promote: Promotion | None, start: int
    ) -> dict[str, Array]:
        """A run with a deadline, on a device that failed before, or in fp16."""
        breaker = self._breaker
        if call.recover and self._rests():
            raise DeviceResting(
                f"{self.name}: its device failed {breaker.failures} times in a row",
                hint="it is tried again after half a minute",
            )
        outputs = self._run(loaded, call)
        if breaker.failures:
            breaker.succeeded()
        if call.limit.over:  # whatever it is: nothing more can be tried
            self._tell_late(call.limit, loaded, start)
        elif promote and call.recover and call.state is None:  # a changed state cannot be run again
            self._check_finite(call.inputs, outputs)
        self._loading.forget()  # it works where it is
        return outputs

    def _tell_late(self, limit: Limit, loaded: Loaded, start: int) -> None:
        spent = (time.monotonic_ns() - start) / 1e9
        late = Timeout(f"{self.name}: took {spent:.3g} s, {limit.seconds:.3g} s were allowed")
        at = "it was in an operation that" if isinstance(loaded, Bounded) else "its engine"
        self.report(late, "none", f"{at} cannot be stopped: the result came late")

    def _rests(self) -> bool:
        """Whether the device is to be left alone, and there is another one."""
        return bool(self._alternatives) and self._breaker.rests(self._clock.now_ns())

    def _check_finite(self, inputs: Arrays, outputs: Arrays) -> None:
        if self._overflowed(inputs, outputs):
            raise NumericalError(
                f"{self.name}: a result is not finite in fp16",
                hint="model.debug(inputs) names the operation; precision='fp32' computes it",
            )

    def run_batch(self, batch: Sequence[Arrays], *, recover: bool = True) -> list[dict[str, Array]]:
        """Several inferences: at once where the engine takes them so, else one after the other.

        Raises:
            ExecutionError: as ``run`` does.
        """
        start, promote = time.monotonic_ns(), self._promote
        loaded, breaker = self._loaded, self._breaker
        recover = self._recover and recover
        alone = len(batch) < 2  # noqa: PLR2004 - no batch
        # Whether it rests is asked last: after that, who asks has the one trial, and must make it.
        tired = recover and breaker.failures
        if alone or not isinstance(loaded, Batching) or (tired and self._rests()):
            return [self.run(inputs, recover=recover) for inputs in batch]
        try:
            outputs = loaded.run_batch(batch)
        except LabError as error:
            self._charge(error, NO_LIMIT, loaded)
            if not (recover and steps(error)):
                raise
            return self._one_by_one(error, batch)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error
        if breaker.failures:
            breaker.succeeded()
        self._count(batch, outputs, start)
        return self._in_range(batch, outputs) if recover and promote else outputs

    def _count(self, batch: Sequence[Arrays], outputs: Sequence[Arrays], start: int) -> None:
        for inputs, results in zip(batch, outputs, strict=True):
            self._meter.count(inputs, results)
        # Core ML tells no more than the time of all: each has an equal share.
        share = (time.monotonic_ns() - start) // len(batch)
        self._activity.finished.extend((start + i * share, share) for i in range(len(batch)))
        self._activity.total += len(batch)

    def _in_range(
        self, batch: Sequence[Arrays], outputs: list[dict[str, Array]]
    ) -> list[dict[str, Array]]:
        """The outputs; what overflowed is run again by itself, which promotes it."""
        over = [self._overflowed(i, o) for i, o in zip(batch, outputs, strict=True)]
        pairs = zip(batch, outputs, over, strict=True)
        return [self.run(i) if again else o for i, o, again in pairs]

    def _one_by_one(self, error: LabError, batch: Sequence[Arrays]) -> list[dict[str, Array]]:
        try:
            outputs = [self.run(inputs) for inputs in batch]
        except LabError as again:
            self._incident(error, SplitBatch(), f"failed: {again.message}")
            raise
        self._incident(error, SplitBatch(), "recovered")
        return outputs

    def trace(self, inputs: Arrays, runs: int) -> tuple[Run, ...]:
        """Instrumented inferences with spans; they are not counted as throughput."""
        start = time.monotonic_ns()
        try:
            return self._loaded.trace(inputs, runs)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error

    def _interrupted(self, start: int, state: State | None = None) -> Interrupted:
        spent = (time.monotonic_ns() - start) / 1e9
        hint = "run the cell again: nothing was lost, the model is loaded"
        if state is not None:
            hint = "the model is loaded; state.read(name) says whether what it held is still there"
        return Interrupted(f"{self.name}: interrupted after {spent:.3g} s", hint=hint)
