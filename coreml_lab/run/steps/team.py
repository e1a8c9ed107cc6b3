"""Large arrays copied on the host by several threads, or by one where cores are busy."""

from __future__ import annotations

from math import inf
from typing import Any

from coreml_lab.clock import SYSTEM, Clock

# A team that takes so many times what one thread takes is not worth having. It is as slow as its
# slowest thread: where four other threads kept two cores busy, ten pieces of 2 MB took it 121 ms,
# and one thread 2 ms; on 16 cores that others used, 80 ms and 3.
SLOW = 2.0
# So many copies are then made by one thread, twice as many after each further disappointment.
REST, LONGEST = 16, 4096


class Team:
    """Copies between tensors of the host: by PyTorch's threads while they are no slower than one.

    One thread begins, and is timed. Threads that copy at the same time may count wrongly: then one
    of them copies in the other way, no worse.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._rest = self._left = REST
        # Of one thread: the least in its latest turns.
        self._ns_per_byte = inf

    def copy(self, target: Any, source: Any) -> None:
        """Copy a tensor that is contiguous to another of its type and shape."""
        start = self._clock.now_ns()
        alone = self._left > 0
        if alone:
            target.numpy()[...] = source.numpy()
        else:
            target.copy_(source)
        took = (self._clock.now_ns() - start) / target.nbytes
        if alone:
            self._left -= 1
            self._ns_per_byte = min(self._ns_per_byte, took)
        elif took > SLOW * self._ns_per_byte:
            self._left, self._ns_per_byte = self._rest, inf
            self._rest = min(2 * self._rest, LONGEST)
        else:
            self._rest = REST


TEAM = Team()
