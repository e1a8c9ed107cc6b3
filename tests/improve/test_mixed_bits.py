"""The least loss in a file of a size: bits are shared out among the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError
from coreml_lab.improve.actions import size

DATA = [cl.zoo.inputs("digits", seed=seed) for seed in range(4)]
FROM = {"weight_threshold": 100}


@pytest.fixture(scope="module")
def model() -> Any:
    return cl.zoo.digits()


def lost(model: Any, changed: Any) -> float:
    """Relative L2 error over all samples."""
    pairs = [(model.predict(x), changed.predict(x)) for x in DATA]
    (name,) = pairs[0][0]
    want, got = (np.stack([p[i][name] for p in pairs]) for i in (0, 1))
    return float(np.linalg.norm(want - got) / np.linalg.norm(want))


def test_the_file_fits_and_loses_less_than_the_same_bits_for_all(model: Any) -> None:
    whole = size(Path(model.info.package))
    four = cl.edit(model).apply("palettize_weights", nbits=4, mode="uniform", **FROM)
    room = size(four.package) + 1500
    small, half = (cl.mixed_bits(model, DATA, b, **FROM) for b in (room, 0.5))
    assert size(small.package) <= room
    assert size(half.package) <= whole / 2
    losses = [lost(model, edit.model) for edit in (half, small, four)]
    assert losses[0] < losses[1] < losses[2]
    assert size(Path(model.info.package)) == whole


def test_where_all_fits_nothing_is_done_and_where_nothing_fits_it_is_said(model: Any) -> None:
    assert cl.mixed_bits(model, DATA, 1.0).steps == ()
    with pytest.raises(InputError, match="the budget is 309") as caught:
        cl.mixed_bits(model, DATA[0], 309, **FROM)
    assert "allow more" in caught.value.hint
    with pytest.raises(InputError, match="needs data"):
        cl.mixed_bits(model, [], 0.5)
    with pytest.raises(InputError, match="budget=-3"):
        cl.mixed_bits(model, DATA, -3)
    bare = cl.compile(cl.ops.relu, name="bare", x=cl.spec(1, 4))
    with pytest.raises(InputError, match="bare has no weights"):
        cl.mixed_bits(bare, {"x": np.ones((1, 4), np.float32)}, 0.5)
