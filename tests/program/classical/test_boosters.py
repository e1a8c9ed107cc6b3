"""Boosted trees of XGBoost and LightGBM, kept with those libraries' own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.boosters import FILE, NAMES, TARGETS

# XGBoost adds its leaves up in 32 bits.
CLOSE = {"xgboost": 1e-6, "lightgbm": 1e-9}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("library", CLOSE)
def test_boosted_trees_answer_as_their_library(library: str, name: str, tmp_path: Path) -> None:
    with np.load(FILE) as held:
        x, want = held["x"], held[f"{library}_{name}.answers"]
        file = tmp_path / "model.mlmodel"
        file.write_bytes(held[f"{library}_{name}.mlmodel"].tobytes())
    assert np.isnan(x).any()
    model = cl.load(file)
    found = model.predict([_fed(model, row) for row in x])
    if name != "regressor":
        labels = [each["y"] for each in found]
        assert labels == want.argmax(axis=1).tolist()
    got = [list(f["classProbability"].values()) if name != "regressor" else f["y"] for f in found]
    np.testing.assert_allclose(got, want, rtol=CLOSE[library], atol=CLOSE[library])


def _fed(model: cl.Model, row: Any) -> dict[str, Any]:
    return dict(zip(NAMES, row, strict=True)) if len(model.inputs) > 1 else {"x": row}
