"""Where a program runs, and how a failed call of it is recovered, by the table of ``recovery``."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import (
    ExecutionError,
    LabError,
    NumericalError,
    OutOfMemory,
    StateLost,
    Timeout,
)
from coreml_lab.program.graph import Array
from coreml_lab.records import Incident
from coreml_lab.run import forking, laps
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.breaker import Breaker
from coreml_lab.run.call import NO_LIMIT, Call, Limit
from coreml_lab.run.cutting import Sizes, cut, joined, rows
from coreml_lab.run.engine import Bordered, Loaded
from coreml_lab.run.ledger import Account, Meter
from coreml_lab.run.loading import Begun, Loading
from coreml_lab.run.nonfinite import overflowed
from coreml_lab.run.recovery import (
    OF_THE_DEVICE,
    Alternative,
    Fallback,
    Load,
    Promote,
    Promotion,
    Restart,
    Retry,
    SplitBatch,
    Step,
    steps,
)

Arrays = Mapping[str, Array]
KEPT = 1000
# How often at most it is tried whether rows are independent, where a trial fails.
TRIES = 3
NOWHERE_FINITE = "not finite in fp32 either"


class Recovering:
    """A program at its place. Nothing is silent: each recovery leaves an Incident."""

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        alternatives: Sequence[tuple[str, Load] | Alternative] = (),
        *,
        reload: Load | None = None,
        promote: Load | Promotion | None = None,
        breaker: Breaker | None = None,
        sizes: Sizes | None = None,
        independent: Callable[[Loaded], bool | None] | None = None,
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
            independent: whether rows may be cut apart, asked when it matters (default: yes);
                None where that could not be found out.
            recover: whether to do anything but raise.
            fixed: whether every run has the same shapes.
            account: of the device, where copies are counted.
            clock: the time.
            activity: where runs and incidents are counted.
        """
        self.name = name
        self.sizes = sizes
        self._apart = sizes is not None
        self._independent, self._asked = independent, 0
        self.fallen_back_to = self.fallen_back_on = ""  # an engine, and its device where known
        self.promoted, self.promoted_on = False, ""
        self.incidents: deque[Incident] = deque(maxlen=KEPT)
        self._account = account or Account("")
        self._fixed = fixed
        self._meter = self._metered(loaded)
        self._loaded = loaded
        self._alternatives = [Alternative(*each) for each in alternatives]
        self._reload = reload
        given = promote if promote is None or isinstance(promote, Promotion) else Promotion(promote)
        self._promote = given if recover else None
        self._in_vain = ""  # why fp32 did not help, where it was tried
        self._breaker = breaker or Breaker()
        self._recover = recover
        self._clock = clock
        self._activity = activity
        self._lock = forking.rlock()  # of changing where it runs
        self._asking = forking.lock()  # of asking whether rows are independent
        self._loading = Loading()
        self._trial: Begun[bool] | None = None  # one that a call had no time to wait for

    @property
    def batched(self) -> bool:
        """Whether inputs may be joined and cut along their first dimension."""
        if self._apart and self._independent is not None:
            with self._asking:
                self._ask()
        return self._apart and self._independent is None

    @property
    def batched_known(self) -> bool:
        """Whether that stays so: a trial that failed is made again, a few times."""
        return not self._apart or self._independent is None

    def batched_within(self, limit: Limit) -> bool:
        """``batched`` for a call; a trial for which it has no time goes on, for the next one.

        Raises:
            Timeout: where it is not known in time.
        """
        if self.batched_known or limit.end == math.inf:
            return self.batched
        trial = self._trial = self._trial or Begun(lambda: self.batched)
        try:
            return trial.within(limit)
        finally:
            if trial.done:
                self._trial = None
            del trial  # it may have an error, which has this frame

    def _ask(self) -> None:
        if self._independent is None:
            return
        self._asked += 1
        found = self._independent(self._loaded)
        if found is not None or self._asked == TRIES:
            self._apart, self._independent = bool(found), None

    def _metered(self, loaded: Loaded) -> Meter:
        border = loaded.border if isinstance(loaded, Bordered) else None
        return Meter(self._account, border, fixed=self._fixed)

    def _run(self, loaded: Loaded, call: Call) -> dict[str, Array]:
        inputs, state, limit, _ = call
        if laps.on:
            with laps.engine():
                return limit.run(loaded, inputs, state)
        if limit is NO_LIMIT and state is None:  # the usual case, which costs nothing more
            return loaded.run(inputs)
        return limit.run(loaded, inputs, state)

    def _overflowed(self, inputs: Arrays, outputs: Arrays) -> bool:
        return overflowed(inputs, outputs, apart=self._apart and self._independent is None)

    def _charge(self, error: LabError, limit: Limit, failed: Loaded) -> None:
        """Count what speaks against the device, unless the program has left it meanwhile."""
        # That a caller did not allow enough is no fault of the device, if it stopped.
        hasty = isinstance(error, Timeout) and limit.over and not error.ended
        if isinstance(error, OF_THE_DEVICE) and not hasty and self._loaded is failed:
            self._breaker.failed(self._clock.now_ns())

    def _recovered(self, error: LabError, call: Call, failed: Loaded) -> dict[str, Array]:
        """What the steps after ``error`` make of the call, in order until one of them works."""
        self._charge(error, call.limit, failed)
        plan = steps(error)
        try:
            if not (call.recover and plan) or call.limit.over:
                raise error
            if call.state is not None:
                call.state.check_held()  # what went with a process is lost for every engine
            incidents = list[Incident]()
            for step in plan:
                if call.limit.over:
                    break
                outputs = self._tried(step, error, call, failed)
                if isinstance(outputs, dict):
                    return outputs
                incidents += outputs
            if not incidents:
                raise error
            raise self._in_the_end(error, incidents) from error
        finally:
            # It has this frame: in turn, it would keep itself and the inputs until they are swept.
            del error

    def _in_the_end(self, error: LabError, incidents: Sequence[Incident]) -> ExecutionError:
        tried = ", ".join(i.action for i in incidents)
        return ExecutionError(
            f"{self.name}: {error.message}; recovery failed ({tried})",
            incidents=tuple(incidents),
            hint=error.hint or "cl.configure(recover=False) shows the first error alone",
        )

    def _tried(
        self, step: Step, error: LabError, call: Call, failed: Loaded
    ) -> dict[str, Array] | list[Incident]:
        """What a step made; or that it failed, unless it does not apply here."""
        try:
            outputs = self._attempt(step, call, failed)
        except KeyboardInterrupt:
            self._incident(error, step, "interrupted")
            raise
        except StateLost:
            raise
        except NumericalError:  # of a watched engine, which works: that is what it looks for
            self._incident(error, step, "recovered, and stopped at what is not finite")
            raise
        except _NotPossible:
            return []
        except LabError as again:
            return [self._incident(error, step, f"failed: {again.message}")]
        moved = {Fallback: self.fallen_back_to, Promote: self.promoted_on}.get(type(step), "")
        outcome = "recovered"
        if isinstance(step, Promote) and self._overflowed(call.inputs, outputs):
            outcome = f"{self._in_vain or NOWHERE_FINITE}: it stays"
        self._incident(error, step, outcome, moved)
        return outputs

    def _attempt(self, step: Step, call: Call, failed: Loaded) -> dict[str, Array]:
        if isinstance(step, SplitBatch) and self._loaded is failed:
            if call.state is not None:
                raise _NotPossible("the halves of a batch would each change the state")
            return self._split(call)
        if isinstance(step, Retry) and self._loaded is failed:
            return self._retry(step, call)
        with call.limit.holding(self._lock):
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
        try:
            loaded = self._loading.within(call.limit, load)
            outputs = self._run(loaded, call)
        except LabError:
            if not call.limit.over:
                self._loading.forget(load)
            raise
        self._loading.forget()
        self._loaded, self._meter = loaded, self._metered(loaded)
        return outputs

    def _promote_it(self, call: Call) -> dict[str, Array]:
        before, promote = self._loaded, self._promote
        if promote is None and not self._in_vain:
            raise _NotPossible("it computes in fp32, or is asked to show where it is not finite")
        if promote is None:  # it was tried for another thread
            return self._run(before, call)
        try:
            outputs = self._moved(promote.load, call)
        except KeyboardInterrupt:  # of a model inside of this one: a LabError, too
            raise
        except LabError as error:
            if call.limit.over:  # until it was tried, what overflows in other threads comes here
                raise
            self._promote, self._in_vain = None, f"fp32 failed, {error.message}"
            return self._run(before, call)
        self._promote = None
        if self._overflowed(call.inputs, outputs):
            # fp16 was not at fault, and is the faster one
            self._in_vain = NOWHERE_FINITE
            self._loaded, self._meter = before, self._metered(before)
        else:
            self.promoted, self.promoted_on = True, promote.engine
            self._reload = promote.load
            self._breaker = Breaker() if promote.engine else self._breaker
        return outputs

    def _retry(self, step: Retry, call: Call) -> dict[str, Array]:
        for attempt in range(step.times):
            self._clock.sleep(min(step.delay_s * 2**attempt, call.limit.left))
            try:
                return self._run(self._loaded, call)
            except KeyboardInterrupt:
                raise
            except LabError:
                if call.limit.over or attempt == step.times - 1:
                    raise
        raise _NotPossible("no attempt was allowed")

    def _split(self, call: Call) -> dict[str, Array]:
        half = -(-rows(call.inputs) // 2)
        parts = [] if self.sizes is None else cut(call.inputs, half, self.sizes)
        if not parts or not self.batched_within(call.limit):
            raise _NotPossible("the batch cannot be split")
        return joined([(self._part(call._replace(inputs=part)), kept) for part, kept in parts])

    def _part(self, call: Call) -> dict[str, Array]:
        try:
            return self._run(self._loaded, call)
        except OutOfMemory as error:
            if call.limit.over:
                raise
            try:
                return self._split(call)
            except _NotPossible:  # the fewest rows do not fit either
                raise error from None

    def _fall_back(self, call: Call) -> dict[str, Array]:
        """The next engine that works; those that do not are out."""
        while self._alternatives:
            other = self._alternatives[0]
            promote = other.promote if self.promoted else None
            load = promote.load if promote else other.load
            try:
                outputs = self._moved(load, call)
            except (KeyboardInterrupt, NumericalError, StateLost):  # none is its fault
                raise
            except LabError:
                if call.limit.over:
                    raise
                self._alternatives.pop(0)
                if not self._alternatives:
                    raise
                continue
            self._settle(self._alternatives.pop(0), promote)
            return outputs
        raise _NotPossible("there is no other engine")

    def _settle(self, other: Alternative, promote: Promotion | None) -> None:
        """It has moved there, to its fp32 form where that is given."""
        self.fallen_back_to = (promote.engine if promote else "") or other.name
        self.fallen_back_on = other.device
        self._breaker, self._reload = Breaker(), promote.load if promote else other.load
        wanted = self._recover and not (self.promoted or self._in_vain)
        self._promote = other.promote if wanted else None
        self.promoted, self.promoted_on = promote is not None, ""

    def _incident(self, error: LabError, step: Step, outcome: str, moved: str = "") -> Incident:
        return self.report(error, type(step).__name__ + f" to {moved}" * bool(moved), outcome)

    def report(self, error: LabError, action: str, outcome: str) -> Incident:
        """Keep and tell what went wrong, and what was done about it."""
        now, kind = self._clock.now_ns(), type(error).__name__
        incident = Incident(now, kind, error.message, action, outcome)
        self.incidents.append(incident)
        self._activity.report(incident)
        return incident


class _NotPossible(LabError):
    """A step that does not apply here."""
