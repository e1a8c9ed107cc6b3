"""Rules about how a model is used, seen in a recording."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from coreml_lab.explain.suggestion import MEDIUM, NE, Seen, Suggestion, rule
from coreml_lab.explain.units import show
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.records import Run

MEASURED = Provenance.MEASURED
# Calls shorter than this are mostly their own cost on the Neural Engine.
SHORT = 1e-3
# Runs closer together than this, relative to their length, are a loop.
CLOSE = 0.5
MANY = 50
# The Neural Engine's clock has gone down after a pause of this many seconds.
PAUSE = 0.1


@rule
def small_calls_in_a_loop(seen: Seen) -> Suggestion | None:
    """Many short predictions, one after the other."""
    runs = _plain(seen)
    if len(runs) < MANY:
        return None
    took = median(r.duration_ns for r in runs) / 1e9
    between = median(_gaps(runs))
    if took >= SHORT or between > CLOSE * took:
        return None
    return Suggestion(
        rule="small_calls_in_a_loop",
        title="Do more in one call",
        why="A call has a cost of its own: 0.1 to 0.25 ms on the Neural Engine.",
        evidence=(
            (
                f"{len(runs)} runs of {show(Quantity(took, 's', MEASURED))} each, with "
                f"{show(Quantity(max(between, 0.0), 's', MEASURED))} in between."
            ),
        ),
        gain=Quantity.unavailable("s", "it depends on how many can be joined"),
        advice="give a batch, join requests with cl.Scheduler, or unroll the loop in the network",
        sources=("FLUID", "MADERIX", "751K"),
        verify="inferences per second before and after",
    )


@rule
def pauses_between_calls(seen: Seen) -> Suggestion | None:
    """Predictions with pauses in between, after which the first is slower."""
    runs = _plain(seen)
    if len(runs) < 10:  # noqa: PLR2004 - fewer show no habit
        return None
    gaps = _gaps(runs)
    if median(gaps) < PAUSE:
        return None
    return Suggestion(
        rule="pauses_between_calls",
        title="Keep the processor awake where every call must be fast",
        why="After some tenths of a second of rest, clocks go down and the next call takes longer.",
        evidence=(f"{show(Quantity(median(gaps), 's', MEASURED))} lie between two runs.",),
        gain=Quantity.unavailable("s", "only the device can tell"),
        advice="call it once shortly before it is needed; where energy counts more, leave it so",
        target=NE,
        confidence=MEDIUM,
        sources=("751K", "ANE-GUIDE"),
        risk="energy",
        verify="the first call after a pause, with and without",
    )


def _plain(seen: Seen) -> list[Run]:
    runs = seen.recording.runs if seen.recording is not None else ()
    return [r for r in runs if not r.instrumented]


def _gaps(runs: list[Run]) -> list[float]:
    return [(b.start_ns - a.start_ns - a.duration_ns) / 1e9 for a, b in pairwise(runs)]
