"""Long rows of readings, shortened so that no peak is lost. Pure."""

from __future__ import annotations

import numpy as np

from coreml_lab.samples import Array


def kept(values: Array, most: int) -> Array:
    """Places of at most ``most`` values: the lowest and the highest of each stretch, in order."""
    if len(values) <= most:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), max(1, most // 2))
    ends = ({s[values[s].argmin()], s[values[s].argmax()]} for s in stretches)
    return np.array([place for pair in ends for place in sorted(pair)])


def strided(values: Array, most: int) -> Array:
    """At most ``most`` values at equal distances: a sample of them that favours no value."""
    return values[:: -(-len(values) // most)] if len(values) > most else values
