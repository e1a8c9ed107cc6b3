"""Properties over shapes that nobody chose, of everything whose result depends on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import coreml_lab as cl

# Each new shape is compiled: tens of milliseconds an example, so few of them, and always the same.
FEW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FEWER = settings(FEW, max_examples=6)  # each on two engines
SIDES = st.integers(1, 5)


@pytest.fixture(scope="module", autouse=True)
def _engines_are_imported() -> None:
    """One of their packages raises the recursion limit, which hypothesis watches."""
    (cl.tensor([1.0]) + 1).numpy()


def filled(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Standard normals of a shape."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@FEW
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4))
def test_arithmetic_broadcasts_as_numpy_does(shapes: Any) -> None:
    a, b = (filled(shape, i) for i, shape in enumerate(shapes.input_shapes))
    got = (cl.tensor(a) + cl.tensor(b)).numpy()
    assert got.shape == shapes.result_shape
    np.testing.assert_allclose(got, a + b, atol=1e-6)


@FEW
@given(st.lists(SIDES, min_size=1, max_size=4), st.data())
def test_reductions_over_any_axes_are_numpys(shape: list[int], data: Any) -> None:
    axes = data.draw(
        st.lists(
            st.integers(-len(shape), len(shape) - 1), min_size=1, unique_by=lambda a: a % len(shape)
        )
    )
    keep = data.draw(st.booleans())
    x = filled(tuple(shape))
    got = cl.ops.reduce_sum(cl.tensor(x), axes=axes, keep_dims=keep).numpy()
    np.testing.assert_allclose(got, x.sum(tuple(axes), keepdims=keep), atol=1e-5)


@FEW
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    groups=st.sampled_from([1, 2]),
)
def test_a_convolution_of_any_shape_agrees_with_its_definition(
    size: Any, kernel: Any, stride: int, padding: int, groups: int
) -> None:
    image, weight = filled((1, 4, *size)), filled((6, 4 // groups, *kernel), 1)
    arms = [
        cl.ops.conv2d(
            cl.tensor(image, device=device), weight, stride=stride, padding=padding, groups=groups
        ).numpy()
        for device in ("coreml", "cpu")
    ]
    np.testing.assert_allclose(*arms, atol=1e-5)
    assert arms[0].shape[2:] == tuple(
        (n + 2 * padding - k) // stride + 1 for n, k in zip(size, kernel, strict=True)
    )


@FEW
@given(st.lists(st.integers(2, 6), min_size=1, max_size=3), st.data())
def test_slices_are_numpys(shape: list[int], data: Any) -> None:
    x, index = filled(tuple(shape)), []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start + 1, n))
        index.append(slice(start, stop, data.draw(st.integers(1, 3))))
    np.testing.assert_array_equal(cl.tensor(x)[tuple(index)].numpy(), x[tuple(index)])


def agreed(make: Any, *operands: Any, atol: float = 1e-5) -> Any:
    """What an expression is on the portable and on the reference engine, which must agree."""
    arms = [
        make(*(cl.tensor(x, device=device) for x in operands)).numpy()
        for device in ("coreml", "cpu")
    ]
    np.testing.assert_allclose(*arms, atol=atol)
    return arms[0]


@FEWER
@given(
    batches=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3),
    sides=st.tuples(SIDES, SIDES, SIDES),
)
def test_matrix_products_broadcast_as_numpys_do(batches: Any, sides: Any) -> None:
    m, k, n = sides
    a, b = (
        filled((*s, *e), i)
        for i, (s, e) in enumerate(zip(batches.input_shapes, ((m, k), (k, n)), strict=True))
    )
    np.testing.assert_allclose(agreed(lambda x, y: x @ y, a, b), a @ b, atol=1e-5)


@FEWER
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    pad=st.tuples(*[st.integers(0, 1)] * 4),
    kind=st.sampled_from(["max_pool", "avg_pool", "l2_pool"]),
)
def test_pooling_of_any_window_agrees_with_its_definition(
    size: Any, kernel: Any, stride: int, pad: Any, kind: str
) -> None:
    run = getattr(cl.ops, kind)
    # A window may not lie in the padding alone.
    pads = [min(p, kernel[i // 2] - 1) for i, p in enumerate(pad)]
    got = agreed(
        lambda x: run(
            x, kernel_sizes=list(kernel), strides=[stride] * 2, pad_type="custom", pad=pads
        ),
        filled((1, 2, *size)),
    )
    assert got.shape[2:] == tuple(
        (n + pads[2 * i] + pads[2 * i + 1] - kernel[i]) // stride + 1 for i, n in enumerate(size)
    )


@FEWER
@given(st.lists(SIDES, min_size=1, max_size=4), st.data())
def test_gathers_and_scatters_along_any_axis_are_numpys(shape: list[int], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=4)), np.int32)
    x = filled(tuple(shape))
    picked = np.take(x, places, axis)
    got = agreed(lambda t, i: cl.ops.gather(t, i, axis=axis), x, places)
    np.testing.assert_array_equal(got, picked)
    want = np.moveaxis(x.copy(), axis, 0)
    np.add.at(want, places, np.moveaxis(picked, axis, 0))
    got = agreed(lambda t, i, u: cl.ops.scatter(t, i, u, axis=axis, mode="add"), x, places, picked)
    np.testing.assert_allclose(got, np.moveaxis(want, 0, axis), atol=1e-5)


@FEWER
@given(st.lists(SIDES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_transposes_and_reshapes_of_any_rank_are_numpys(shape: list[int], random: Any) -> None:
    x, order = filled(tuple(shape)), list(range(len(shape)))
    random.shuffle(order)
    moved = x.transpose(order)
    cut = random.randint(0, len(shape) - 1)
    wanted = [*moved.shape[:cut], -1]
    got = agreed(lambda t: cl.ops.reshape(cl.ops.transpose(t, perm=order), wanted), x)
    np.testing.assert_array_equal(got, moved.reshape(wanted))


@FEWER
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    wanted=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    mode=st.sampled_from(
        ["DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS"]
    ),
)
def test_images_resized_to_any_size_agree_with_the_definition(
    size: Any, wanted: Any, mode: str
) -> None:
    height, width = wanted
    got = agreed(
        lambda x: cl.ops.resize_bilinear(
            x, target_size_height=height, target_size_width=width, sampling_mode=mode
        ),
        filled((1, 2, *size)),
    )
    assert got.shape == (1, 2, *wanted)
    corner = filled((1, 2, *size)) * 0 + 3
    np.testing.assert_allclose(
        cl.ops.resize_bilinear(
            cl.tensor(corner),
            target_size_height=height,
            target_size_width=width,
            sampling_mode=mode,
        ).numpy(),
        np.full((1, 2, *wanted), 3, np.float32),
        atol=1e-5,
    )
