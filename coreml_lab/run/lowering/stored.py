"""A weight as linear quantization stores it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from coreml_lab.program.graph import Array

NIBBLE, BYTE = 4, 8
# The longest block that MatMulNBits is given.
LONGEST = 128


@dataclass(frozen=True)
class Weight:
    """``scale * (numbers - zero)``: a row for each output, a scale and zero for each of its blocks.

    Attributes:
        numbers: int8 or uint8 [outputs, inputs].
        scale: fp32 [outputs, blocks].
        zero: integers [outputs, blocks].
    """

    numbers: Array
    scale: Array
    zero: Array

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        return int(self.numbers.shape[1] // self.scale.shape[1])

    @property
    def step(self) -> int:
        """The block of MatMulNBits: the largest power of two that divides ours, up to a limit."""
        return min(self.block & -self.block, LONGEST)

    @property
    def shift(self) -> int:
        """What makes the numbers unsigned."""
        return (1 << (self.bits - 1)) if self.numbers.dtype.kind == "i" else 0

    @functools.cached_property
    def bits(self) -> int:
        """4 where all numbers and zeros fit, else 8."""
        low = -(1 << (NIBBLE - 1)) if self.numbers.dtype.kind == "i" else 0
        ends = [f(a) for a in (self.numbers, self.zero) for f in (np.min, np.max)]
        return NIBBLE if low <= min(ends) and max(ends) < low + (1 << NIBBLE) else BYTE
