"""Properties over shapes that nobody chose: broadcasting, reductions, windows, slices."""

from __future__ import annotations

from typing import Any

import numpy as np
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
SIDES = st.integers(1, 5)


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
