"""The friendly spellings against NumPy and PyTorch, all in one program, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import ShapeError
from coreml_lab.program import ops
from coreml_lab.program.graph import Dim
from coreml_lab.program.ops import sugar
from coreml_lab.program.ops.samples import normal, positive
from coreml_lab.program.tensors import placeholder

IMAGES = normal(2, 4, 9, 10)
SIGNAL = normal(2, 4, 11, seed=1)
VOLUME = normal(1, 2, 5, 6, 7, seed=2)
FEEDS = {"images": IMAGES, "signal": SIGNAL, "volume": VOLUME}
FILTERS = normal(6, 4, 3, 3, seed=3)
HALF_FILTERS = normal(6, 2, 3, 3, seed=4)
OWN_FILTERS = normal(8, 1, 3, 3, seed=5)
SPREAD = normal(4, 3, 3, 3, seed=6)
BIAS = normal(6, seed=7)
CHANNEL = [normal(4, seed=8), positive(4, seed=9), normal(4, seed=10), normal(4, seed=11)]

Build = Callable[[Any], Any]
# What we spell -> the same in NumPy.
IN_NUMPY: dict[str, tuple[str, Build, Build]] = {
    "add": ("images", lambda x: ops.elementwise_add(x, 2.5), lambda a: a + 2.5),
    "sub": ("images", lambda x: ops.elementwise_sub(x, IMAGES[:1]), lambda a: a - IMAGES[:1]),
    "mul": ("images", lambda x: ops.elementwise_mul(x, x), lambda a: a * a),
    "div": ("images", lambda x: ops.elementwise_div(x, CHANNEL[1][:, None, None]),
            lambda a: a / CHANNEL[1][:, None, None]),
    "matmul": ("images", lambda x: ops.batch_matmul(x, x, transpose_y=True),
               lambda a: a @ a.swapaxes(-1, -2)),
    "sum": ("images", ops.sum, np.sum),
    "sum_axes": ("images", lambda x: ops.sum(x, [1, -1]), lambda a: a.sum((1, 3))),
    "mean": ("images", lambda x: ops.mean(x, (0, 2), keep_dims=True),
             lambda a: a.mean((0, 2), keepdims=True)),
    "max": ("images", lambda x: ops.max(x, -1), lambda a: a.max(-1)),
    "min": ("images", lambda x: ops.min(x, [2, 3]), lambda a: a.min((2, 3))),
    "prod": ("signal", lambda x: ops.prod(x, [1], keep_dims=True),
             lambda a: a.prod(1, keepdims=True)),
    "var": ("images", lambda x: ops.var(x, [1, 3]), lambda a: a.var((1, 3))),
    "var_ddof": ("images", lambda x: ops.var(x, 2, ddof=1, keep_dims=True),
                 lambda a: a.var(2, ddof=1, keepdims=True)),
    "std": ("images", lambda x: ops.std(x, [0, 1, 2]), lambda a: a.std((0, 1, 2))),
    "std_all": ("volume", lambda x: ops.std(x, ddof=1), lambda a: a.std(ddof=1)),
    "flatten": ("images", ops.flatten, lambda a: a.reshape(2, -1)),
    "flatten_some": ("volume", lambda x: ops.flatten(x, 2, -2), lambda a: a.reshape(1, 2, 30, 7)),
    "global_avg": ("images", ops.global_avg_pool2d, lambda a: a.mean((2, 3), keepdims=True)),
    "global_max": ("images", ops.global_max_pool2d, lambda a: a.max((2, 3), keepdims=True)),
}  # fmt: skip

# What we spell -> the same in PyTorch: a name in torch.nn.functional, and its arguments.
IN_TORCH: dict[str, tuple[str, Build, str, tuple[Any, ...], dict[str, Any]]] = {
    "conv1d": ("signal", lambda x: ops.conv1d(x, FILTERS[..., 0], BIAS, stride=2, padding=1),
               "conv1d", (FILTERS[..., 0], BIAS), {"stride": 2, "padding": 1}),
    "conv2d": ("images", lambda x: ops.conv2d(x, FILTERS), "conv2d", (FILTERS,), {}),
    "conv2d_groups": ("images", lambda x: ops.conv2d(
                          x, HALF_FILTERS, BIAS, stride=(2, 1), padding=(1, 2), groups=2),
                      "conv2d", (HALF_FILTERS, BIAS),
                      {"stride": (2, 1), "padding": (1, 2), "groups": 2}),
    "conv2d_same": ("images", lambda x: ops.conv2d(x, FILTERS, padding="same", dilation=2),
                    "conv2d", (FILTERS,), {"padding": "same", "dilation": 2}),
    "conv3d": ("volume", lambda x: ops.conv3d(x, HALF_FILTERS[..., None], padding=1),
               "conv3d", (HALF_FILTERS[..., None],), {"padding": 1}),
    "depthwise": ("images", lambda x: ops.depthwise_conv2d(x, OWN_FILTERS, padding=1, stride=2),
                  "conv2d", (OWN_FILTERS,), {"padding": 1, "stride": 2, "groups": 4}),
    "transpose": ("images", lambda x: ops.conv2d_transpose(x, SPREAD, BIAS[:3], stride=2),
                  "conv_transpose2d", (SPREAD, BIAS[:3]), {"stride": 2}),
    "transpose_kept": ("images", lambda x: ops.conv2d_transpose(
                           x, SPREAD, BIAS[:3], stride=2, padding=1, output_padding=1),
                       "conv_transpose2d", (SPREAD, BIAS[:3]),
                       {"stride": 2, "padding": 1, "output_padding": 1}),
    "transpose_beyond": ("images", lambda x: ops.conv2d_transpose(
                             x, SPREAD, BIAS[:6], stride=3, output_padding=(2, 1), groups=2),
                         "conv_transpose2d", (SPREAD, BIAS[:6]),
                         {"stride": 3, "output_padding": (2, 1), "groups": 2}),
    "max_pool": ("images", lambda x: ops.max_pool2d(x, 3, 2, 1), "max_pool2d", (3, 2, 1), {}),
    "max_pool_ceil": ("images", lambda x: ops.max_pool2d(x, (2, 3), ceil_mode=True),
                      "max_pool2d", ((2, 3),), {"ceil_mode": True}),
    "avg_pool": ("images", lambda x: ops.avg_pool2d(x, 3, 2, 1), "avg_pool2d", (3, 2, 1), {}),
    "avg_pool_inside": ("images", lambda x: ops.avg_pool2d(
                            x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
                        "avg_pool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
    "group_norm": ("images", lambda x: ops.group_norm(x, 2, *CHANNEL[2:], eps=0.01),
                   "group_norm", (2, *CHANNEL[2:]), {"eps": 0.01}),
    "group_norm_plain": ("signal", lambda x: ops.group_norm(x, 4), "group_norm", (4,), {}),
    "batch_norm": ("images", lambda x: ops.batch_norm2d(x, *CHANNEL), "batch_norm", (*CHANNEL,),
                   {}),
    **{f"adaptive_{kind}_{i}": ("images", lambda x, k=kind, s=size: getattr(
                                   ops, f"adaptive_{k}_pool2d")(x, s),
                                f"adaptive_{kind}_pool2d", (size,), {})
       for kind in ("avg", "max")
       for i, size in enumerate([1, (3, 5), (4, 7), (None, 3), (12, 13), (9, 10), (1, 4)])},
}  # fmt: skip


@pytest.fixture(scope="module", params=["portable", "reference"])
def results(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    def everything(images: Any, signal: Any, volume: Any) -> dict[str, Any]:
        given = {"images": images, "signal": signal, "volume": volume}
        return {name: case[1](given[case[0]]) for name, case in {**IN_NUMPY, **IN_TORCH}.items()}

    specs = {k: cl.spec(*v.shape) for k, v in FEEDS.items()}
    model = cl.compile(everything, engine=request.param, precision="fp32", **specs)
    return model.predict(FEEDS)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_spelling_means_what_numpy_means(name: str, results: dict[str, np.ndarray]) -> None:
    source, _, oracle = IN_NUMPY[name]
    want = oracle(FEEDS[source])
    assert results[name].shape == np.shape(want)
    np.testing.assert_allclose(results[name], want, rtol=2e-5, atol=2e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", IN_TORCH)
def test_spelling_means_what_pytorch_means(name: str, results: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    source, _, function, arguments, options = IN_TORCH[name]
    given = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    want = getattr(torch.nn.functional, function)(
        torch.from_numpy(FEEDS[source]), *given, **options
    ).numpy()
    assert results[name].shape == want.shape
    np.testing.assert_allclose(results[name], want, rtol=2e-5, atol=2e-5)


def test_same_padding_gives_size_over_stride_windows() -> None:
    x = cl.tensor(IMAGES)
    assert ops.conv2d(x, FILTERS, stride=2, padding="same").shape == (2, 6, 5, 5)
    assert ops.max_pool2d(x, 3, 2, "same_lower").shape == (2, 4, 5, 5)
    assert ops.conv2d_transpose(x, SPREAD, stride=2, padding="same").shape == (2, 3, 18, 20)


def test_arrays_are_taken_where_tensors_are() -> None:
    assert ops.conv2d(IMAGES, cl.tensor(FILTERS)).shape == (2, 6, 7, 8)
    assert ops.flatten(IMAGES).shape == (2, 360)


def test_mean_of_integers_is_a_real_number() -> None:
    assert ops.mean(np.array([1, 2], np.int32)).dtype == np.float32


def test_a_convolution_may_have_a_computed_weight() -> None:
    weight = placeholder("w", cl.spec(6, 4, 3, 3))
    y = ops.conv2d(placeholder("x", cl.spec(2, 4, 9, 10)), ops.relu(weight))
    assert y.shape == (2, 6, 7, 8)
    assert y.value.node.inputs["weight"].node.op == "relu"


def test_a_flexible_batch_goes_through_group_norm_and_flatten() -> None:
    x = placeholder("x", cl.spec(Dim("n"), 4, 6, 6))
    assert ops.flatten(ops.group_norm(x, 2)).shape[1] == 144


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: ops.conv2d(x[0] if isinstance(x, np.ndarray) else x, FILTERS), "not 4"),
        (lambda x: ops.conv2d(x, FILTERS, stride=0), "stride=0"),
        (lambda x: ops.conv2d(x, FILTERS, padding=(1, 2, 3)), "padding"),
        (lambda x: ops.conv2d(x, FILTERS, padding="around"), "around"),
        (lambda x: ops.conv2d(x, FILTERS[:, :3]), "conv"),
        (lambda x: ops.max_pool2d(x, 20), "size"),
        (lambda x: ops.adaptive_avg_pool2d(x, (1, 2, 3)), "output_size"),
        (lambda x: ops.group_norm(x, 3), "num_groups=3"),
        (lambda x: ops.sum(x, 7), "reduce_sum"),
        (lambda x: ops.var(x, 1, ddof=4), "only 4 elements"),
        (lambda x: ops.flatten(x, 3, 1), "flatten"),
        (lambda x: ops.conv2d_transpose(x, SPREAD, padding="same_lower"), "conv_transpose"),
    ],
)
def test_arguments_that_do_not_fit_are_one_error_with_a_hint(call: Build, said: str) -> None:
    with pytest.raises(ShapeError, match=said) as caught:
        call(IMAGES)
    assert caught.value.hint


def test_sizes_that_must_be_known_are_asked_for() -> None:
    x = placeholder("x", cl.spec(1, 4, Dim("h"), Dim("w")))
    with pytest.raises(ShapeError, match="sizes of dimensions"):
        ops.adaptive_avg_pool2d(x, 3)
    with pytest.raises(ShapeError, match="more than one dimension"):
        ops.flatten(x, 0, 1)
    assert ops.adaptive_max_pool2d(x, 1).shape == (1, 4, 1, 1)


def test_every_spelling_is_reachable_and_hides_no_operation_of_mil() -> None:
    assert not set(sugar.__all__) & set(ops.OPS)
    assert all(callable(getattr(ops, name)) for name in sugar.__all__)
    assert set(sugar.__all__) <= set(dir(ops))


def windows_that_follow_the_size(x: Any) -> dict[str, Any]:
    """Ops whose padding depends on sizes, in each form the lowerings tell apart."""
    filters, spread = normal(6, 4, 3, 3, seed=12), normal(4, 2, 3, 3, seed=13)
    two = {"strides": [2, 2]}
    same, lower = {"pad_type": "same"}, {"pad_type": "same_lower"}
    pool = {"kernel_sizes": [3, 3], **two}
    return {
        "conv": ops.conv(x, filters, **two, **same),
        "conv_lower": ops.conv(x, filters, **two, **lower),
        "conv_dilated": ops.conv(x, filters, **two, **same, dilations=[2, 2]),
        "conv_dilated_lower": ops.conv(x, filters, strides=[3, 2], **lower, dilations=[2, 1]),
        "conv_unit_stride": ops.conv(x, filters, **same, dilations=[2, 2]),
        "conv_transpose": ops.conv_transpose(x, spread, **two, **same),
        "max_pool": ops.max_pool(x, **pool, **same),
        "avg_pool": ops.avg_pool(x, **pool, **lower),
        "l2_pool": ops.l2_pool(x, **pool, **same),
        "instance_norm": ops.instance_norm(x),
        "layer_norm": ops.layer_norm(x, axes=[2, 3]),
    }


def test_flexible_sizes_give_what_fixed_sizes_give() -> None:
    flexible = cl.spec(2, 4, Dim("h", 4, 32), Dim("w", 4, 32))
    model = cl.compile(windows_that_follow_the_size, x=flexible, engine="portable")
    fixed = cl.compile(
        windows_that_follow_the_size, x=cl.spec(*IMAGES.shape), engine="reference"
    ).predict({"x": IMAGES})
    for name, got in model.predict({"x": IMAGES}).items():
        np.testing.assert_allclose(got, fixed[name], rtol=1e-5, atol=1e-5, err_msg=name)
