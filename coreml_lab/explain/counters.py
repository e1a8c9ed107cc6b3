"""What a counter grew by while a model ran (pure), or why that is not known."""

from __future__ import annotations

import numpy as np

from coreml_lab.metrics import Quantity
from coreml_lab.samples import Array, Samples

ONE = "only one reading fell into the runs: what was used lies between two"
AGAIN = "the counter began again meanwhile, or was read of two processes"
GAP = "the counter was not read for a while, and may have begun again"


def grown(samples: Samples, name: str, unit: str, *, from_start: bool) -> Quantity:
    """How much a counter that has values grew, over all recordings that were joined.

    Args:
        from_start: whether it counts from the recording's start, so that its last value is all.
    """
    values, seams = samples.readings(name)
    places = np.flatnonzero(seams)
    # A seam is no reading, and there is nothing before a first one.
    parts = [part[1:] if i else part for i, part in enumerate(np.split(values, places))]
    parts = [part for part in parts if len(part)]
    why = next((why for part in parts if (why := _doubt(part, from_start))), "")
    if why:
        return Quantity.unavailable(unit, why)
    total = sum(float(part[-1] - (0 if from_start else part[0])) for part in parts)
    how, note = samples.weakest_how(name)
    return Quantity(total, unit, how, note=note)


def _doubt(values: Array, from_start: bool) -> str:
    """Why the growth of one recording's readings is not known; empty where it is."""
    if not np.isfinite(values).all():
        return GAP
    if (np.diff(values) < 0).any():
        return AGAIN
    return ONE if len(values) == 1 and not from_start else ""
