"""What of a program, and of this processor, decides how ONNX Runtime and OpenVINO are set up."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coreml_lab.records import ProgramInfo

# Bytes of a result that make memory matter more than the time of an allocation; flexible: per one.
LARGE, LARGE_EACH = 1 << 18, 1 << 14


@dataclass(frozen=True)
class Traits:
    """How a program wants to be run.

    Attributes:
        lean: without a pattern of its memory, which is a second room for all results: 34 of CREPE's
            83 MB, and in no less time.
        integers: with exact sums of 8-bit products, where it has any but those of packed weights,
            whose digits have 7 bits (see ``saturates``).
    """

    lean: bool = False
    integers: bool = False


T = TypeVar("T")
PLAIN = Traits()
# What is wrong with a model, ONNX Runtime raises: only what is fatal is written, too.
QUIET = 4
# How ONNX Runtime is told of ``Traits.integers``. It knows where exact products make a difference
# (its pull request 12088), and takes 1.34 times as long for them there; where they share a weight
# it cannot make them (1.32: "Attempt to replace the existing tensor"), and computes in fp32.
EXACTLY = (("session.x64quantprecision", "1"), ("session.disable_quant_qdq", "1"))
# OpenVINO is told where it must compute in fp32 what is quantized.
IN_FLOATS = {"LP_TRANSFORMS_MODE": "NO"}
X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
VNNI = frozenset({"avx512_vnni", "avx_vnni"})


def traits_of(info: ProgramInfo) -> Traits:
    """What the operations of a program tell."""
    return Traits(_large(info), any(op.op == "quantize" for op in info.ops))


def _large(info: ProgramInfo) -> bool:
    """Whether a result takes ``LARGE`` bytes at least; flexible sizes count as one."""
    least = LARGE_EACH if info.dims else LARGE
    sizes = ([n for n in op.shape if isinstance(n, int)] for op in info.ops)
    return any(4 * math.prod(shape) >= least for shape in sizes)


def saturates(machine: str = "", cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether fast kernels for bytes are wrong here: on x86 without VNNI; or if that is unknown.

    They add two products of an unsigned and a signed byte in 16 bits, where they saturate.
    """
    if (machine or platform.machine()).lower() not in X86:
        return False
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return True
    flags = next((line for line in lines if line.startswith("flags")), "")
    return VNNI.isdisjoint(flags.split())


def opened_exactly(make: Callable[[tuple[str, str]], T]) -> tuple[T, tuple[str, str]]:
    """A session with exact integers, and how ONNX Runtime was told; ``make`` opens one, told so."""
    first, second = EXACTLY
    try:
        return make(first), first
    except Exception:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        return make(second), second
