"""Run a loaded program, count what ran, and recover by the table of ``recovery``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import ExecutionError, LabError
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.records import Incident, Run
from coreml_lab.run.activity import ACTIVITY, Activity
from coreml_lab.run.engine import Batching, Loaded
from coreml_lab.run.recovery import Fallback, Retry, SplitBatch, Step, steps
from coreml_lab.run.state import State

Arrays = Mapping[str, Array]
# An engine to fall back to: its name, and what loads the program there.
Alternative = tuple[str, Callable[[], Loaded]]


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
        batched: bool = False,
        recover: bool = True,
        clock: Clock = SYSTEM,
        activity: Activity = ACTIVITY,
    ) -> None:
        self.name = name
        self._loaded = loaded
        self._alternatives = list(alternatives)
        self.batched = batched
        self._recover = recover
        self._clock = clock
        self._activity = activity

    @property
    def states(self) -> Mapping[str, TensorType]:
        """What the program remembers from run to run."""
        return self._loaded.states

    def make_state(self) -> State:
        """New contents, all zero, for the states of the program."""
        return self._loaded.make_state()

    def run(self, inputs: Arrays, state: State | None = None) -> dict[str, Array]:
        """One inference; on failure the policy's steps in order.

        Raises:
            ExecutionError: when every step failed; ``.incidents`` tells the story.
            Interrupted: when the user stopped it.
        """
        start = time.monotonic_ns()
        try:
            outputs = _run(self._loaded, inputs, state)
        except LabError as error:
            outputs = self._recovered(error, inputs, state)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error
        duration = time.monotonic_ns() - start
        self._activity.finished.append((start, duration))
        self._activity.total += 1
        return outputs

    def run_batch(self, batch: Sequence[Arrays]) -> list[dict[str, Array]]:
        """Several inferences: at once where the engine takes them so, else one after the other.

        Raises:
            ExecutionError: as ``run`` does.
        """
        if not isinstance(self._loaded, Batching) or len(batch) < 2:  # noqa: PLR2004 - no batch
            return [self.run(inputs) for inputs in batch]
        start = time.monotonic_ns()
        try:
            outputs = self._loaded.run_batch(batch)
        except LabError as error:
            return self._one_by_one(error, batch)
        except KeyboardInterrupt as error:
            raise self._interrupted(start) from error
        # Core ML tells no more than the time of all: each has an equal share.
        share = (time.monotonic_ns() - start) // len(batch)
        self._activity.finished.extend((start + i * share, share) for i in range(len(batch)))
        self._activity.total += len(batch)
        return outputs

    def _one_by_one(self, error: LabError, batch: Sequence[Arrays]) -> list[dict[str, Array]]:
        if not self._recover or not steps(error):
            raise error
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

    def _recovered(self, error: LabError, inputs: Arrays, state: State | None) -> dict[str, Array]:
        plan = steps(error)
        if not self._recover or not plan:
            raise error
        incidents: list[Incident] = []
        for step in plan:
            try:
                outputs = self._attempt(step, inputs, state)
            except LabError as again:
                if not isinstance(again, _NotPossible):
                    incidents.append(self._incident(error, step, f"failed: {again.message}"))
                continue
            incidents.append(self._incident(error, step, "recovered"))
            return outputs
        if not incidents:
            raise error
        tried = ", ".join(i.action for i in incidents)
        raise ExecutionError(
            f"{self.name}: {error.message}; recovery failed ({tried})",
            incidents=tuple(incidents),
            hint=error.hint or "cl.configure(recover=False) shows the first error alone",
        ) from error

    def _attempt(self, step: Step, inputs: Arrays, state: State | None) -> dict[str, Array]:
        if isinstance(step, Retry):
            return self._retry(step, inputs, state)
        if not isinstance(step, SplitBatch):
            return self._fall_back(inputs, state)
        if state is not None:
            raise _NotPossible("the halves of a batch would each change the state")
        return self._split(inputs)

    def _retry(self, step: Retry, inputs: Arrays, state: State | None) -> dict[str, Array]:
        for attempt in range(step.times):
            self._clock.sleep(step.delay_s * 2**attempt)
            try:
                return _run(self._loaded, inputs, state)
            except LabError:
                if attempt == step.times - 1:
                    raise
        raise _NotPossible("no attempt was allowed")

    def _split(self, inputs: Arrays) -> dict[str, Array]:
        size = min((a.shape[0] for a in inputs.values() if a.ndim), default=0)
        if not self.batched or size < 2:  # noqa: PLR2004 - one item cannot be halved
            raise _NotPossible("the batch cannot be split")
        parts = [
            {k: a[lo:hi] for k, a in inputs.items()}
            for lo, hi in ((0, size // 2), (size // 2, size))
        ]
        results = []
        for part in parts:
            try:
                results.append(self._loaded.run(part))
            except LabError:
                results.append(self._split(part))
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}

    def _fall_back(self, inputs: Arrays, state: State | None) -> dict[str, Array]:
        if not self._alternatives:
            raise _NotPossible("there is no other engine")
        name, load = self._alternatives.pop(0)
        loaded = load()
        outputs = _run(loaded, inputs, state)
        self._loaded, self.fallen_back_to = loaded, name
        return outputs

    fallen_back_to = ""

    def _incident(self, error: LabError, step: Step, outcome: str) -> Incident:
        action = type(step).__name__ + (
            f" to {self.fallen_back_to}"
            if isinstance(step, Fallback) and self.fallen_back_to
            else ""
        )
        incident = Incident(
            self._clock.now_ns(), type(error).__name__, error.message, action, outcome
        )
        self._activity.report(incident)
        return incident


def _run(loaded: Loaded, inputs: Arrays, state: State | None) -> dict[str, Array]:
    return loaded.run(inputs) if state is None else loaded.run(inputs, state)


class _NotPossible(LabError):
    """A step that does not apply here."""
