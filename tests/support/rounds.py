"""Rounds of arms on made-up noise, and what a comparison says of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.explain.comparison_rows import intervals, throughput, timed
from coreml_lab.measure.rounds import Round, Turn, shared_confidence

ROUNDS, RUNS = 20, 10


def simulated(rng: Any, arms: int, ratio: float = 1.0) -> list[Round]:
    """Rounds of several arms; the last takes ``ratio`` of the time of the others."""
    found = []
    for index in range(ROUNDS):
        drift = 1 + 0.3 * np.sin(index / 5) + 0.02 * index
        turns = []
        for arm in range(arms):
            size = 4e6 * drift * (ratio if arm == arms - 1 else 1.0)
            shared = rng.lognormal(0, 0.03) * (1.5 if rng.random() < 0.05 else 1.0)
            each = size * shared * rng.lognormal(0, 0.05, RUNS)
            busy = int(each.mean() * rng.lognormal(0.5, 0.05))
            turns.append(Turn(tuple(int(t) for t in each), int(each.mean()), busy))
        found.append(tuple(turns))
    return found


def verdicts(rounds: list[Round], arms: int) -> list[str]:
    """Everything that is said of all arms against the first, sharing the error."""
    confidence = shared_confidence(intervals(arms - 1, 1))
    rows = [
        row
        for arm in range(1, arms)
        for row in (
            *timed(rounds, arm, 0, confidence),
            throughput(rounds, 1, arm, 0, confidence),
        )
    ]
    return [row.verdict for row in rows]
