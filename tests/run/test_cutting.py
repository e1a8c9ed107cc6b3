"""How many rows a program takes, and batches cut and joined so that no run has another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.program.graph import Dim
from coreml_lab.run.cutting import Sizes, cut, joined
from coreml_lab.run.nonfinite import overflowed
from coreml_lab.run.scheduler import Scheduler
from tests.run.test_scheduler import Fake, held

LISTED = Sizes(1, 8, (1, 2, 8))


@pytest.mark.parametrize(
    ("sizes", "rows", "fitted", "within"),
    [
        (Sizes(), 5, 5, 5),
        (Sizes(4, 64), 3, 4, 0),
        (Sizes(4, 64), 70, None, 64),
        (LISTED, 3, 8, 2),
        (LISTED, 9, None, 8),
    ],
)
def test_a_number_of_rows_becomes_one_that_a_program_takes(
    sizes: Sizes, rows: int, fitted: int | None, within: int
) -> None:
    assert (sizes.fitted(rows), sizes.within(rows)) == (fitted, within)


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(4, 64), LISTED])
@pytest.mark.parametrize(("count", "most"), [(10, 4), (8, 4), (11, 8), (9, 5), (3, 8)])
def test_what_is_cut_and_joined_is_whole_and_every_part_is_taken(
    sizes: Sizes, count: int, most: int
) -> None:
    x = {"x": np.arange(count, dtype=np.float32)}
    parts = cut(x, most, sizes)
    assert bool(parts) == (count > sizes.within(most) > 0)
    if parts:
        assert all(sizes.fitted(len(p["x"])) == len(p["x"]) <= most for p, _ in parts)
        np.testing.assert_array_equal(joined(parts)["x"], x["x"])


def test_slices_are_never_smaller_than_what_the_program_takes() -> None:
    with cl.configure(rows=4, rivals=False):
        model = cl.compile(ops.exp, x=cl.spec(Dim("n", 4, 64), 3), engine="portable")
    loaded: Any = model._executor._loaded
    whole, seen = loaded.run, list[int]()

    def run(inputs: Any, *state: Any) -> Any:
        seen.append(len(inputs["x"]))
        return whole(inputs, *state)

    x = np.random.default_rng(0).random((10, 3)).astype(np.float32)
    assert model.batched
    loaded.run = run
    (got,) = model.predict({"x": x}).values()
    np.testing.assert_allclose(got, np.exp(x), rtol=1e-6)
    assert seen == [4, 4, 4]


def enumerated(path: Path) -> Path:
    import coremltools as ct

    mb: Any = ct.converters.mil.Builder
    shapes = ct.EnumeratedShapes([(1, 4), (2, 4), (8, 4)], default=(1, 4))

    @mb.program(  # type: ignore[untyped-decorator]
        input_specs=[mb.TensorSpec((ct.converters.mil.mil.get_new_symbol(), 4))],
        opset_version=ct.target.iOS17,
    )
    def program(x: Any) -> Any:
        return mb.add(x=x, y=np.float32(1), name="y")

    model = ct.convert(
        program, inputs=[ct.TensorType("x", shapes)], compute_precision=ct.precision.FLOAT32
    )
    model.save(str(path))
    return path


def test_requests_are_joined_to_a_size_that_a_model_lists(tmp_path: Path) -> None:
    model = cl.load(enumerated(tmp_path / "listed.mlpackage"), engine="portable")
    loaded: Any = model._executor._loaded
    whole, seen = loaded.run, set[int]()

    def run(inputs: Any, *state: Any) -> Any:
        seen.add(len(inputs["x"]))
        return whole(inputs, *state)

    loaded.run = run
    with Scheduler(budget=0) as scheduler:
        fake: Any = Fake()
        held(scheduler, fake)
        futures = [scheduler.submit(model, {"x": np.full((1, 4), i, np.float32)}) for i in range(3)]
        fake.open.set()
        for i, future in enumerate(futures):
            (got,) = future.result(30).values()
            np.testing.assert_array_equal(got, np.full((1, 4), i + 1))
        assert scheduler.statistics().largest_batch == 3
    assert seen <= {1, 2, 8}
    assert 8 in seen


def test_what_overflows_beside_a_row_of_nan_is_seen() -> None:
    x = np.array([[np.nan], [3], [1]], np.float32)
    y = np.array([[np.nan], [np.inf], [1]], np.float32)
    assert overflowed({"x": x}, {"y": y}, apart=True)
    assert not overflowed({"x": x}, {"y": y}, apart=False)
    assert not overflowed({"x": x}, {"y": np.where(np.isinf(y), 1, y)}, apart=True)
    assert not overflowed({"n": np.array([1, 2])}, {"y": np.ones((2, 1), np.float32)}, apart=True)
    assert overflowed({"n": np.array([1, 2])}, {"y": y[1:]}, apart=True)


def test_requests_that_overflow_are_promoted_beside_one_that_is_nan() -> None:
    scale = np.eye(4, dtype=np.float32) * 300
    with cl.configure(recover=True), Scheduler(budget=0) as scheduler:
        model = cl.compile(
            lambda x: (x @ scale) * np.float32(300) * np.float32(1e-4),
            x=cl.spec(Dim("n", 1, 16), 4),
            precision="faithful",
            engine="portable",
        )
        assert model.batched
        fake: Any = Fake()
        held(scheduler, fake)
        nan, three = (
            scheduler.submit(model, {"x": np.full((1, 4), v, np.float32)}) for v in (np.nan, 3)
        )
        fake.open.set()
        (got,) = three.result(30).values()
        np.testing.assert_allclose(got, 27, rtol=1e-2)
        assert np.isnan(next(iter(nan.result(30).values()))).all()
        assert scheduler.statistics().largest_batch == 2
    assert "promoted" in repr(model)
