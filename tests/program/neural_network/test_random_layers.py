"""Random layers of classic networks: their laws, shapes, seeds, and draws by probability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import ModelError
from tests.support.classic import few, save, single

SHAPE = (40, 50)
LAWS: dict[str, tuple[dict[str, float], float, float]] = {
    "randomNormal": ({"mean": 2, "stdDev": 3}, 2, 3),
    "randomUniform": ({"minVal": -1, "maxVal": 3}, 1, 4 / np.sqrt(12)),
    "randomBernoulli": ({"prob": 0.3}, 0.3, np.sqrt(0.21)),
}
# How a layer is told its shape: its input and its own parameter.
SHAPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Like": (np.zeros(SHAPE, np.float32), {}),
    "Static": (None, {"outputShape": SHAPE}),
    "Dynamic": (few(*SHAPE), {}),
}


def drawn(kind: str, given: dict[str, Any], x: Any, folder: Path) -> Any:
    """What a layer draws, added to the network's input so that the network has one."""
    reads = [] if x is None else ["x"]
    feeds = {"zero": few(0)} | ({} if x is None else {"x": x})
    layers = [(kind, given, reads, ["d"]), ("addBroadcastable", {}, ["d", "zero"], ["y"])]
    spec = single(layers, {k: v.shape for k, v in feeds.items()}, ["y"])
    return cl.load(save(spec, folder)).predict(feeds)["y"]


@pytest.mark.parametrize("how", SHAPES)
@pytest.mark.parametrize("law", LAWS)
def test_a_random_layer_draws_by_its_law_in_its_shape(law: str, how: str, tmp_path: Path) -> None:
    given, mean, deviation = LAWS[law]
    x, shape = SHAPES[how]
    made = drawn(f"{law}{how}", given | shape | {"seed": 7}, x, tmp_path)
    assert made.shape == SHAPE
    # Five standard errors of 2,000 draws.
    assert abs(made.mean() - mean) < 5 * deviation / np.sqrt(made.size)
    assert abs(made.std() - deviation) < 5 * deviation / np.sqrt(made.size)


@pytest.mark.parametrize("law", LAWS)
def test_a_random_layer_draws_the_same_for_a_seed(law: str, tmp_path: Path) -> None:
    given = LAWS[law][0] | SHAPES["Static"][1]
    made, again, other = (
        drawn(f"{law}Static", given | {"seed": seed}, None, tmp_path) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(made, again)
    assert not np.array_equal(made, other)


@pytest.mark.parametrize("logits", [False, True])
def test_categorical_distribution_draws_by_the_probabilities(logits: bool, tmp_path: Path) -> None:
    chances = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0]], np.float32)
    with np.errstate(divide="ignore"):
        x = np.maximum(np.log(chances), -1e4) if logits else chances
    given = {"numSamples": 2000, "isLogits": logits, "seed": 3}
    made = drawn("categoricalDistribution", given, x, tmp_path)
    assert made.shape == (2, 2000)
    for row, wanted in zip(made, chances, strict=True):
        part = np.bincount(row.astype(int), minlength=3) / 2000
        np.testing.assert_allclose(part, wanted, atol=5 * 0.5 / np.sqrt(2000))
    assert (made[1] < 2).all()


def test_a_shape_of_a_million_sizes_is_refused_before_each_gets_a_symbol(tmp_path: Path) -> None:
    given = LAWS["randomNormal"][0]
    with pytest.raises(ModelError, match="has 1000000 axes"):
        drawn("randomNormalDynamic", given, np.zeros(1_000_000, np.float32), tmp_path)
