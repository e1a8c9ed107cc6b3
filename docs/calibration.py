"""Write coreml_lab/explain/data/calibration.json: what others measured, on networks counted here.

``python docs/calibration.py`` writes it, ``--check`` only says whether it is fresh. Networks are
counted from their papers' tables of layers: each row is one kind of operation with its arithmetic
(two per multiplication and addition), bytes in fp16, and how often the network has it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "coreml_lab" / "explain" / "data" / "calibration.json"
HALF = 2
Row = tuple[str, int, int, int, int, int]


def row(
    kind: str, flops: int, read: int, written: int, weights: int = 0, *, largest: int = 0
) -> Row:
    """One operation: element counts become bytes of fp16; usually it reads one value."""
    sizes = (read * HALF, written * HALF, weights * HALF)
    return (kind, flops, *sizes, HALF * (largest or max(read, written)))


def conv(  # noqa: PLR0917 - as papers list layers
    cin: int, cout: int, kernel: int, size: int, stride: int = 1, groups: int = 1
) -> Row:
    """A square convolution of an image that is ``size`` wide, padded to keep its size."""
    out, weights = (size // stride) ** 2 * cout, cin // groups * cout * kernel**2
    kind = "depthwise" if groups == cin > 1 else "conv"
    return row(kind, 2 * weights * (size // stride) ** 2, cin * size**2, out, weights + cout)


def each(count: int, kind: str = "elementwise", operands: int = 1) -> Row:
    """An operation on ``count`` elements that multiplies nothing."""
    return row(kind, count, operands * count, count, largest=count)


def linear(rows: int, inner: int, outer: int) -> Row:
    """A product of ``rows`` vectors with stored weights."""
    return row("matmul", 2 * rows * inner * outer, rows * inner, rows * outer, inner * outer)


def product(batch: int, rows: int, inner: int, outer: int) -> Row:
    """A product of two values."""
    left, right, out = (batch * n for n in (rows * inner, inner * outer, rows * outer))
    flops = 2 * batch * rows * inner * outer
    return row("matmul", flops, left + right, out, largest=max(left, right, out))


def resnet(blocks: tuple[int, ...], *, bottleneck: bool) -> Iterator[Row]:
    """ResNet on 224x224: 18 is (2, 2, 2, 2), 50 is (3, 4, 6, 3) with bottlenecks."""
    yield conv(3, 64, 7, 224, 2)
    yield each(64 * 112**2)
    yield row("normalization", 64 * 56**2 * 9, 64 * 112**2, 64 * 56**2)
    size, cin = 56, 64
    for stage, count in enumerate(blocks):
        wide = 64 << stage
        out = wide * 4 if bottleneck else wide
        for index in range(count):
            stride = 2 if index == 0 and stage else 1
            if bottleneck:
                yield from (conv(cin, wide, 1, size), each(wide * size**2))
                yield conv(wide, wide, 3, size, stride)
            else:
                yield conv(cin, wide, 3, size, stride)
            yield each(wide * (size // stride) ** 2)
            yield conv(wide, out, 1 if bottleneck else 3, size // stride)
            if cin != out or stride > 1:
                yield conv(cin, out, 1, size, stride)
            size, cin = size // stride, out
            yield from (each(out * size**2, operands=2), each(out * size**2))
    yield row("normalization", cin * size**2, cin * size**2, cin)
    yield linear(1, cin, 1000)


def mobilenet_v2() -> Iterator[Row]:
    """MobileNetV2 1.0 on 224x224."""
    yield from (conv(3, 32, 3, 224, 2), each(32 * 112**2))
    size, cin = 112, 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
             (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for grow, cout, count, first in table:
        for index in range(count):
            stride, wide = first if index == 0 else 1, cin * grow
            if grow > 1:
                yield from (conv(cin, wide, 1, size), each(wide * size**2))
            yield conv(wide, wide, 3, size, stride, wide)
            size //= stride
            yield from (each(wide * size**2), conv(wide, cout, 1, size))
            if stride == 1 and cin == cout:
                yield each(cout * size**2, operands=2)
            cin = cout
    yield from (conv(cin, 1280, 1, size), each(1280 * size**2))
    yield row("normalization", 1280 * size**2, 1280 * size**2, 1280)
    yield linear(1, 1280, 1000)


def mobileone(widths: tuple[float, ...]) -> Iterator[Row]:
    """MobileOne on 224x224, its branches folded: depthwise and pointwise convolutions."""
    cin = min(64, int(64 * widths[0]))
    yield from (conv(3, cin, 3, 224, 2), each(cin * 112**2))
    size = 112
    for base, count, factor in zip((64, 128, 256, 512), (2, 8, 10, 1), widths, strict=True):
        cout = int(base * factor)
        for index in range(count):
            stride = 2 if index == 0 else 1
            yield conv(cin, cin, 3, size, stride, cin)
            size //= stride
            yield from (each(cin * size**2), conv(cin, cout, 1, size), each(cout * size**2))
            cin = cout
    yield row("normalization", cin * size**2, cin * size**2, cin)
    yield linear(1, cin, 1000)


def transformer(layers: int, wide: int, heads: int, length: int, *, grow: int = 4) -> Iterator[Row]:
    """Encoder layers: attention written out, and two products with gelu between."""
    for _ in range(layers):
        yield from (each(length * wide, "normalization") for _ in range(2))
        yield from (linear(length, wide, wide) for _ in range(4))
        yield from (each(length * wide, "layout") for _ in range(4))
        yield product(heads, length, wide // heads, length)
        yield each(heads * length**2, "normalization")
        yield product(heads, length, length, wide // heads)
        yield from (linear(length, wide, grow * wide), each(grow * length * wide))
        yield linear(length, grow * wide, wide)
        yield from (each(length * wide, operands=2) for _ in range(2))


def vit(layers: int, wide: int, heads: int, patch: int) -> Iterator[Row]:
    """A vision transformer on 224x224."""
    side = 224 // patch
    weights = 3 * patch**2 * wide
    yield row("conv", 2 * weights * side**2, 3 * 224**2, side**2 * wide, weights)
    yield from transformer(layers, wide, heads, side**2 + 1)
    yield linear(1, wide, 1000)


def whisper(layers: int, wide: int, heads: int) -> Iterator[Row]:
    """Whisper's encoder: 30 s of sound, two convolutions and 1500 places."""
    yield row("conv", 2 * 3000 * 80 * wide * 3, 80 * 3000, wide * 3000, 240 * wide)
    yield row("conv", 2 * 1500 * wide * wide * 3, wide * 3000, wide * 1500, 3 * wide**2)
    yield from transformer(layers, wide, heads, 1500)


NETWORKS: dict[str, Callable[[], Iterator[Row]]] = {
    "ResNet-18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "ResNet-50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "MobileNetV2": mobilenet_v2,
    "MobileOne-S0": lambda: mobileone((0.75, 1.0, 1.0, 2.0)),
    "MobileOne-S1": lambda: mobileone((1.5, 1.5, 2.0, 2.5)),
    "MobileOne-S2": lambda: mobileone((1.5, 2.0, 2.5, 4.0)),
    "MobileOne-S3": lambda: mobileone((2.0, 2.5, 3.0, 4.0)),
    "ViT-B/16": lambda: vit(12, 768, 12, 16),
    "ViT-S/16": lambda: vit(12, 384, 6, 16),
    "ViT-L/14": lambda: vit(24, 1024, 16, 14),
    "DistilBERT, 128 tokens": lambda: transformer(6, 768, 12, 128),
    "MiniLM, 128 tokens": lambda: transformer(6, 384, 12, 128),
    "Whisper tiny encoder": lambda: whisper(4, 384, 6),
    "Whisper base encoder": lambda: whisper(6, 512, 8),
    "Whisper small encoder": lambda: whisper(12, 768, 12),
    "Whisper medium encoder": lambda: whisper(24, 1024, 16),
    "Whisper large encoder": lambda: whisper(32, 1280, 20),
    "product of 1x4096 with 4096x4096": lambda: iter([linear(1, 4096, 4096)]),
    "product of 64x256 with 256x256": lambda: iter([linear(64, 256, 256)]),
}
FIELDS = ("network", "chip", "device", "where", "latency_ms", "energy_mj", "path", "source")
CORE_ML, DIRECT = "Core ML", "other"
# fmt: off
MEASURED: tuple[tuple[Any, ...], ...] = (
    ("ResNet-50", "A16", "ne", "iPhone 14 Pro", 1.52, None, CORE_ML, "CT-DOCS"),
    ("ResNet-50", "A17 Pro", "ne", "iPhone 15 Pro", 1.38, None, CORE_ML, "CT-DOCS"),
    ("ResNet-50", "A17 Pro", "ne", "iPhone 15 Pro, iOS 18", 1.63, None, CORE_ML, "CT-DOCS"),
    ("ResNet-50", "M4", "ne", "Mac", 1.71, None, CORE_ML, "751K"),
    ("ResNet-50", "M6", "ne", "Mac", 1.20, None, CORE_ML, "751K"),
    ("MobileNetV2", "A16", "ne", "iPhone 14 Pro", 0.48, None, CORE_ML, "CT-DOCS"),
    ("MobileNetV2", "A17 Pro", "ne", "iPhone 15 Pro", 0.49, None, CORE_ML, "CT-DOCS"),
    ("MobileOne-S0", "A14", "ne", "iPhone 12 Pro", 0.79, None, CORE_ML, "APPLE-MOBILEONE"),
    ("MobileOne-S1", "A14", "ne", "iPhone 12 Pro", 0.89, None, CORE_ML, "APPLE-MOBILEONE"),
    ("MobileOne-S2", "A14", "ne", "iPhone 12 Pro", 1.18, None, CORE_ML, "APPLE-MOBILEONE"),
    ("MobileOne-S3", "A14", "ne", "iPhone 12 Pro", 1.53, None, CORE_ML, "APPLE-MOBILEONE"),
    ("ResNet-18", "M1 Pro", "ne", "Mac", 0.90, None, CORE_ML, "ET-5718"),
    ("DistilBERT, 128 tokens", "A15", "ne", "iPhone 13", 3.47, 1.575, CORE_ML, "APPLE-ANET"),
    ("ViT-B/16", "A14", "ne", "iPhone 12 Pro Max", 10.4, None, CORE_ML, "APPLE-MOBILECLIP"),
    ("ViT-L/14", "A14", "ne", "iPhone 12 Pro Max", 57.9, None, CORE_ML, "APPLE-MOBILECLIP"),
    ("ViT-S/16", "M4", "ne", "iPad Pro", 1.23, None, CORE_ML, "UFORM-97"),
    ("ViT-B/16", "M4", "ne", "iPad Pro", 3.79, None, CORE_ML, "UFORM-97"),
    ("ViT-L/14", "M4", "ne", "iPad Pro", 20.9, None, CORE_ML, "UFORM-97"),
    ("Whisper tiny encoder", "M1 Pro", "ne", "Mac", 30, None, CORE_ML, "WHISPERCPP"),
    ("Whisper base encoder", "M1 Pro", "ne", "Mac", 64, None, CORE_ML, "WHISPERCPP"),
    ("Whisper small encoder", "M1 Pro", "ne", "Mac", 208, None, CORE_ML, "WHISPERCPP"),
    ("Whisper medium encoder", "M1 Pro", "ne", "Mac", 1033, None, CORE_ML, "WHISPERCPP"),
    ("Whisper tiny encoder", "M1 Ultra", "ne", "Mac", 18.88, None, CORE_ML, "WHISPERCPP"),
    ("Whisper base encoder", "M1 Ultra", "ne", "Mac", 34.28, None, CORE_ML, "WHISPERCPP"),
    ("Whisper small encoder", "M1 Ultra", "ne", "Mac", 114.99, None, CORE_ML, "WHISPERCPP"),
    ("Whisper medium encoder", "M1 Ultra", "ne", "Mac", 346.97, None, CORE_ML, "WHISPERCPP"),
    ("Whisper large encoder", "M1 Ultra", "ne", "Mac", 618.23, None, CORE_ML, "WHISPERCPP"),
    ("Whisper base encoder", "M3 Pro", "ne", "Mac", 29.63, None, CORE_ML, "WHISPERCPP"),
    ("Whisper tiny encoder", "M2 Ultra", "ne", "Mac, plain", 29.37, None, CORE_ML, "WHISPERCPP"),
    ("Whisper base encoder", "M2 Ultra", "ne", "Mac, plain", 43.33, None, CORE_ML, "WHISPERCPP"),
    ("Whisper small encoder", "M2 Ultra", "ne", "Mac, plain", 139.86, None, CORE_ML, "WHISPERCPP"),
    ("Whisper medium encoder", "M2 Ultra", "ne", "Mac, plain", 658.4, None, CORE_ML, "WHISPERCPP"),
    ("Whisper large encoder", "M2 Ultra", "ne", "Mac, plain", 1686, None, CORE_ML, "WHISPERCPP"),
    ("product of 1x4096 with 4096x4096", "M2 Pro", "ne", "Mac", 0.69, 1.5, DIRECT, "ANE-GUIDE"),
    ("ResNet-18", "M5 Pro", "ne", "Mac", 0.33, 2.2, DIRECT, "ANE-GUIDE"),
    ("MiniLM, 128 tokens", "M5 Pro", "ne", "Mac", 0.53, 2.4, DIRECT, "ANE-GUIDE"),
    ("ViT-B/16", "M5 Pro", "ne", "Mac", 18.3, 75, DIRECT, "ANE-GUIDE"),
    ("ResNet-18", "M5 Pro", "gpu", "Mac", 2.03, 35, DIRECT, "ANE-GUIDE"),
    ("MiniLM, 128 tokens", "M5 Pro", "gpu", "Mac", 1.92, 21, DIRECT, "ANE-GUIDE"),
    ("ViT-B/16", "M5 Pro", "gpu", "Mac", 15.9, 612, DIRECT, "ANE-GUIDE"),
    ("ViT-S/16", "M4", "gpu", "iPad Pro", 6.57, None, CORE_ML, "UFORM-97"),
    ("ViT-B/16", "M4", "gpu", "iPad Pro", 18.9, None, CORE_ML, "UFORM-97"),
    ("ViT-L/14", "M4", "gpu", "iPad Pro", 79.7, None, CORE_ML, "UFORM-97"),
    ("DistilBERT, 128 tokens", "M1 Max", "gpu", "Mac", 9.45, None, CORE_ML, "SMPANARO"),
    # The length is not told: the other's is taken. First rewritten for the engine, then not.
    ("DistilBERT, 128 tokens", "M1 Max", "ne", "Mac", 8.7, None, CORE_ML, "SMPANARO"),
    ("DistilBERT, 128 tokens", "M1 Max", "gpu", "Mac", 14.35, None, CORE_ML, "SMPANARO"),
    ("DistilBERT, 128 tokens", "M1 Max", "cpu", "Mac", 111, None, CORE_ML, "SMPANARO"),
    ("DistilBERT, 128 tokens", "M1 Max", "cpu", "Mac", 262, None, CORE_ML, "SMPANARO"),
    ("product of 64x256 with 256x256", "M1", "cpu", "Mac", 0.026, None, DIRECT, "ANE-GUIDE"),
)
# fmt: on


def page() -> str:
    """The file's text."""
    networks = {
        name: [[*row, count] for row, count in Counter(rows()).items()]
        for name, rows in NETWORKS.items()
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(rows)}" for name, rows in networks.items()]
    measured = [f"  {json.dumps(dict(zip(FIELDS, each, strict=True)))}" for each in MEASURED]
    return (
        '{\n "networks": {\n' + ",\n".join(lines) + "\n },\n"
        ' "measured": [\n' + ",\n".join(measured) + "\n ]\n}\n"
    )


def main() -> int:
    """Write the file, or say that it is stale."""
    fresh = page()
    if "--check" not in sys.argv:
        FILE.write_text(fresh, encoding="utf-8")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != fresh:
        print(f"{FILE.name} is stale; run: python docs/calibration.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
