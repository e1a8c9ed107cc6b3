"""An estimate of CPU power from CPU time, where no counter exists: always an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from coreml_lab.errors import InputError
from coreml_lab.metrics import Provenance
from coreml_lab.probes.process import cpu_seconds
from coreml_lab.probes.protocol import Channel, Rate, Target


class ModelledProbe:
    """Busy cores of the process times what a busy core is said to draw, at least and at most."""

    name = "modelled"
    metrics = ("coreml_lab.power.cpu.low", "coreml_lab.power.cpu.high")
    period = 0.0

    def open(self, target: Target) -> tuple[Channel, ...]:
        """Take the bounds."""
        self._bounds = target.core_watts
        self._cpu_seconds = cpu_seconds(target)
        self._rate = Rate()
        low, high = self._bounds
        note = f"estimate: {low:g} to {high:g} W per busy core of this process; no counter was read"
        return tuple(Channel(metric, Provenance.ESTIMATED, note) for metric in self.metrics)

    def read(self, now_ns: int) -> Sequence[float]:
        """Watts, lower and upper edge."""
        cores = self._rate.of(self._cpu_seconds(), now_ns)
        low, high = self._bounds
        return cores * low, cores * high


def parse_watts(text: str) -> tuple[float, float]:
    """The bounds that a setting such as ``"2-8"`` stands for.

    Raises:
        InputError: where it is not two numbers, the first the smaller.
    """
    low, dash, high = text.partition("-")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = math.nan, math.nan
    if dash and 0 <= bounds[0] < bounds[1] < math.inf:
        return bounds
    raise InputError(
        f"core_watts={text!r} is not an interval of watts",
        hint='give the least and the most a busy core draws, for example core_watts="2-8"',
    )
