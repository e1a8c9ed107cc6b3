"""One op per family: the portable engine against NumPy and torch, in turns.

Blocks of calls in random order; ratio = ours / theirs, the median with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its customary name

import coreml_lab as cl
from coreml_lab.measure.paired import interleave, ratio

PAIRS, CALLS = 20, 5
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    """Standard normals as float32."""
    return RNG.standard_normal(shape, np.float32)


IMAGE, KERNEL, SQUARE, WIDE = (
    normal(1, 64, 56, 56),
    normal(64, 64, 3, 3),
    normal(512, 512),
    normal(64, 4096),
)


def numpy_conv(x: Any) -> Any:
    """A 3x3 convolution as one matrix product over windows."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.tensordot(windows, KERNEL, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def numpy_pool(x: Any) -> Any:
    """2x2 maxima."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def numpy_softmax(x: Any) -> Any:
    """Shares along the last dimension."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# Family, op, input, ours, NumPy's, torch's.
CASES: tuple[tuple[str, Any, Callable[..., Any], Callable[..., Any], Callable[..., Any]], ...] = (
    ("activation: softmax", WIDE, cl.ops.softmax, numpy_softmax, lambda x: F.softmax(x, -1)),
    (
        "activation: gelu",
        WIDE,
        lambda x: cl.ops.gelu(x, mode="TANH_APPROXIMATION"),
        lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    (
        "matmul 512x512",
        SQUARE,
        lambda x: cl.ops.matmul(x, x),
        lambda x: x @ x,
        lambda x: x @ x,
    ),
    (
        "conv 3x3, 64 to 64, 56x56",
        IMAGE,
        lambda x: cl.ops.conv2d(x, KERNEL, padding=1),
        numpy_conv,
        lambda x: F.conv2d(x, torch.from_numpy(KERNEL), padding=1),
    ),
    (
        "pool: 2x2 maxima",
        IMAGE,
        lambda x: cl.ops.max_pool2d(x, 2),
        numpy_pool,
        lambda x: F.max_pool2d(x, 2),
    ),
    (
        "reduction: mean over 2 axes",
        IMAGE,
        lambda x: cl.ops.reduce_mean(x, axes=[2, 3]),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean((2, 3)),
    ),
)


def repeated(work: Callable[[], Any]) -> Callable[[], None]:
    """Several calls, so that a block is not lost in the clock's noise."""

    def block() -> None:
        for _ in range(CALLS):
            work()

    return block


def main() -> None:
    """Print a line per case."""
    for label, data, ours, numpy, other in CASES:
        model = cl.compile(ours, x=cl.spec(*data.shape), name="case")
        tensor = torch.from_numpy(data)
        got = next(iter(model.predict({"x": data}).values()))
        np.testing.assert_allclose(got, numpy(data), rtol=1e-3, atol=1e-3)
        line = f"{label:<28}"
        rivals = {"NumPy": lambda n=numpy, d=data: n(d), "torch": lambda o=other, t=tensor: o(t)}
        for name, rival in rivals.items():
            with torch.inference_mode():
                pairs = interleave(
                    repeated(lambda m=model, d=data: m.predict({"x": d})),
                    repeated(rival),
                    pairs=PAIRS,
                )
            found = ratio(pairs)
            line += f"  to {name} x {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
        print(line + f"  ({min(pairs.arm) / CALLS / 1e3:.0f} us)", flush=True)


if __name__ == "__main__":
    main()
