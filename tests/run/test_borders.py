"""What crosses a model's border: counted where it is copied, refused where it does not fit."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import ops
from coreml_lab.errors import InputError
from coreml_lab.run.ledger import LEDGER, Moved
from coreml_lab.run.steps.program import ROOM

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
X = np.ones((10, 10), np.float32)


def moved(model: cl.Model, **inputs: Any) -> Moved:
    """What one prediction writes on the CPU's page."""
    account = LEDGER.account(model.device)
    assert account is LEDGER.account("cpu")
    before = account.total
    model.predict(inputs)
    return Moved(*(now - then for now, then in zip(account.total, before, strict=True)))


@needs_torch
def test_pytorch_copies_what_must_not_be_written_to_and_counts_it() -> None:
    model = cl.compile(lambda x: x * 2, x=cl.spec(10, 10), device="cpu", engine="pytorch")
    assert moved(model, x=X) == Moved(shared=2 * X.nbytes, shares=2)
    fixed = X.copy()
    fixed.flags.writeable = False
    expected = Moved(sent=X.nbytes, copies=1, shared=X.nbytes, shares=1)
    assert moved(model, x=fixed) == expected
    assert moved(model, x=cl.tensor(X).numpy()) == expected
    assert moved(model, x=X) == Moved(shared=2 * X.nbytes, shares=2)


@pytest.mark.parametrize("engine", ["reference", pytest.param("pytorch", marks=needs_torch)])
def test_element_types_that_core_ml_has_no_border_for_are_counted_copies(engine: str) -> None:
    def net(x: cl.Tensor) -> Any:
        return ops.logical_not(x)

    model = cl.compile(net, x=cl.spec(100, dtype=bool), device="cpu", engine=engine)
    found = moved(model, x=np.ones(100, bool))
    assert (found.sent, found.received, found.copies) == (400, 100, 2)


@needs_torch
def test_a_small_result_does_not_keep_what_it_is_a_part_of() -> None:
    torch = pytest.importorskip("torch")
    size = int((ROOM * 4) ** 0.5)
    model = cl.compile(
        lambda x: {"part": (x * 2)[0:1], "most": (x * 3)[1:]},
        x=cl.spec(size, size),
        device="cpu",
        engine="pytorch",
    )
    found = model.predict({"x": np.ones((size, size), np.float32)})
    np.testing.assert_array_equal(found["part"], np.full((1, size), 2))
    for array in found.values():
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        kept = owner.untyped_storage().nbytes() if isinstance(owner, torch.Tensor) else 0
        assert kept <= 2 * array.nbytes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([2**40 + 5, 0]), "'x' holds 0 to 1099511627781, which does not fit int32"),
        (np.array([1, -(2**31) - 1]), "-2147483649"),
        ([3_000_000_000, 0], "3000000000"),
        ([3e9, 0.0], "is float64, not int32"),
        ([float("nan"), 0.0], "is float64, not int32"),
    ],
)
def test_numbers_that_do_not_fit_an_input_are_refused(given: Any, message: str) -> None:
    model = cl.compile(lambda x: x + 1, x=cl.spec(2, dtype=np.int32))
    with pytest.raises(InputError) as caught:
        model.predict({"x": given})
    assert message in caught.value.message
    assert caught.value.hint


def test_wider_whole_numbers_that_fit_an_input_are_taken() -> None:
    model = cl.compile(lambda x: x - 1, x=cl.spec(2, dtype=np.int32))
    for given in (np.array([2**31 - 1, 0]), [2**31 - 1, 0]):
        (found,) = model.predict({"x": given}).values()
        assert found.tolist() == [2**31 - 2, -1]
