"""assert_no_regression(): fails where a recording is surely slower than its baseline."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

from coreml_lab.errors import LabError, ModelError, RegressionFound
from coreml_lab.explain.changes import Change, Changes, circumstances, diff_recordings
from coreml_lab.explain.units import show
from coreml_lab.improve.limits import Decision, decide
from coreml_lab.metrics import Quantity
from coreml_lab.records import Recording

# What must be the same on both sides, or their ratio says nothing of the program.
SAME = ("engine", "device", "runs on", "processor", "machine", "cores")
# What stands there where the system does not tell: two of them may be two machines.
UNKNOWN = frozenset({"", "unknown", "None"})
# Operations that are named in an error.
NAMED = 5


def assert_no_regression(
    recording: Recording,
    baseline: Recording | str | os.PathLike[str],
    *,
    max_ratio: float = 1.1,
    max_op_ratio: float | None = None,
    strict: bool = False,
    any_machine: bool = False,
) -> Changes:
    """Fail where an inference takes surely more time than the baseline's, times ``max_ratio``.

    The interval of the ratio decides, as in ``cl.check``: all of it above the limit is a
    regression, all of it below is none; a limit inside the interval passes (``strict``: fails).

    Args:
        recording: of the version that is tested.
        baseline: of the version that it is compared with, or its file.
        max_ratio: most time of an inference (median), divided by the baseline's.
        max_op_ratio: the same for each operation that both have, of which there must be one; none
            is asked about by default.
        strict: whether what noise leaves open fails, too.
        any_machine: whether recordings of different machines or engines may be compared.

    Returns:
        What changed, for a person to read.

    Raises:
        RegressionFound: where a limit is exceeded. It is an ``AssertionError``, too.
        ModelError: where the recordings are of different machines, or of machines that are not
            known to be one, or runs too few to tell.
    """
    _limit("max_ratio", max_ratio)
    if max_op_ratio is not None:
        _limit("max_op_ratio", max_op_ratio)
    before = baseline if isinstance(baseline, Recording) else Recording.load(baseline)
    changes = diff_recordings(before, recording)
    if not any_machine:
        _same_machine(before, recording)
    middle = changes.latency[0]
    if decided(middle.ratio, max_ratio) is Decision.UNCHECKED:
        raise ModelError(
            f"whether {changes.name} got slower cannot be told: {_untold(middle.ratio)}",
            hint="record 20 runs or more: cl.profile(model, inputs, runs=50)",
        )
    ops = _asked(changes, max_op_ratio)
    failed = list(_failed([(middle, max_ratio), *ops], strict=strict))
    if failed:
        raise RegressionFound(
            f"{changes.name} got slower than its baseline\n" + "\n".join(failed),
            hint="print(cl.diff_recordings(baseline, recording)) shows everything that changed",
        )
    _all_checked(ops)
    return changes


def decided(ratio: Quantity, limit: float) -> Decision:
    """What the interval of a ratio says about a limit."""
    if ratio.low is None or ratio.high is None:
        return Decision.UNCHECKED
    return decide(ratio.low, ratio.high, limit)


def _limit(name: str, limit: float) -> None:
    if not (limit > 0 and math.isfinite(limit)):
        raise LabError(f"{name}={limit}: a ratio is above 0 and finite", hint=f"{name}=1.1")


def _asked(changes: Changes, limit: float | None) -> list[tuple[Change, float]]:
    """The operations that both have, where they are asked about, with their limit."""
    if limit is None:
        return []
    # What took no time that could be measured on either side is no slower.
    both = [op for op in changes.ops if op.both and (op.before.value or op.after.value)]
    if not both:
        raise ModelError(
            f"whether operations of {changes.name} got slower cannot be told: "
            "no operation was timed in both recordings",
            hint="record both with spans: cl.profile(model, inputs, spans=True)",
        )
    return [(op, limit) for op in both]


def _all_checked(asked: Sequence[tuple[Change, float]]) -> None:
    """An operation of which nothing can be told is no pass, as an inference is not."""
    rows = [op for op, limit in asked if decided(op.ratio, limit) is Decision.UNCHECKED]
    if rows:
        told = [f"{op.name} ({op.kind}): {_untold(op.ratio)}" for op in rows[:NAMED]]
        more = [f"and {len(rows) - NAMED} more"] if len(rows) > NAMED else []
        raise ModelError(
            f"whether operations got slower cannot be told: {'; '.join(told + more)}",
            hint="record 10 runs or more on a quiet machine: cl.profile(model, inputs, runs=50)",
        )


def _untold(ratio: Quantity) -> str:
    if ratio.low is None:
        return ratio.note or "there are too few runs for an interval"
    return f"the runs are too noisy, {show(ratio)}"


def _failed(asked: list[tuple[Change, float]], *, strict: bool) -> Iterator[str]:
    fatal = {Decision.FAIL, Decision.OPEN} if strict else {Decision.FAIL}
    for row, limit in asked:
        decision = decided(row.ratio, limit)
        if decision in fatal:
            what = f"{row.name} ({row.kind})" if row.kind else f"{row.name} of inferences"
            sides = f"{show(row.before)} before, {show(row.after)} after"
            yield f"  {what}: {show(row.ratio)} > {limit:g} ×, {decision.value} ({sides})"


def _same_machine(before: Recording, after: Recording) -> None:
    sides = circumstances(before), circumstances(after)
    told = []
    for what in SAME:
        a, b = (side.get(what, "") for side in sides)
        if a != b:
            told.append(f"{what} {a or 'unknown'} and {b or 'unknown'}")
        elif a in UNKNOWN:
            told.append(f"{what} unknown in both")
    if told:
        raise ModelError(
            f"the recordings are not known to be of one machine: {'; '.join(told)}",
            hint="record the baseline here, or say any_machine=True",
        )
