"""What bars an operation from the Neural Engine: one rule per kind of reason. Pure.

A rule looks at one operation and yields reasons, each with its sources and how sure they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from coreml_lab.explain.placing.reasons import (
    HIGH,
    LOW,
    MEDIUM,
    Context,
    Reason,
    Rule,
    is_list,
    states,
    values,
)
from coreml_lab.explain.placing.tables import Fact, operations
from coreml_lab.explain.placing.workload import fixed, inner, weight_shape
from coreml_lab.program.graph import CONTROL_FLOW, MIL_NAME, Dim, Node, Value

# How sure a reason is that rests on a fact of this confidence.
SURE = {"measured": HIGH, "vendor": HIGH, "decompiled": MEDIUM}
CASTS = frozenset({"float16", "float32", "bool"})
# Operands that must be constants for the Neural Engine, by operation.
FIXED_OPERANDS: Mapping[str, tuple[str, ...]] = {
    "gather": ("indices",),
    "gather_nd": ("indices",),
    "slice_by_index": ("begin", "end", "stride"),
    "slice_by_size": ("begin", "size"),
    "slice_update": ("begin", "end", "stride"),
    "reshape": ("shape",),
    "tile": ("reps",),
    "fill": ("shape",),
    "pad": ("pad",),
    "topk": ("k",),
    "resize": ("shape",),
}
# Indices among the results: the sources place these operations by their values.
INDEX_RESULTS = frozenset({"topk"})
STATE_MULTIPLE = 32


def _control_flow(node: Node, _: Context) -> Iterator[Reason]:
    if node.op in CONTROL_FLOW or is_list(node):
        known = operations()[node.op]
        yield Reason(
            "control flow",
            f"{node.op} is control flow: the CPU decides what runs next",
            "run the loop or branch in your own code around a program without it; "
            "a branch can often be a select",
            known.confidence,
            known.sources,
        )


def _operation(node: Node, context: Context) -> Iterator[Reason]:
    known = operations().get(node.op)
    if known is None:
        yield Reason("unknown", f"no source tells of {node.op}", "", LOW, ())
    elif node.op in CONTROL_FLOW or is_list(node):
        return
    elif known.verdict in {"no", "unlikely"}:
        said = f": {known.note}" if known.note else ""
        yield Reason(
            "operation",
            f"{node.op} does not run on the Neural Engine{said}",
            _instead(node.op),
            known.confidence,
            known.sources,
        )
    elif known.since > context.chip.generation:
        yield Reason(
            "generation",
            f"{node.op} needs {known.since}, this chip has {context.chip.generation}",
            "compose it of operations that older engines have, or target a newer chip",
            MEDIUM,
            known.sources,
        )


def _instead(op: str) -> str:
    """What may take the place of an operation."""
    found = (text for text, names in REMEDIES if op in names.split())
    return next(found, "compute it outside of the program, or compose it of what runs there")


# What helps, and the operations that it helps.
REMEDIES = (
    ("convolutions or attention in their place run on the Neural Engine", "lstm gru rnn"),
    (
        "return the scores and take indices in your own code",
        "reduce_argmax reduce_argmin argsort one_hot",
    ),
    ("write it with exp, log, sqrt, atan, sin, cos", "tan sinh cosh asin acos atanh"),
    ("x - floor(x / y) * y is the same in operations that run there", "mod"),
    ("exp of a sum of logs, or multiplications one after the other", "reduce_prod"),
    ("multiply by a constant triangular matrix or mask", "cumsum band_part"),
    (
        "mask and add in its place, or write in your own code and hand the result in",
        "scatter scatter_nd scatter_along_axis slice_update",
    ),
    (
        "draw the numbers in your own code and hand them in",
        "random_uniform random_normal random_bernoulli random_categorical",
    ),
    (
        "do it in your own code behind the program",
        "non_maximum_suppression crop_resize non_zero classify",
    ),
)


def _precision(node: Node, _: Context) -> Iterator[Reason]:
    types = [*node.types, *(v.type for v in node.operands() if not fixed(v))]
    if node.op == "cast":
        named = [t.dtype.name for t in types]
        if not set(named) <= CASTS:
            kinds = " to ".join(dict.fromkeys((_mil(named[-1]), _mil(named[0]))))
            yield Reason(
                "integers",
                f"a cast of {kinds} runs on the CPU",
                "keep integers out of the data's path: convert them in your own code",
                HIGH,
                ("751K",),
            )
    elif any(t.dtype == np.float32 for t in types):
        yield Reason(
            "precision",
            "it computes in fp32; the Neural Engine runs fp16",
            'compute it in fp16: cl.compile(…, precision="fp16"), or convert the model again so',
            HIGH,
            ("CT-DOCS", "APPLE-COREAI"),
        )


def _mil(name: str) -> str:
    return MIL_NAME.get(name, name)


def _integers(node: Node, _: Context) -> Iterator[Reason]:
    if node.op == "cast" or node.op in CONTROL_FLOW or next(_operands_at_run_time(node), None):
        return
    results = node.types[:1] if node.op in INDEX_RESULTS else node.types
    types = [*results, *(v.type for v in node.operands() if not fixed(v))]
    wide = [
        t.dtype.name
        for t in types
        if t.dtype.kind in "iu" and t.dtype.itemsize >= np.int32().itemsize
    ]
    if wide:
        yield Reason(
            "integers",
            f"it works on {_mil(wide[0])}; operations on such tensors run on the CPU",
            "prepare indices in your own code, or compute in fp16 where numbers are below 2048",
            HIGH,
            ("751K",),
        )


def _operands_at_run_time(node: Node) -> Iterator[str]:
    for name in FIXED_OPERANDS.get(node.op, ()):
        operand = node.inputs.get(name)
        if isinstance(operand, Value) and not fixed(operand):
            yield name


def _run_time(node: Node, _: Context) -> Iterator[Reason]:
    names = list(_operands_at_run_time(node))
    if names:
        yield Reason(
            "run-time operand",
            f"what it is given as {' and '.join(names)} is only known when it runs",
            "make it a constant, or do this step in your own code",
            HIGH,
            ("751K",),
        )


def _rank(node: Node, context: Context) -> Iterator[Reason]:
    limit = context.chip.limits["rank"]
    highest = max((t.rank for t in values(node)), default=0)
    if highest > limit.value:
        yield _beyond(
            "rank", f"a value of rank {highest}", limit, "reshape to at most 5 dimensions"
        )


def _size(node: Node, context: Context) -> Iterator[Reason]:
    limits, worst = context.chip.limits, None
    for kind in values(node):
        for axis, size in enumerate(context.sizes.shape(kind)):
            near_end = kind.rank > 2 and axis >= kind.rank - 2  # noqa: PLR2004 - height and width
            limit = limits["size" if near_end else "channels"]
            if size > limit.value and (worst is None or size > worst[0]):
                worst = (size, limit)
    if worst is not None:
        yield _beyond(
            "size", f"a dimension of {worst[0]:,}", worst[1], "split that dimension in parts"
        )


def _inner(node: Node, context: Context) -> Iterator[Reason]:
    limit, count = context.chip.limits["inner"], inner(node, context.sizes)
    if count > limit.value:
        yield _beyond(
            "size", f"an inner dimension of {count:,}", limit, "split the product and add"
        )


def _kernel(node: Node, context: Context) -> Iterator[Reason]:
    """Kernels are two-dimensional on the engine: one of a single dimension is a row."""
    limits = context.chip.limits
    if node.op in {"conv", "conv_transpose"}:
        shape = weight_shape(node)[2:]
        height, width = (*([1] * (2 - len(shape))), *shape)[-2:] if shape else (1, 1)
        square = height == width and width <= limits["kernel_square"].value
        if width > limits["kernel_width"].value and not square:
            yield _beyond("kernel", f"a kernel {width} wide", limits["kernel_width"], SMALLER)
        elif height > limits["kernel_height"].value:
            yield _beyond("kernel", f"a kernel {height} high", limits["kernel_height"], SMALLER)
    elif node.op in {"max_pool", "avg_pool", "l2_pool"}:
        sizes = [int(k) for k in node.attrs.get("kernel_sizes", ())]
        limit = limits["max_pool_width" if node.op == "max_pool" else "avg_pool"]
        largest = sizes[-1] if node.op == "max_pool" and sizes else max(sizes, default=1)
        if largest > limit.value:
            yield _beyond(
                "kernel", f"a window of {largest}", limit, "pool twice with smaller windows"
            )


SMALLER = "factor it into smaller kernels, one after the other"


def _beyond(kind: str, what: str, limit: Fact, remedy: str) -> Reason:
    sure = SURE.get(limit.confidence, LOW)
    return Reason(kind, f"{what}; at most {limit.value:,} there", remedy, sure, (limit.source,))


def _flexible(node: Node, context: Context) -> Iterator[Reason]:
    if context.flexible == "range" and not all(t.static for t in values(node)):
        names = dict.fromkeys(str(d) for t in values(node) for d in t.shape if isinstance(d, Dim))
        yield Reason(
            "flexible shape",
            f"its shape is flexible ({', '.join(names)[:60]})",
            "fix the shape, or convert one model or function per size",
            MEDIUM,
            ("CT-2370", "CT-DOCS"),
        )


def _state(node: Node, context: Context) -> Iterator[Reason]:
    for state in states(node, context):
        last = context.sizes.shape(state.type)[-1] if state.type.rank else 1
        if last % STATE_MULTIPLE:
            yield Reason(
                "state",
                f"its state {state.name} ends in a dimension of {last}, no multiple of 32",
                "pad that dimension to a multiple of 32",
                LOW,
                ("CT-2631",),
            )


def _quantization(node: Node, _: Context) -> Iterator[Reason]:
    for value in node.operands():
        if value.node.op == "constexpr_blockwise_shift_scale" and _in_blocks(value.node):
            yield Reason(
                "quantization",
                "its weights have a scale per block, which the Neural Engine gets wrong or leaves",
                "a scale per channel, or a table (palettization), runs there",
                MEDIUM,
                ("COREAI-279", "ANEFORGE"),
            )


def _in_blocks(node: Node) -> bool:
    data, scale = (getattr(node.attrs.get(k), "shape", ()) for k in ("data", "scale"))
    return any(1 < s < d for s, d in zip(scale, data, strict=False))


def _padding(node: Node, context: Context) -> Iterator[Reason]:
    if node.op != "pad":
        return
    mode, filler = str(node.attrs.get("mode", "constant")), node.attrs.get("constant_val", 0)
    if mode == "constant" and float(np.asarray(filler)) != 0:
        yield Reason(
            "padding",
            f"it pads with {float(np.asarray(filler)):g}; only zeros run there",
            "pad with zeros and add the value, or concatenate a constant",
            MEDIUM,
            ("ANEFORGE",),
        )
    elif mode == "reflect" and context.chip.generation < "H14":
        yield Reason(
            "generation",
            f"padding by reflection needs H14, this chip has {context.chip.generation}",
            "pad with zeros or by replication",
            MEDIUM,
            ("ANEFORGE",),
        )


BARS: tuple[Rule, ...] = (
    _control_flow, _operation, _precision, _integers, _run_time, _rank, _size, _inner, _kernel,
    _flexible, _state, _quantization, _padding,
)  # fmt: skip
