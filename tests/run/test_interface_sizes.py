"""Flexible sizes at the border: what fits passes as it is, what does not is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreml_lab.errors import InputError
from coreml_lab.records import PortInfo, ProgramInfo
from coreml_lab.run.interface import Interface
from coreml_lab.run.ledger import LEDGER


def interface() -> Interface:
    """Two inputs that share a size, and each has one of its own."""
    ports = (PortInfo("x", ("n", "k"), "fp32"), PortInfo("y", ("n", "m"), "fp32"))
    bounds = {"n": (1, 8), "k": (2, 4), "m": (3, 0)}
    return Interface(ProgramInfo("net", "", "", "fp32", ports, (), (), 0, dims=bounds))


def pair(x: tuple[int, ...], y: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"x": np.zeros(x, np.float32), "y": np.zeros(y, np.float32)}


@pytest.mark.parametrize("sizes", [((1, 2), (1, 3)), ((8, 4), (8, 3000)), ((5, 3), (5, 3))])
def test_arrays_of_fitting_sizes_pass_as_they_are_and_nothing_is_copied(
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    given = pair(*sizes)
    before = LEDGER.account("cpu").total
    fed = interface().feeds(given)
    assert all(fed[name] is array for name, array in given.items())
    assert LEDGER.account("cpu").total == before


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        ((9, 2), (9, 3), "x"),  # above the bound
        ((0, 2), (0, 3), "x"),  # below it
        ((4, 1), (4, 3), "x"),
        ((4, 5), (4, 3), "x"),
        ((4, 2), (4, 2), "y"),  # below that of a size without an upper one
        ((4, 2), (5, 3), "y"),  # a shared size that differs
        ((4, 2, 1), (4, 3), "x"),  # more dimensions
        ((4,), (4, 3), "x"),  # fewer
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["as declared", "wider"])
def test_sizes_that_do_not_fit_are_refused_by_name(
    x: tuple[int, ...], y: tuple[int, ...], named: str, dtype: type
) -> None:
    given = {name: array.astype(dtype) for name, array in pair(x, y).items()}
    with pytest.raises(InputError, match=f"input '{named}' has shape"):
        interface().feeds(given)


def test_wider_arrays_and_lists_of_fitting_sizes_are_converted() -> None:
    given: dict[str, Any] = {"x": [[1.0, 2.0]], "y": np.ones((1, 3))}
    before = LEDGER.account("cpu").total.copies
    fed = interface().feeds(given)
    assert {name: array.dtype for name, array in fed.items()} == dict.fromkeys("xy", np.float32)
    assert LEDGER.account("cpu").total.copies == before + 2
