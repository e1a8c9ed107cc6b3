"""Forms that compute the same and suit devices better: axes, pads, operations made whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.improve.optimizing.candidates import candidates
from coreml_lab.program.graph import Dim
from tests.improve.nets import snr, weights

ops = cl.ops


def column(x: Any) -> Any:
    """Layers over a sequence as PyTorch's converter writes them: images of (length, 1)."""
    y = ops.expand_dims(x, axes=[1, 3])
    y = ops.pad(y, pad=[0, 0, 0, 0, 3, 2, 0, 0], mode="constant", constant_val=0.0)
    y = ops.relu(ops.conv(y, weight=weights(8, 1, 6, 1), strides=[2, 1]))
    y = ops.batch_norm(y, mean=weights(8, 1)[:, 0], variance=np.ones(8, np.float32))
    y = ops.max_pool(y, kernel_sizes=[2, 1], strides=[2, 1], pad_type="valid")
    y = ops.conv(y, weight=weights(4, 4, 3, 1), pad_type="custom", pad=[1, 1, 0, 0], groups=2)
    y = ops.avg_pool(y, kernel_sizes=[3, 1], strides=[1, 1], pad_type="same")
    return ops.reduce_mean(y, axes=[2, 3])


def padded(x: Any) -> Any:
    """Pads before convolutions: one to fold, one of ones, one of channels, one before no conv."""
    y = ops.pad(x, pad=[1, 2, 0, 1], mode="constant", constant_val=0.0)
    y = ops.conv(y, weight=weights(4, 4, 3, 3), pad_type="custom", pad=[0, 1, 1, 0])
    y = ops.pad(y, pad=[1, 1, 1, 1], mode="constant", constant_val=1.0)
    y = ops.conv(y, weight=weights(4, 4, 3, 3))
    y = ops.pad(y, pad=[0, 2, 0, 0, 0, 0], mode="constant", constant_val=0.0)
    y = ops.conv(y, weight=weights(4, 6, 3, 3))
    return ops.relu(ops.pad(y, pad=[1, 1, 1, 1], mode="constant", constant_val=0.0))


@pytest.mark.parametrize("rows", [3, Dim("rows", 1, 8)])
def test_images_of_one_column_become_images_of_one_row(rows: Any) -> None:
    model = cl.compile(column, x=cl.spec(rows, 64), name="column")
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    turned = cl.edit(model).apply("long_axis_last").model
    assert snr(model.predict({"x": x})["output"], turned.predict({"x": x})["output"]) > 110
    kernels = [n.inputs["weight"].const for n in turned.program.graph.ops if n.op == "conv"]
    assert [w.shape[2:] for w in kernels if w is not None] == [(1, 6), (1, 3)]
    # Before the first and after the last: those in between undo each other.
    assert [op.op for op in turned.info.ops].count("transpose") <= 2


def test_what_is_written_in_columns_is_tried_in_rows_first() -> None:
    model = cl.compile(column, x=cl.spec(3, 64), name="column")
    first = candidates(model.info, "latency")[0]
    assert [action.name for action in first.actions] == ["long_axis_last", "fold_pads"]


def test_images_with_a_width_stay_as_they_are() -> None:
    model = cl.compile(padded, x=cl.spec(1, 4, 9, 9), name="padded")
    turned = cl.edit(model).apply("long_axis_last").model
    assert [op.op for op in turned.info.ops] == [op.op for op in model.info.ops]


def test_pads_of_zeros_go_into_the_convolution_behind_them() -> None:
    model = cl.compile(padded, x=cl.spec(1, 4, 9, 9), name="padded")
    x = np.random.default_rng(0).standard_normal((1, 4, 9, 9)).astype(np.float32)
    folded = cl.edit(model).apply("fold_pads").model
    assert [op.op for op in model.info.ops].count("pad") == 4
    assert [op.op for op in folded.info.ops].count("pad") == 3
    assert snr(model.predict({"x": x})["output"], folded.predict({"x": x})["output"]) > 110


def attention(x: Any, mask: Any) -> Any:
    """Twice: by scaled scores and a mask, and with keys turned before and nothing else."""
    scores = ops.matmul(x, ops.tanh(x), transpose_y=True) * np.float32(0.25) + mask
    y = ops.matmul(ops.softmax(scores, axis=-1), x)
    scores = ops.matmul(y, ops.transpose(ops.sin(y), perm=[0, 1, 3, 2]))
    y = ops.matmul(ops.softmax(scores, axis=3), y)
    return y * ops.sigmoid(y)


def none(x: Any, mask: Any) -> Any:
    """Nearly: scores that something else reads, and a softmax along the other axis."""
    scores = ops.matmul(x, x, transpose_y=True) + mask
    y = ops.matmul(ops.softmax(scores, axis=-1), x) + ops.reduce_sum(scores)
    y = ops.matmul(ops.softmax(ops.matmul(y, y, transpose_y=True), axis=2), y)
    return y * ops.sigmoid(x)


@pytest.mark.parametrize(("network", "attentions", "silus"), [(attention, 2, 1), (none, 0, 0)])
def test_attention_and_silu_are_made_whole(network: Any, attentions: int, silus: int) -> None:
    model = cl.compile(
        network, x=cl.spec(1, 2, 5, 8), mask=cl.spec(5, 5), name="net", precision="fp32"
    )
    rng = np.random.default_rng(0)
    feeds = {"x": rng.random((1, 2, 5, 8), np.float32), "mask": rng.random((5, 5), np.float32)}
    whole = cl.edit(model).apply("fuse_silu").apply("fuse_attention").model
    kinds = [op.op for op in whole.info.ops]
    assert kinds.count("scaled_dot_product_attention") == attentions
    assert kinds.count("silu") == silus
    assert snr(model.predict(feeds)["output"], whole.predict(feeds)["output"]) > 100
