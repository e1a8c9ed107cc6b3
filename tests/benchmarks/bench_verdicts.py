"""How often a comparison claims a difference: where there is none, and where there is one.

Made-up noise with drift, shared disturbances and turns that are hit as a whole (see
``tests/support/rounds``); 20 rounds of 10 runs. Without a difference, one comparison in twenty may
claim one, whatever the number of its arms: the share is printed with its 95 % interval (Wilson).
Targets: at most 5 % without a difference (the interval must not lie above it); with a tenth less
time, at least 80 % say so.
"""

from __future__ import annotations

import sys

import numpy as np

from coreml_lab.explain.agreement import share
from tests.support.rounds import simulated, verdicts

TRIALS, ALLOWED = 1000, 0.05
# A tenth less time, and in how many comparisons it must be seen.
LESS, WANTED = 0.9, 0.8


def claims(arms: int, ratio: float, seed: int) -> tuple[int, int]:
    """In how many trials anything is claimed, and in how many of the last arm's latency."""
    rng = np.random.default_rng(seed)
    any_, last = 0, 0
    for _ in range(TRIALS):
        said = [v.startswith(("less", "more")) for v in verdicts(simulated(rng, arms, ratio), arms)]
        any_ += any(said)
        last += said[4 * (arms - 2)]
    return any_, last


def main() -> int:
    """Two and five arms without a difference, three with one."""
    met = []
    for arms in (2, 5):
        found = share(claims(arms, 1.0, arms)[0], TRIALS)
        met.append(found.low is not None and found.low <= ALLOWED)
        print(
            f"{arms} arms, no difference: {100 * found.value:.1f} % of {TRIALS} comparisons "
            f"claim one [{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}]"
            f"  target <= {100 * ALLOWED:g} %: {'met' if met[-1] else 'MISSED'}",
            flush=True,
        )
    for ratio in (0.98, 0.95, LESS):
        seen = share(claims(3, ratio, 7)[1], TRIALS)
        line = f"3 arms, one takes {ratio:g} of the time: {100 * seen.value:.1f} % say so"
        if ratio <= LESS:
            met.append(seen.value >= WANTED)
            line += f"  target >= {100 * WANTED:g} %: {'met' if met[-1] else 'MISSED'}"
        print(line, flush=True)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
