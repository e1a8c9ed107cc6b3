"""assert_no_regression(): fails where a recording is surely slower than its baseline."""

from __future__ import annotations

import os
from collections.abc import Iterator

from coreml_lab.errors import LabError, ModelError, RegressionFound
from coreml_lab.explain.changes import Change, Changes, diff_recordings
from coreml_lab.explain.units import show
from coreml_lab.improve.limits import Decision, decide
from coreml_lab.metrics import Quantity
from coreml_lab.records import Recording

# What must be the same on both sides, or their ratio says nothing of the program.
SAME = ("engine", "device", "processor")


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
        max_op_ratio: the same for each operation that both have; none is asked about by default.
        strict: whether what noise leaves open fails, too.
        any_machine: whether recordings of different machines or engines may be compared.

    Returns:
        What changed, for a person to read.

    Raises:
        RegressionFound: where a limit is exceeded. It is an ``AssertionError``, too.
        ModelError: where the recordings are of different machines, or runs too few to tell.
    """
    if not max_ratio > 0:
        raise LabError(f"max_ratio={max_ratio}: a ratio is above 0", hint="max_ratio=1.1")
    before = baseline if isinstance(baseline, Recording) else Recording.load(baseline)
    changes = diff_recordings(before, recording)
    if not any_machine:
        _same_machine(changes)
    middle = changes.latency[0]
    if decided(middle.ratio, max_ratio) is Decision.UNCHECKED:
        raise ModelError(
            f"whether {changes.name} got slower cannot be told: {_untold(middle.ratio)}",
            hint="record 20 runs or more: cl.profile(model, inputs, runs=50)",
        )
    asked = [(middle, max_ratio)]
    asked += [(op, max_op_ratio) for op in changes.ops if max_op_ratio is not None]
    failed = list(_failed(asked, strict=strict))
    if failed:
        raise RegressionFound(
            f"{changes.name} got slower than its baseline\n" + "\n".join(failed),
            hint="print(cl.diff_recordings(baseline, recording)) shows everything that changed",
        )
    return changes


def decided(ratio: Quantity, limit: float) -> Decision:
    """What the interval of a ratio says about a limit."""
    if ratio.low is None or ratio.high is None:
        return Decision.UNCHECKED
    return decide(ratio.low, ratio.high, limit)


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


def _same_machine(changes: Changes) -> None:
    told = [f"{what} {a} and {b}" for what, a, b in changes.environment if what in SAME]
    if told:
        raise ModelError(
            f"the recordings are not of one machine: {'; '.join(told)}",
            hint="record the baseline here, or say any_machine=True",
        )
