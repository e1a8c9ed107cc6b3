"""Numbers as Python writes them: taken where they are meant, and one error where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError

NOT_NUMBERS = [["1", "2", "3"], ["a", "b", "c"], [None, 1, 2], [1j, 2, 3], [object()] * 3]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {
        kind: cl.compile(lambda x: x + 1, x=cl.spec(3, dtype=kind), name="net", engine="reference")
        for kind in ("fp32", "int32")
    }


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("fp32", [0.5, 1, True], [1.5, 2, 2]),
        ("fp32", (1, 2, 3), [2, 3, 4]),
        ("fp32", [np.float32(1), np.float64(2), np.int64(3)], [2, 3, 4]),
        ("int32", [1, 2, 3], [2, 3, 4]),
        ("int32", [True, False, True], [2, 1, 2]),
    ],
)
def test_numbers_in_lists_are_taken(
    models: dict[str, Any], kind: str, value: Any, wanted: Any
) -> None:
    (found,) = models[kind].predict({"x": value}).values()
    assert found.tolist() == wanted


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("int32", value) for value in ([0.7, 1.9, -1.5], [1.0, 2.0, 3.0], *NOT_NUMBERS)),
        *(("fp32", value) for value in ([10**400, 1, 2], *NOT_NUMBERS)),
    ],
)
def test_other_lists_are_refused_as_arrays_of_them_are(
    models: dict[str, Any], kind: str, value: Any
) -> None:
    dtype = {"fp32": "float32"}.get(kind, kind)
    with pytest.raises(InputError, match=f"net: input 'x' is .*, not {dtype}") as caught:
        models[kind].predict({"x": value})
    assert dtype in caught.value.hint


@pytest.mark.parametrize("kind", ["fp32", "int32"])
def test_a_list_of_nothing_has_no_type(kind: str) -> None:
    model = cl.compile(lambda x: x + 1, x=cl.spec(cl.Dim("n", 0, 4), dtype=kind), name="net")
    feeds = model.feeds({"x": []})
    assert feeds["x"].shape == (0,)
    assert feeds["x"].dtype == {"fp32": np.float32}.get(kind, np.int32)
