"""Sliding windows: the padding and size rules that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array

Ints = Sequence[int] | None
Pads = list[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """How a kernel slides over one to three sizes; the parameters are MIL's."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pad_type: str
    pad: tuple[int, ...]
    ceil_mode: bool

    @staticmethod
    def of(
        kernel: Sequence[int],
        *,
        strides: Ints,
        pad_type: str,
        pad: Ints,
        dilations: Ints = None,
        ceil_mode: bool = False,
    ) -> Window:
        """With MIL's defaults where nothing is given."""
        steps, spread, border = (
            tuple(default if given is None else map(int, given))
            for given, default in (
                (strides, [1] * len(kernel)),
                (dilations, [1] * len(kernel)),
                (pad, [0] * 2 * len(kernel)),
            )
        )
        return Window(tuple(kernel), steps, spread, pad_type.lower(), border, bool(ceil_mode))

    @property
    def extent(self) -> tuple[int, ...]:
        """Elements the dilated kernel spans per size: ``(k - 1) * d + 1``."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def same(self) -> bool:
        """Whether the padding follows from the sizes."""
        return self.pad_type in {"same", "same_lower"}

    @property
    def auto_pad(self) -> str:
        """ONNX's name for its kind of ``same``."""
        return "SAME_UPPER" if self.pad_type == "same" else "SAME_LOWER"

    def pads(self, sizes: Sequence[Any]) -> Pads:
        """Elements added (before, after) each size.

        ``same`` makes ``ceil(size / stride)`` windows; the odd element comes after, with
        ``same_lower`` before. A flexible size must not matter (see ``flexible``).
        """
        if not self.same:
            pairs = zip(self.pad[::2], self.pad[1::2], strict=True)
            return list(pairs) if self.pad_type == "custom" else [(0, 0)] * len(self.kernel)
        known = [n if isinstance(n, int) else 1 for n in sizes]
        each = zip(known, self.extent, self.strides, strict=True)
        totals = [max(0, (-(-n // s) - 1) * s + e - n) for n, e, s in each]
        halves = [(t // 2, t - t // 2) for t in totals]
        return halves if self.pad_type == "same" else [(high, low) for low, high in halves]

    def flexible(self, sizes: Sequence[Any]) -> bool:
        """Whether the padding needs a size that is not known yet (with stride 1 it does not)."""
        each = zip(sizes, self.strides, strict=True)
        return self.same and any(not isinstance(n, int) and s > 1 for n, s in each)

    def counts(self, sizes: Sequence[int]) -> list[int]:
        """Number of windows along each size, by MIL's rule."""
        each = zip(sizes, self.pads(sizes), self.extent, self.strides, strict=True)
        return [self._count(n, sum(pads), e, s) for n, pads, e, s in each]

    def _count(self, size: int, pad: int, extent: int, stride: int) -> int:
        if not self.ceil_mode:
            return (size + pad - extent) // stride + 1
        count = (size + pad - extent + stride - 1) // stride + 1
        # A window that would start in the padding behind is dropped, as in PyTorch.
        return count - 1 if pad > 0 and (count - 1) * stride >= size + pad / 2 else count

    def overhang(self, sizes: Sequence[int]) -> Pads:
        """Elements (0, after) by which the last windows reach beyond the padded input."""
        each = zip(
            self.counts(sizes), self.strides, self.extent, sizes, self.pads(sizes), strict=True
        )
        return [(0, max(0, (c - 1) * s + e - n - sum(pads))) for c, s, e, n, pads in each]

    def border(self, sizes: Sequence[int]) -> Pads:
        """Padding and overhang together."""
        each = zip(self.pads(sizes), self.overhang(sizes), strict=True)
        return [(low, high + more) for (low, high), (_, more) in each]

    def view(self, x: Array, fill: float = 0) -> Array:
        """Every window of ``x``, [n, channels, *positions, *kernel], with ``fill`` around it."""
        padded = extended(x, self.border(x.shape[2:]), fill)
        steps = [slice(None, None, s) for s in (*self.strides, *self.dilations)]
        places = [slice(0, c) for c in self.counts(x.shape[2:])]
        every = sliding(padded, self.extent)[(slice(None), slice(None), *steps)]
        return every[(slice(None), slice(None), *places)]


def sliding(x: Array, extent: Sequence[int]) -> Array:
    """A view of all windows of ``x``, [n, channels, *positions, *extent]."""
    spatial = tuple(range(2, x.ndim))
    make: Any = np.lib.stride_tricks.sliding_window_view
    return np.asarray(make(x, tuple(extent), axis=spatial))


def extended(x: Array, pads: Pads, fill: float = 0) -> Array:
    """``x`` with its sizes (all but the first two) padded."""
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill) if any(map(any, pads)) else x


def torch_pad(t: Any, x: Any, pads: Pads, fill: float = 0) -> Any:
    """The sizes of a torch tensor padded, or cropped where negative."""
    flat = [p for pair in reversed(pads) for p in pair]
    return t.nn.functional.pad(x, flat, value=fill) if any(flat) else x


def onnx_pads(pads: Pads) -> list[int]:
    """All that comes before, then all that comes after: ONNX's order."""
    return [low for low, _ in pads] + [high for _, high in pads]
