"""The least loss in a file of a size: bits are shared out among the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError
from coreml_lab.improve.actions import size
from coreml_lab.improve.optimizing import mixed
from tests.improve.nets import weights

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


def tied() -> Any:
    """Three linear layers; the first and the last hold the same weight."""
    shared, other = weights(64, 64), weights(64, 65)[:, :64]

    def network(x: Any) -> Any:
        y = cl.ops.tanh(cl.ops.linear(x, weight=shared))
        return cl.ops.linear(cl.ops.tanh(cl.ops.linear(y, weight=other)), weight=shared)

    return cl.compile(network, x=cl.spec(1, 64), name="tied")


@pytest.mark.parametrize("read", [False, True])
def test_weights_that_layers_share_get_the_same_bits_and_are_counted_once(*, read: bool) -> None:
    model = cl.load(tied().info.package) if read else tied()
    x = {"x": np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)}
    layers = mixed.measured(cl.edit(model), [x], 100)
    assert sorted(map(len, layers)) == [1, 2]
    assert all(row[""].bytes < 1.1 * 64 * 64 * 4 for row in layers.values())
    whole = size(Path(model.info.package))
    for budget in (0.4, 0.35, 0.3, 0.24):
        edit = cl.mixed_bits(model, x, budget, weight_threshold=100)
        assert size(edit.package) <= budget * whole
        bits = edit.steps[-1].action.arguments["by_name"]
        (pair,) = (names for names in layers if len(names) == 2)
        assert bits[pair[0]] == bits[pair[1]]
        assert edit.model.predict(x).keys() == model.predict(x).keys()


def test_a_model_with_states_is_measured_from_empty_ones() -> None:
    def step(x: Any, past: Any) -> Any:
        now = cl.ops.add(x, past)
        return {"y": cl.ops.linear(now, weight=weights(64, 64)), "now": cl.ops.mul(now, 0.5)}

    given = {"x": cl.spec(1, 64), "past": cl.spec(1, 64)}
    edit = cl.edit(cl.compile(step, name="cache", **given)).apply("states", pairs={"past": "now"})
    x = {"x": np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)}
    small = cl.mixed_bits(edit.model, x, 0.6, weight_threshold=100)
    assert size(small.package) <= 0.6 * size(edit.package)
    assert small.model.states.keys() == {"past"}
