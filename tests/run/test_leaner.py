"""What is written for ONNX Runtime so that it can fuse: fewer kernels, the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.run.lowering.graph import Lowered, lower

RANDOM = np.random.default_rng(0)
FP32 = np.dtype(np.float32)


def node(op: str, shape: tuple[int, ...], inputs: Any, **attrs: Any) -> Node:
    return Node(op, (TensorType(shape, FP32),), inputs, attrs, name=op)


def attention(number: Any, *, shown: bool = False) -> Graph:
    """Scores of two heads, whose queries are scaled, then transposed."""
    x = Node("input", (TensorType((5, 2, 4), FP32),), name="x")
    const = Node("const", (TensorType(np.shape(number), FP32),), attrs={"val": number}, name="c")
    scaled = node("mul", (5, 2, 4), {"x": Value(x), "y": Value(const)})
    queries = node("transpose", (2, 5, 4), {"x": Value(scaled)}, perm=np.array([1, 0, 2]))
    keys = Node("transpose", queries.types, {"x": Value(x)}, dict(queries.attrs), name="keys")
    scores = node("matmul", (2, 5, 5), {"x": Value(queries), "y": Value(keys)}, transpose_y=True)
    outputs = {"y": Value(scores)} | ({"q": Value(scaled)} if shown else {})
    return Graph(outputs, {"x": x})


def optimized(made: Lowered, folder: Path, x: Any) -> tuple[set[str], Any]:
    """The kernels that ONNX Runtime makes of it, and what they compute."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "kernels.onnx")
    session = onnxruntime.InferenceSession(
        made.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = {n.op_type for n in onnx.load(folder / "kernels.onnx").graph.node}
    return kinds, session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize(
    ("number", "shown", "fused"),
    [
        (np.float32(0.3), False, True),
        (np.float32(0.3), True, False),
        (np.full(4, 0.3, np.float32), False, False),
    ],
    ids=["a number", "also an output", "a vector"],
)
def test_a_scale_before_a_transposition_becomes_part_of_the_product(
    number: Any, shown: bool, fused: bool, tmp_path: Path
) -> None:
    x = RANDOM.standard_normal((5, 2, 4)).astype(np.float32)
    kinds, got = optimized(lower(attention(number, shown=shown)), tmp_path, x)
    turned = x.transpose(1, 0, 2)
    np.testing.assert_allclose(got, 0.3 * turned @ turned.transpose(0, 2, 1), rtol=1e-5)
    assert ("Mul" not in kinds) == fused


def test_a_mean_of_images_stays_in_the_layout_of_the_convolution(tmp_path: Path) -> None:
    weight = RANDOM.standard_normal((32, 16, 1, 1)).astype(np.float32)

    def network(x: cl.Tensor) -> dict[str, cl.Tensor]:
        return {"y": cl.ops.reduce_mean(cl.ops.conv(x, weight), axes=[2, 3])}

    model = cl.compile(network, x=cl.spec(1, 16, 8, 8), engine="portable")
    x = RANDOM.standard_normal((1, 16, 8, 8)).astype(np.float32)
    kinds, got = optimized(lower(model.program.graph), tmp_path, x)
    assert "GlobalAveragePool" in kinds
    wanted = np.einsum("oi,nihw->no", weight[..., 0, 0], x.astype(np.float64)) / 64
    np.testing.assert_allclose(got, wanted, atol=1e-5)
