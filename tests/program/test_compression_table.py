"""Every compression of coremltools x every element type, against coremltools' own decompression.

A few of each kind run always, all of them in the sweep. Weights are compared one by one, then the
networks on the portable engine; how far a method may be from the original weights bounds both.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program import mil
from coreml_lab.program.graph import Graph, Value
from coreml_lab.program.mil.tools import mb, quiet
from coreml_lab.program.ops import OPS
from coreml_lab.program.ops.samples import normal
from tests.support.converting import convert

# Large enough that coremltools' own k-means takes groups of 8 filters in half precision.
SHAPES = {"conv": (16, 160, 3, 3), "linear": (16, 2304)}
AFFINE, BLOCKWISE = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"
TABLE, SPARSE = "constexpr_lut_to_dense", "constexpr_sparse_to_dense"
# Largest error relative to the original weights, by bits.
ERROR = {8: 0.02, 6: 0.08, 4: 0.35, 3: 0.6, 2: 0.95, 1: 1.5}
# Relative to a weight; half precision may be rounded once more.
CLOSE = {"fp32": 1e-6, "fp16": 2e-3}
HAS_SKLEARN = importlib.util.find_spec("sklearn") is not None


def whole(config: Any) -> Any:
    return cto.OptimizationConfig(global_config=config)


def quantized(model: Any, *, joint: bool = False, **how: Any) -> Any:
    config = cto.OpLinearQuantizerConfig(weight_threshold=0, **how)
    return cto.linear_quantize_weights(model, whole(config), joint_compression=joint)


def palettized(model: Any, *, joint: bool = False, **how: Any) -> Any:
    config = cto.OpPalettizerConfig(weight_threshold=0, **how)
    return cto.palettize_weights(model, whole(config), joint_compression=joint)


def pruned(model: Any, *, kind: Any = cto.OpMagnitudePrunerConfig, **how: Any) -> Any:
    return cto.prune_weights(model, whole(kind(weight_threshold=0, **how)))


def then(*steps: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(model: Any) -> Any:
        for step in steps:
            model = step(model)
        return model

    return run


@dataclass(frozen=True)
class Method:
    """A compression, what it writes, and how far it may be from the original weights."""

    compress: Callable[[Any], Any]
    writes: frozenset[str]
    error: float
    target: str = "iOS18"
    # Weights of few different vectors of this length along the filters; 0 for random ones.
    vectors: int = 0
    half_only: bool = False
    marks: tuple[Any, ...] = field(default=())


def linear() -> Iterator[tuple[str, Method]]:
    kinds = ("int8", "uint8", "int4", "uint4")
    grains: Mapping[str, dict[str, Any]] = {
        "tensor": {"granularity": "per_tensor"},
        "channel": {"granularity": "per_channel"},
        "block": {"granularity": "per_block", "block_size": 32},
    }
    for kind, mode, (grain, how) in itertools.product(
        kinds, ("linear", "linear_symmetric"), grains.items()
    ):
        bits = 4 if "4" in kind else 8
        # One scale for all leaves the small weights few steps.
        error = ERROR[bits] * (1.5 if grain == "tensor" else 1)
        yield (
            f"{kind} {mode} by {grain}",
            Method(
                lambda m, k=kind, o=mode, h=how: quantized(m, dtype=k, mode=o, **h),
                frozenset({BLOCKWISE}),
                error,
            ),
        )
    for kind, mode, grain in itertools.product(
        ("int8", "uint8"), ("linear", "linear_symmetric"), ("tensor", "channel")
    ):
        yield (
            f"{kind} {mode} by {grain}, iOS16",
            Method(
                lambda m, k=kind, o=mode, g=grains[grain]: quantized(m, dtype=k, mode=o, **g),
                frozenset({AFFINE}),
                ERROR[8] * 1.5,
                "iOS16",
            ),
        )


def tables() -> Iterator[tuple[str, Method]]:
    grains: Mapping[str, dict[str, Any]] = {
        "tensor": {},
        "8 filters": {"granularity": "per_grouped_channel", "group_size": 8},
    }
    for bits, mode, (grain, how), scaled in itertools.product(
        (1, 2, 3, 4, 6, 8), ("uniform", "kmeans"), grains.items(), (False, True)
    ):
        # A uniform table spends its entries on the extremes.
        error = ERROR[bits] * (3 if mode == "uniform" else 1)
        extra = frozenset({BLOCKWISE}) if scaled else frozenset()
        yield (
            f"{mode} table of {bits} bits by {grain}{', scaled' if scaled else ''}",
            Method(
                lambda m, b=bits, o=mode, h=how, s=scaled: palettized(
                    m, nbits=b, mode=o, enable_per_channel_scale=s, **h
                ),
                frozenset({TABLE}) | extra,
                error,
                half_only=mode == "kmeans",
            ),
        )
    for bits, mode in itertools.product((1, 2, 4, 6, 8), ("uniform", "kmeans")):
        yield (
            f"{mode} table of {bits} bits, iOS16",
            Method(
                lambda m, b=bits, o=mode: palettized(m, nbits=b, mode=o),
                frozenset({TABLE}),
                ERROR[bits] * (3 if mode == "uniform" else 1),
                "iOS16",
                half_only=mode == "kmeans",
            ),
        )
    for length in (1, 2, 4):
        yield (
            f"unique vectors of {length}",
            Method(
                lambda m, n=length: palettized(m, mode="unique", **_vectors(n)),
                frozenset({TABLE}),
                1e-3,
                vectors=length,
            ),
        )
        if length > 1:
            yield (
                f"kmeans vectors of {length}",
                Method(
                    lambda m, n=length: palettized(m, mode="kmeans", nbits=4, **_vectors(n)),
                    frozenset({TABLE}),
                    ERROR[1],
                    marks=(
                        pytest.mark.skipif(
                            not HAS_SKLEARN, reason="coremltools clusters vectors with scikit-learn"
                        ),
                    ),
                ),
            )


def _vectors(length: int) -> dict[str, Any]:
    grouped = {"granularity": "per_grouped_channel", "group_size": 8}
    return {"cluster_dim": length, **grouped} if length > 1 else {}


PRUNERS: Mapping[str, Callable[[Any], Any]] = {
    "magnitude": lambda m: pruned(m, target_sparsity=0.6),
    "magnitude in blocks": lambda m: pruned(m, target_sparsity=0.6, block_size=2),
    "magnitude in blocks of inputs": lambda m: pruned(m, target_sparsity=0.6, block_size=4, dim=1),
    "2 of 4 inputs": lambda m: pruned(m, n_m_ratio=(2, 4)),
    "3 of 4 filters": lambda m: pruned(m, n_m_ratio=(3, 4), dim=0),
    "threshold": lambda m: pruned(
        m, kind=cto.OpThresholdPrunerConfig, threshold=0.7, minimum_sparsity_percentile=0.3
    ),
}


def sparse() -> Iterator[tuple[str, Method]]:
    for (name, prune), target in itertools.product(PRUNERS.items(), ("iOS18", "iOS16")):
        where = ", iOS16" if target == "iOS16" else ""
        yield f"sparse by {name}{where}", Method(prune, frozenset({SPARSE}), 0.95, target)


def joint() -> Iterator[tuple[str, Method]]:
    prune = PRUNERS["magnitude"]
    for kind, mode in itertools.product(("int8", "uint8", "int4", "uint4"), ("linear_symmetric",)):
        yield (
            f"sparse, {kind}",
            Method(
                then(prune, lambda m, k=kind, o=mode: quantized(m, joint=True, dtype=k, mode=o)),
                frozenset({SPARSE, "constexpr_sparse_blockwise_shift_scale"}),
                0.95,
            ),
        )
    for bits in (1, 2, 3, 4, 6, 8):
        yield (
            f"sparse, uniform table of {bits} bits",
            Method(
                then(prune, lambda m, b=bits: palettized(m, joint=True, nbits=b, mode="uniform")),
                frozenset({SPARSE, "constexpr_lut_to_sparse"}),
                3.0,
            ),
        )
    # coremltools leaves tables of up to 8 entries as they are.
    for bits, kind in itertools.product((4, 6, 8), ("int8", "uint8")):
        yield (
            f"table of {bits} bits in {kind}",
            Method(
                then(
                    lambda m, b=bits: palettized(m, nbits=b, mode="uniform"),
                    lambda m, k=kind: quantized(
                        m, joint=True, dtype=k, mode="linear_symmetric", granularity="per_tensor"
                    ),
                ),
                frozenset({TABLE, BLOCKWISE}),
                ERROR[bits] * 3,
            ),
        )

    for kind in ("int8", "uint8"):  # tables hold no int4
        yield (
            f"{kind}, its numbers in a table",
            Method(
                then(
                    lambda m, k=kind: quantized(m, dtype=k, mode="linear_symmetric"),
                    lambda m: palettized(m, joint=True, mode="unique"),
                ),
                frozenset({TABLE, BLOCKWISE}),
                ERROR[4],
            ),
        )


METHODS = dict(itertools.chain(linear(), tables(), sparse(), joint()))
OFTEN = {
    "uint8 linear by block, fp16",
    "int4 linear_symmetric by channel, fp32",
    "uint4 linear by block, fp16",
    "uint8 linear by tensor, iOS16, fp16",
    "kmeans table of 3 bits by 8 filters, scaled, fp16",
    "uniform table of 6 bits, iOS16, fp16",
    "unique vectors of 4, fp32",
    "sparse by 2 of 4 inputs, fp16",
    "sparse, int4, fp16",
    "sparse, uniform table of 2 bits, fp32",
    "table of 6 bits in uint8, fp16",
}


def cases() -> Iterator[Any]:
    for (name, method), precision in itertools.product(METHODS.items(), ("fp16", "fp32")):
        if method.half_only and precision == "fp32" and not HAS_SKLEARN:
            continue  # coremltools brings k-means for half precision only
        label = f"{name}, {precision}"
        marks = [*method.marks, *([] if label in OFTEN else [pytest.mark.sweep])]
        yield pytest.param(method, precision, id=label, marks=marks)


def drawn(op: str, vectors: int) -> Any:
    """Weights of a layer: random, or put together from 16 vectors for each group of 8 filters."""
    shape = SHAPES[op]
    if not vectors:
        return normal(*shape, seed=len(op))
    random = np.random.default_rng(len(op))
    rest = int(np.prod(shape[1:]))
    groups = []
    for _ in range(shape[0] // 8):
        book = normal(16, vectors, seed=len(op))
        chosen = book[random.integers(0, 16, (8 // vectors, rest))]
        groups.append(np.moveaxis(chosen, -1, 1).reshape(8, *shape[1:]))
    return np.concatenate(groups)


def network(method: Method, precision: str) -> Any:
    """A convolution and a linear layer."""
    target = getattr(ct.target, method.target)

    @mb.program(input_specs=[mb.TensorSpec((1, 160, 12, 12))], opset_version=target)
    def model(x: Any) -> Any:
        y = mb.conv(x=x, weight=drawn("conv", method.vectors), pad_type="same")
        y = mb.reshape(x=mb.relu(x=y), shape=[1, -1])
        return mb.linear(x=y, weight=drawn("linear", method.vectors), name="y")

    return convert(
        model,
        minimum_deployment_target=target,
        compute_precision=ct.precision[{"fp32": "FLOAT32", "fp16": "FLOAT16"}[precision]],
        skip_model_load=True,
    )


def weights(graph: Graph) -> dict[str, Any]:
    """The weight of each layer, expanded by our own definitions."""

    def value(operand: Value) -> Any:
        node = operand.node
        if node.op == "const":
            return operand.const
        given = {k: value(v) for k, v in node.inputs.items() if isinstance(v, Value)}
        results = OPS[node.op].reference(**given, **node.attrs)
        return results[operand.index] if isinstance(results, tuple) else results

    found = {}
    for node in graph.ops:
        if node.op in SHAPES:
            held = node.inputs.get("weight", node.attrs.get("weight"))
            found[node.op] = value(held) if isinstance(held, Value) else held
    return found


@pytest.mark.parametrize(("method", "precision"), list(cases()))
def test_compressed_weights_are_what_coremltools_expands_them_to(
    method: Method, precision: str, tmp_path: Path
) -> None:
    small, plain = tmp_path / "small.mlpackage", tmp_path / "plain.mlpackage"
    with quiet():
        method.compress(network(method, precision)).save(str(small))
        model = ct.models.MLModel(str(small), skip_model_load=True)
        cto.decompress_weights(model).save(str(plain))
    graph = mil.read(small)
    assert {n.op for n in graph if n.op.startswith("constexpr")} == method.writes
    ours, apples = weights(graph), weights(mil.read(plain))
    assert ours.keys() == apples.keys() == SHAPES.keys()
    for op, found in ours.items():
        wanted, original = apples[op], drawn(op, method.vectors)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=CLOSE[precision], atol=1e-7)
        assert np.linalg.norm(found - original) <= method.error * np.linalg.norm(original)
    feeds = {"x": normal(1, 160, 12, 12, seed=2)}
    got, want = (cl.load(p, engine="portable").predict(feeds)["y"] for p in (small, plain))
    assert np.abs(got - want).max() <= CLOSE[precision] * 2 * np.abs(want).max()


def test_what_runs_often_is_in_the_table() -> None:
    assert {c.id for c in cases()} >= OFTEN
