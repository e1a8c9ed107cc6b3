"""Run a loaded program, count what ran, and recover by the table of ``recovery``."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from coreml_lab.circumstances import Stage
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import DeviceResting, ExecutionError, LabError, NumericalError, Timeout
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.records import Incident, Run
from coreml_lab.run import forking, laps
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.breaker import Breaker
from coreml_lab.run.call import NO_LIMIT, Call, Limit
from coreml_lab.run.cutting import Sizes, cut, joined, rows
from coreml_lab.run.engine import Batching, Bordered, Loaded, Shaped
from coreml_lab.run.ledger import Account, Meter
from coreml_lab.run.nonfinite import overflowed
from coreml_lab.run.recovery import (
    OF_THE_DEVICE,
    Fallback,
    Promote,
    Restart,
    Retry,
    SplitBatch,
    Step,
    steps,
)
from coreml_lab.run.state import State

Arrays = Mapping[str, Array]
Load = Callable[[], Loaded]
KEPT = 1000
# An engine to fall back to: its name, and what loads the program there.
Alternative = tuple[str, Load]


class Interrupted(LabError, KeyboardInterrupt):
    """The user stopped a run; nothing was lost."""


class Executor:
    """Runs one program. Nothing is silent: each recovery leaves an Incident."""

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        alternatives: Sequence[Alternative] = (),
        *,
        reload: Load | None = None,
        promote: Load | None = None,
        breaker: Breaker | None = None,
        sizes: Sizes | None = None,
        independent: Callable[[Loaded], bool] | None = None,
        recover: bool = True,
        fixed: bool = False,
        account: Account | None = None,
        clock: Clock = SYSTEM,
        activity: Activity = ACTIVITY,
    ) -> None:
        """Take a loaded program and what may help when it fails.

        Args:
            name: what the program is called.
            loaded: where it runs.
            alternatives: engines to fall back to, in order.
            reload: loads it again where it is.
            promote: loads it with fp32 arithmetic; given where it computes in fp16. It is called
                once, by the first run whose results are not finite though its inputs are.
            breaker: of the device it runs on.
            sizes: the numbers of rows that a run takes, where its inputs could be cut.
            independent: whether rows may be cut apart, asked when it matters (default: yes).
            recover: whether to do anything but raise.
            fixed: whether every run has the same shapes.
            account: of the device, where copies are counted.
            clock: the time.
            activity: where runs and incidents are counted.
        """
        self.name = name
        self.sizes = sizes
        self._apart = sizes is not None
        self._independent = independent
        self.fallen_back_to, self.promoted = "", False
        self.incidents: deque[Incident] = deque(maxlen=KEPT)
        self._account = account or Account("")
        self._fixed = fixed
        self._meter = self._metered(loaded)
        self._loaded = loaded
        self._alternatives = list(alternatives)
        self._reload = reload
        self._promote = promote if recover else None
        self._in_vain = False  # whether fp32 was tried
        self._breaker = breaker or Breaker()
        self._recover = recover
        self._clock = clock
        self._activity = activity
        self._lock = forking.rlock()  # of changing where it runs
        self._asking = forking.lock()  # of asking whether rows are independent
        self.first_run: Stage | None = None

    @property
    def loaded(self) -> Loaded:
        """The program where it runs now."""
        return self._loaded

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What the program remembers from run to run."""
        return self._loaded.states

    @property
    def batched(self) -> bool:
        """Whether inputs may be joined and cut along their first dimension."""
        if self._apart and self._independent is not None:
            with self._asking:
                if self._independent is not None:
                    self._apart, self._independent = self._independent(self._loaded), None
        return self._apart

    @property
    def per_shape(self) -> bool:
        """Whether each new shape of the inputs takes it longer than one that it knows."""
        return isinstance(self._loaded, Shaped) and self._loaded.per_shape

    def make_state(self) -> State:
        """New contents, all zero, for the states of the program."""
        state = self._loaded.make_state()
        held = sum(math.prod(t.sizes) * t.dtype.itemsize for t in state.types.values())
        self._account.hold(state, held)
        return state

    def _metered(self, loaded: Loaded) -> Meter:
        border = loaded.border if isinstance(loaded, Bordered) else None
        return Meter(self._account, border, fixed=self._fixed)

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
            Timeout: when it was stopped at its deadline.
            Interrupted: when the user stopped it.
        """
        start, loaded = time.monotonic_ns(), self._loaded
        limit = Limit.of(deadline, self.name) if deadline else NO_LIMIT
        call = Call(inputs, state, limit, self._recover and recover)
        try:
            if deadline or self._breaker.failures or self._promote:
                outputs = self._careful(call, start)
            else:
                outputs = self._run(loaded, call)
        except LabError as error:
            outputs = self._recovered(error, call, loaded)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error
        duration = time.monotonic_ns() - start
        if self.first_run is None:
            self.first_run = Stage("first run", start, duration)
        self._meter.count(inputs, outputs)
        self._activity.finished.append((start, duration))
        self._activity.total += 1
        return outputs

    def _run(self, loaded: Loaded, call: Call) -> dict[str, Array]:
        inputs, state, limit, _ = call
        if laps.on:
            with laps.engine():
                return limit.run(loaded, inputs, state)
        if limit is NO_LIMIT and state is None:  # the usual case, which costs nothing more
            return loaded.run(inputs)
        return limit.run(loaded, inputs, state)

    def _careful(self, call: Call, start: int) -> dict[str, Array]:
        """A run with a deadline, on a device that failed before, or in fp16."""
        if call.recover and self._alternatives and self._breaker.rests(self._clock.now_ns()):
            raise DeviceResting(
                f"{self.name}: its device failed {self._breaker.failures} times in a row",
                hint="it is tried again after half a minute",
            )
        outputs = self._run(self._loaded, call)
        self._breaker.succeeded()
        if call.limit.over:
            spent, most = (time.monotonic_ns() - start) / 1e9, call.limit.seconds
            late = Timeout(f"{self.name}: took {spent:.3g} s, {most:.3g} s were allowed")
            self._report(late, "none", "its engine cannot be stopped: the result came late")
        # A state has changed: it cannot be run again.
        if self._promote and call.recover and call.state is None:
            self._check_finite(call.inputs, outputs)
        return outputs

    def _overflowed(self, inputs: Arrays, outputs: Arrays) -> bool:
        return overflowed(inputs, outputs, apart=self._apart and self._independent is None)

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
        if not isinstance(self._loaded, Batching) or len(batch) < 2:  # noqa: PLR2004 - no batch
            return [self.run(inputs, recover=recover) for inputs in batch]
        start = time.monotonic_ns()
        try:
            outputs = self._loaded.run_batch(batch)
        except LabError as error:
            if not (self._recover and recover and steps(error)):
                raise
            return self._one_by_one(error, batch)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error
        for inputs, results in zip(batch, outputs, strict=True):
            self._meter.count(inputs, results)
        # Core ML tells no more than the time of all: each has an equal share.
        share = (time.monotonic_ns() - start) // len(batch)
        self._activity.finished.extend((start + i * share, share) for i in range(len(batch)))
        self._activity.total += len(batch)
        return outputs

    def _one_by_one(self, error: LabError, batch: Sequence[Arrays]) -> list[dict[str, Array]]:
        outputs = [self.run(inputs) for inputs in batch]
        self._incident(error, SplitBatch(), "recovered")
        return outputs

    def trace(self, inputs: Arrays, runs: int) -> tuple[Run, ...]:
        """Instrumented inferences with spans; they are not counted as throughput."""
        start = time.monotonic_ns()
        try:
            return self._loaded.trace(inputs, runs)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error

    def _interrupted(self, start: int) -> Interrupted:
        spent = (time.monotonic_ns() - start) / 1e9
        return Interrupted(
            f"{self.name}: interrupted after {spent:.3g} s",
            hint="run the cell again: nothing was lost, the model is loaded",
        )

    def _recovered(self, error: LabError, call: Call, failed: Loaded) -> dict[str, Array]:
        if isinstance(error, OF_THE_DEVICE):
            self._breaker.failed(self._clock.now_ns())
        plan = steps(error)
        if not (call.recover and plan):
            raise error
        incidents: list[Incident] = []
        for step in plan:
            if call.limit.over:
                break
            try:
                outputs = self._attempt(step, call, failed)
            except LabError as again:
                if not isinstance(again, _NotPossible):
                    incidents.append(self._incident(error, step, f"failed: {again.message}"))
                continue
            in_vain = isinstance(step, Promote) and self._overflowed(call.inputs, outputs)
            outcome = "not finite in fp32 either: it stays" if in_vain else "recovered"
            incidents.append(self._incident(error, step, outcome))
            return outputs
        if not incidents:
            raise error
        tried = ", ".join(i.action for i in incidents)
        raise ExecutionError(
            f"{self.name}: {error.message}; recovery failed ({tried})",
            incidents=tuple(incidents),
            hint=error.hint or "cl.configure(recover=False) shows the first error alone",
        ) from error

    def _attempt(self, step: Step, call: Call, failed: Loaded) -> dict[str, Array]:
        if isinstance(step, SplitBatch) and self._loaded is failed:
            if call.state is not None:
                raise _NotPossible("the halves of a batch would each change the state")
            return self._split(call)
        if isinstance(step, Retry) and self._loaded is failed:
            return self._retry(step, call)
        with self._lock:
            if self._loaded is failed:
                return self._elsewhere(step, call)
        return self._run(self._loaded, call)  # another thread has moved it meanwhile

    def _elsewhere(self, step: Step, call: Call) -> dict[str, Array]:
        """Move it as the step says, and run it there; one thread at a time."""
        if isinstance(step, Restart):
            return self._moved(self._reload, call)
        if isinstance(step, Promote):
            return self._promote_it(call)
        return self._fall_back(call)

    def _moved(self, load: Load | None, call: Call) -> dict[str, Array]:
        """Run it where ``load`` puts it, and stay there."""
        if load is None:
            raise _NotPossible("there is nothing to load it with")
        with self._lock:
            loaded = load()
            outputs = self._run(loaded, call)
            self._loaded, self._meter = loaded, self._metered(loaded)
        return outputs

    def _promote_it(self, call: Call) -> dict[str, Array]:
        load, before = self._promote, self._loaded
        if load is None and self._in_vain:  # it was tried for another thread
            return self._run(before, call)
        try:
            outputs = self._moved(load, call)
        finally:  # until now, what overflows in other threads comes here, too
            if self._loaded is not before or not call.limit.over:
                self._promote, self._in_vain = None, True
        self.promoted = not self._overflowed(call.inputs, outputs)
        if not self.promoted:
            # fp16 was not at fault, and is the faster one
            self._loaded, self._meter = before, self._metered(before)
        return outputs

    def _retry(self, step: Retry, call: Call) -> dict[str, Array]:
        for attempt in range(step.times):
            self._clock.sleep(step.delay_s * 2**attempt)
            try:
                return self._run(self._loaded, call)
            except LabError:
                if call.limit.over or attempt == step.times - 1:
                    raise
        raise _NotPossible("no attempt was allowed")

    def _split(self, call: Call) -> dict[str, Array]:
        half = -(-rows(call.inputs) // 2)
        parts = [] if self.sizes is None else cut(call.inputs, half, self.sizes)
        if not parts or not self.batched:
            raise _NotPossible("the batch cannot be split")
        return joined([(self._part(call._replace(inputs=part)), kept) for part, kept in parts])

    def _part(self, call: Call) -> dict[str, Array]:
        try:
            return self._run(self._loaded, call)
        except LabError:
            if call.limit.over:
                raise
            return self._split(call)

    def _fall_back(self, call: Call) -> dict[str, Array]:
        """The next engine that works; those that do not are out, unless the time was over."""
        refused: LabError = _NotPossible("there is no other engine")
        while self._alternatives:
            name, load = first = self._alternatives.pop(0)
            try:
                outputs = self._moved(load, call)
            except LabError as error:
                if call.limit.over:  # which is not its fault
                    self._alternatives.insert(0, first)
                    raise
                refused = error
                continue
            self.fallen_back_to = name
            self._breaker, self._promote, self._reload = Breaker(), None, load
            self.promoted = self._in_vain = False
            return outputs
        raise refused

    def _incident(self, error: LabError, step: Step, outcome: str) -> Incident:
        action = type(step).__name__ + (
            f" to {self.fallen_back_to}"
            if isinstance(step, Fallback) and self.fallen_back_to
            else ""
        )
        return self._report(error, action, outcome)

    def _report(self, error: LabError, action: str, outcome: str) -> Incident:
        now, kind = self._clock.now_ns(), type(error).__name__
        incident = Incident(now, kind, error.message, action, outcome)
        self.incidents.append(incident)
        self._activity.report(incident)
        return incident


class _NotPossible(LabError):
    """A step that does not apply here."""
