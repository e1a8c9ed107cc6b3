"""What of a program decides how ONNX Runtime is set up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coreml_lab.records import ProgramInfo

# Bytes of a result that make memory matter more than the time of an allocation; flexible: per one.
LARGE, LARGE_EACH = 1 << 18, 1 << 14


@dataclass(frozen=True)
class Traits:
    """How a program wants to be run.

    Attributes:
        lean: without a pattern of its memory, which is a second room for all results: 34 of CREPE's
            83 MB, and in no less time.
        integers: with exact sums of 8-bit products. On x86 without VNNI, ONNX Runtime's fast
            kernels add two products of unsigned and signed bytes in 16 bits, where they saturate;
            exact ones take 1.34 times as long there, and others have no need of them: the digits of
            packed weights have 7 bits. (Its pull request 12088.)
    """

    lean: bool = False
    integers: bool = False


PLAIN = Traits()
# How ONNX Runtime is told of ``Traits.integers``.
EXACT_INTEGERS = ("session.x64quantprecision", "1")


def traits_of(info: ProgramInfo) -> Traits:
    """What the operations of a program tell."""
    return Traits(_large(info), any(op.op == "quantize" for op in info.ops))


def _large(info: ProgramInfo) -> bool:
    """Whether a result takes ``LARGE`` bytes at least; flexible sizes count as one."""
    least = LARGE_EACH if info.dims else LARGE
    sizes = ([n for n in op.shape if isinstance(n, int)] for op in info.ops)
    return any(4 * math.prod(shape) >= least for shape in sizes)
