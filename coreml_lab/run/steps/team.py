"""Large arrays copied on the host by several threads, or in another way where cores are busy."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from coreml_lab.clock import SYSTEM, Clock

# A team that takes so many times what one thread takes is not worth having. It is as slow as its
# slowest thread: where four other threads kept two cores busy, ten pieces of 2 MB took it 121 ms,
# and one thread 2 ms; on 16 cores that others used, 80 ms and 3.
SLOW = 2.0
# It then rests for so many times what was lost, twice as long after each further loss. One loss may
# be chance, and copying alone takes three times as long: four times was too long a rest for it.
SHORT, LONG = 1, 64
# It begins with so many copies of others.
FIRST = 4


class Team:
    """Copies between tensors of the host by PyTorch's threads, while they are no slower than one.

    Threads that copy at the same time may count wrongly: then one of them copies in the other way,
    no worse.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._begun, self._longer = 0, SHORT
        self._rest_ns = 0.0
        # Of the others: the least in its latest turns.
        self._ns_per_byte = inf

    @property
    def rests(self) -> bool:
        """Whether somebody else is to copy now."""
        return self._begun < FIRST or self._rest_ns > 0

    def copy(self, target: Any, source: Any) -> None:
        """Copy a tensor that is contiguous to another of its type and shape."""
        if self.rests:
            self.instead(target.nbytes, lambda: np.copyto(target.numpy(), source.numpy()))
            return
        start = self._clock.now_ns()
        target.copy_(source)
        self._learn(self._clock.now_ns() - start, target.nbytes)

    def instead(self, size: int, copy: Callable[[], object]) -> None:
        """Have somebody else copy so many bytes; how fast that is the team is compared with."""
        start = self._clock.now_ns()
        copy()
        took = self._clock.now_ns() - start
        self._begun += 1
        self._rest_ns -= took
        self._ns_per_byte = min(self._ns_per_byte, took / size)

    def _learn(self, took_ns: int, size: int) -> None:
        lost = took_ns - self._ns_per_byte * size
        if took_ns <= SLOW * self._ns_per_byte * size:
            self._longer = SHORT
        else:
            self._rest_ns, self._ns_per_byte = self._longer * lost, inf
            self._longer = min(2 * self._longer, LONG)


TEAM = Team()
