"""Large arrays copied on the host by several threads, or by one where cores are busy."""

from __future__ import annotations

from math import inf
from typing import Any

from coreml_lab.clock import SYSTEM, Clock

# A team that takes so many times what one thread takes is not worth having. It is as slow as its
# slowest thread: where four other threads kept two cores busy, ten pieces of 2 MB took it 121 ms,
# and one thread 2 ms; on 16 cores that others used, 80 ms and 3.
SLOW = 2.0
# So many times what was lost one thread then copies alone, twice as long after each further loss.
SHORT, LONG = 1, 64
# One thread begins, with so many copies.
FIRST = 4


class Team:
    """Copies between tensors of the host: by PyTorch's threads while they are no slower than one.

    Threads that copy at the same time may count wrongly: then one of them copies in the other way,
    no worse.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._begun, self._longer = 0, SHORT
        self._rest_ns = 0.0
        # Of one thread: the least in its latest turns.
        self._ns_per_byte = inf

    def copy(self, target: Any, source: Any) -> None:
        """Copy a tensor that is contiguous to another of its type and shape."""
        start = self._clock.now_ns()
        alone = self._begun < FIRST or self._rest_ns > 0
        if alone:
            target.numpy()[...] = source.numpy()
        else:
            target.copy_(source)
        self._learn(self._clock.now_ns() - start, target.nbytes, alone=alone)

    def _learn(self, took_ns: int, size: int, *, alone: bool) -> None:
        if alone:
            self._begun += 1
            self._rest_ns -= took_ns
            self._ns_per_byte = min(self._ns_per_byte, took_ns / size)
            return
        lost = took_ns - self._ns_per_byte * size
        if took_ns <= SLOW * self._ns_per_byte * size:
            self._longer = SHORT
        else:
            self._rest_ns, self._ns_per_byte = self._longer * lost, inf
            self._longer = min(2 * self._longer, LONG)


TEAM = Team()
