"""What an operation costs on an engine: measured in earlier recordings, or a labelled default."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from coreml_lab.metrics import Provenance
from coreml_lab.program.graph import NUMPY_NAME, Dim, Node, TensorType
from coreml_lab.records import OpInfo, OpSpan, Recording

# Wordings of the least certain of several provenances.
WORST = (Provenance.MEASURED, Provenance.APPORTIONED, Provenance.ESTIMATED)
PRODUCTS = frozenset({"matmul", "einsum", "scaled_dot_product_attention"})
CHANNELS_SECOND = frozenset({"conv", "conv_transpose"})


@dataclass(frozen=True)
class Cost:
    """Seconds, and how the number came to be."""

    seconds: float
    provenance: Provenance


@dataclass(frozen=True)
class Work:
    """What there is to do in one operation.

    Attributes:
        key: equal for operations of one kind, with the same types and parameters; "" where a shape
            is only known when it runs, so that nothing measured may stand for it.
        flops: multiplications and additions, estimated from shapes.
        bytes: what is read and written, weights among it.
        weights: bytes of what is held before it runs.
        elements: numbers that it makes.
        arrays: bytes that are there at once while it runs, beside the weights.
    """

    name: str
    key: str
    flops: float
    bytes: float
    weights: float
    elements: float
    arrays: float = 0.0


@dataclass(frozen=True)
class Speed:
    """What a kind of engine does, by rule of thumb: every number made of it is *estimated*.

    Attributes:
        call: seconds to start a segment; step: seconds for an operation that does nothing.
        flops: per second, in fp32; memory: bytes per second.
        latency: seconds to move one array there or back; link: bytes per second of that way
            (infinite where arrays are shared).
        watts: what it draws while it works.
    """

    call: float
    step: float
    flops: float
    memory: float
    latency: float = 0.0
    link: float = math.inf
    watts: float = 15.0


# By engine and kind of device; NumPy's figures stand for an engine that is not in the table.
SPEEDS: Mapping[tuple[str, str], Speed] = {
    ("portable", "coreml"): Speed(15e-6, 2e-6, 5e10, 1e10),
    ("openvino", "coreml"): Speed(40e-6, 2e-6, 5e10, 1e10),
    ("pytorch", "cpu"): Speed(20e-6, 8e-6, 4e10, 1e10),
    ("pytorch", "cuda"): Speed(60e-6, 5e-6, 1e13, 5e11, 15e-6, 1e10, 150.0),
    ("pytorch", "metal"): Speed(150e-6, 10e-6, 2e12, 1e11, 30e-6, 2e10, 15.0),
    ("tinygrad", "metal"): Speed(500e-6, 20e-6, 1e12, 8e10, 50e-6, 2e10, 15.0),
    # Unknown hardware, often the CPU again: it is taken where it was measured to be faster.
    ("tinygrad", "opencl"): Speed(1e-3, 50e-6, 1e10, 5e9, 50e-6, 5e9, 30.0),
    ("reference", "cpu"): Speed(5e-6, 20e-6, 5e9, 3e9),
}
UNKNOWN = SPEEDS["reference", "cpu"]


def speed(engine: str, device: str) -> Speed:
    """The rule of thumb for an engine on a device."""
    return SPEEDS.get((engine, device.partition(":")[0]), UNKNOWN)


@dataclass(frozen=True)
class Costs:
    """Costs by what was measured, on an engine and device, and defaults for the rest.

    Attributes:
        learned: seconds by engine, device, ``how`` and kind of operation.
        how: the options that change times, in words; "" where all are as usual.
    """

    learned: Mapping[str, Cost] = field(default_factory=dict)
    how: str = ""

    def table(self, engine: str, device: str, works: Iterable[Work]) -> list[Cost]:
        """What each operation takes there."""
        thumb, where = speed(engine, device), f"{engine}|{device}|{self.how}|"
        return [
            (self.learned.get(where + w.key) if self.learned and w.key else None)
            or Cost(estimated(thumb, w), Provenance.ESTIMATED)
            for w in works
        ]


def estimated(thumb: Speed, work: Work) -> float:
    """Seconds by rule of thumb: arithmetic or memory, whichever takes longer."""
    return thumb.step + max(work.flops / thumb.flops, work.bytes / thumb.memory)


def worst(kinds: Iterable[Provenance]) -> Provenance:
    """The least certain of several provenances."""
    return max(kinds, key=WORST.index, default=Provenance.ESTIMATED)


def sizes(kind: TensorType) -> list[int]:
    """The shape, with the lower bound of what is flexible."""
    return [max(1, d.low) if isinstance(d, Dim) else d for d in kind.shape]


def nbytes(kind: TensorType) -> float:
    """Bytes of a value, by its smallest shape where that is flexible."""
    return float(math.prod(sizes(kind)) * kind.dtype.itemsize)


def key(info: OpInfo) -> str:
    """What operations have in common that take the same time; "" where that is not known."""
    return f"{info.op}|{info.work}" if info.work else ""


def work(node: Node, info: OpInfo, carried: float = 0.0) -> Work:
    """What there is to do in an operation; a loop or branch counts as its blocks run once.

    ``carried``: bytes of the constants behind the fixed operations that come with it.
    """
    read = {v: nbytes(v.type) for v in node.operands()}
    numbers = [math.prod(sizes(t)) for t in node.types]
    made = sum(n * t.dtype.itemsize for n, t in zip(numbers, node.types, strict=True))
    weights = info.weight_bytes
    moved = sum(read.values()) + made + weights
    flops, arrays = _flops(node), made + sum(n for v, n in read.items() if v.const is None)
    for inner in node.nested:
        flops, arrays = flops + _flops(inner), max(arrays, _arrays(inner))
    held, results = weights + carried, float(sum(numbers))
    return Work(info.name, key(info), flops, moved, held, results, float(arrays))


def _arrays(node: Node) -> float:
    """Bytes of operands and results of one operation; constants are weights."""
    read = {v for v in node.operands() if v.const is None}
    return sum(nbytes(v.type) for v in read) + sum(map(nbytes, node.types))


def _flops(node: Node) -> float:
    """Two for each number of a kernel and each place it is used at; one per number elsewhere."""
    shape = sizes(node.type)
    out = float(math.prod(shape))
    if node.op in PRODUCTS:
        first = next(iter(node.operands()), None)
        return 2 * out * (sizes(first.type) or [1])[-1] if first is not None else out
    kernel = node.attrs.get("weight")
    operand = node.inputs.get("weight")
    held = list(getattr(kernel, "shape", ())) or (
        sizes(operand.type) if operand is not None and not isinstance(operand, tuple) else []
    )
    if not held:
        return out
    channels = shape[1] if node.op in CHANNELS_SECOND and len(shape) > 1 else (shape or [1])[-1]
    return 2 * math.prod(held) * out / max(1, channels)


def observed(recording: Recording, how: str = "") -> dict[str, Cost]:
    """The costs that a recording shows: the median of each kind of operation, by engine and device.

    A kernel that did several operations is shared out by their estimates: *apportioned*.
    ``how``: the options it was made with, as ``Costs`` has them.
    """
    infos = {op.name: op for op in recording.program.ops}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    shared: set[tuple[str, str]] = set()
    for run in recording.runs:
        for (engine, node), seconds, alone in _per_op(run.spans, infos):
            times[engine, node].append(seconds)
            if not alone:
                shared.add((engine, node))
    kinds: dict[str, list[tuple[float, Provenance]]] = defaultdict(list)
    for (where, node), values in times.items():
        common = key(infos[node])
        kind = Provenance.APPORTIONED if (where, node) in shared else Provenance.MEASURED
        if common:
            kinds[f"{where}|{how}|{common}"].append((median(values), kind))
    return {
        name: Cost(median(s for s, _ in rows), worst(h for _, h in rows))
        for name, rows in kinds.items()
    }


def _per_op(
    spans: Sequence[OpSpan], infos: Mapping[str, OpInfo]
) -> list[tuple[tuple[str, str], float, bool]]:
    """``((engine|device, operation), seconds, alone)`` of one run."""
    total: dict[tuple[str, str], float] = defaultdict(float)
    alone: dict[tuple[str, str], bool] = {}
    for span in spans:
        group = [n for n in (span.node, *span.fused) if n in infos]
        if span.node not in infos or span.provenance not in WORST[:2]:
            continue
        parts = [_share(span.engine, span.device, infos[n]) for n in group]
        for node, share in zip(group, parts, strict=True):
            place = (f"{span.engine}|{span.device}", node)
            total[place] += span.duration_ns / 1e9 * share / sum(parts)
            known = len(group) == 1 and span.provenance is Provenance.MEASURED
            alone[place] = alone.get(place, True) and known
    return [(place, seconds, alone[place]) for place, seconds in total.items()]


def _share(engine: str, device: str, info: OpInfo) -> float:
    """The estimate by which a fused kernel's time is shared out."""
    return estimated(speed(engine, device), rough(info))


def rough(info: OpInfo) -> Work:
    """What there is to do, as far as the listing of a program tells: result and weights.

    Of a product of two activations that is less than the truth: its inner size is not listed.
    """
    shape = [d if isinstance(d, int) else 1 for d in info.shape]
    out, width = float(math.prod(shape)), _width(info.dtype)
    channels = (shape[1:2] if info.op in CHANNELS_SECOND else shape[-1:]) or [1]
    flops = max(out, 2 * info.weight_bytes / width * out / max(1, channels[0]))
    moved = 2 * out * width + info.weight_bytes
    return Work(info.name, "", flops, moved, info.weight_bytes, out)


def _width(dtype: str) -> int:
    digits = "".join(c for c in NUMPY_NAME.get(dtype, dtype) if c.isdigit())
    return max(1, int(digits or 8) // 8)
