"""Real packages that coremltools compressed, against their decompressed copies, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program import mil
from coreml_lab.program.mil.tools import mb, quiet
from coreml_lab.program.ops.samples import normal
from tests.support.converting import convert
from tests.support.packages import assert_same_when_compiled

IOS16, IOS18 = ct.target.iOS16, ct.target.iOS18
WEIGHT = normal(64, 32, 3, 3)


def network(target: Any) -> Any:
    """A small model with one convolution and one linear layer that are worth compressing."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 32, 8, 8))], opset_version=target)
    def model(x: Any) -> Any:
        y = mb.relu(x=mb.conv(x=x, weight=WEIGHT, pad_type="same"))
        y = mb.reshape(x=y, shape=[1, 4096])
        return mb.linear(x=y, weight=normal(8, 4096, seed=1), name="y")

    return convert(
        model,
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )


def whole(config: Any) -> Any:
    return cto.OptimizationConfig(global_config=config)


def quantized(model: Any, **options: Any) -> Any:
    return cto.linear_quantize_weights(
        model, whole(cto.OpLinearQuantizerConfig(weight_threshold=0, **options))
    )


def pruned(model: Any) -> Any:
    return cto.prune_weights(
        model, whole(cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0))
    )


def table(model: Any, bits: int, **options: Any) -> Any:
    """A palette of evenly spaced values: needs no clustering library."""
    config = cto.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=0)
    return cto.palettize_weights(model, whole(config), **options)


def jointly_table(model: Any) -> Any:
    return table(pruned(model), 4, joint_compression=True)


def jointly_quantized(model: Any) -> Any:
    config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    return cto.linear_quantize_weights(pruned(model), whole(config), joint_compression=True)


def quantized_table(model: Any) -> Any:
    config = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", granularity="per_tensor", weight_threshold=0
    )
    return cto.linear_quantize_weights(table(model, 4), whole(config), joint_compression=True)


COMPRESSED: dict[str, tuple[Any, Callable[[Any], Any], set[str]]] = {
    "int8": (IOS16, lambda m: quantized(m, mode="linear"), {"constexpr_affine_dequantize"}),
    "int8, iOS18": (
        IOS18,
        lambda m: quantized(m, mode="linear_symmetric"),
        {"constexpr_blockwise_shift_scale"},
    ),
    "int4 by block": (
        IOS18,
        lambda m: quantized(m, mode="linear", dtype="int4", granularity="per_block", block_size=32),
        {"constexpr_blockwise_shift_scale"},
    ),
    "uint4": (
        IOS18,
        lambda m: quantized(m, mode="linear", dtype="uint4"),
        {"constexpr_blockwise_shift_scale"},
    ),
    "table": (IOS16, lambda m: table(m, 4), {"constexpr_lut_to_dense"}),
    "table of 6 bits": (IOS16, lambda m: table(m, 6), {"constexpr_lut_to_dense"}),
    "table, iOS18": (IOS18, lambda m: table(m, 3), {"constexpr_lut_to_dense"}),
    "sparse": (IOS16, pruned, {"constexpr_sparse_to_dense"}),
    "sparse, iOS18": (IOS18, pruned, {"constexpr_sparse_to_dense"}),
    "sparse and table": (
        IOS18,
        jointly_table,
        {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"},
    ),
    "sparse and int8": (
        IOS18,
        jointly_quantized,
        {"constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"},
    ),
    "table of int8": (
        IOS18,
        quantized_table,
        {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"},
    ),
}


@pytest.fixture(scope="module")
def networks() -> dict[Any, Any]:
    with quiet():
        return {target: network(target) for target in (IOS16, IOS18)}


@pytest.mark.parametrize(("target", "compress", "written"), COMPRESSED.values(), ids=COMPRESSED)
def test_compressed_package_computes_what_its_decompressed_copy_does(
    target: Any,
    compress: Callable[[Any], Any],
    written: set[str],
    networks: dict[Any, Any],
    tmp_path: Path,
) -> None:
    small_one, plain = tmp_path / "small.mlpackage", tmp_path / "plain.mlpackage"
    with quiet():
        compress(networks[target]).save(str(small_one))
        model = ct.models.MLModel(str(small_one), skip_model_load=True)
        cto.decompress_weights(model).save(str(plain))
    assert written <= {n.op for n in mil.read(small_one)}
    assert not any(n.op.startswith("constexpr") for n in mil.read(plain))
    feeds = {"x": normal(1, 32, 8, 8, seed=2)}
    assert_same_when_compiled(small_one)
    want = cl.load(plain).predict(feeds)["y"]
    for engine in ("portable", "reference"):
        got = cl.load(small_one, engine=engine).predict(feeds)["y"]
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
