"""Models of scikit-learn as pipelines of coremltools' converters, against scikit-learn itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.sklearn_models import MODELS, NAMES

# scikit-learn couples probabilities of two classes, too; Core ML's format has one pair for them.
COUPLED = {"nu_svc_2_probable": 0.02}
# coremltools writes sums over a forest's trees where there are three classes.
TREES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model and its answers, written in a process of its own."""
    made = tmp_path_factory.mktemp("sklearn")
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.sklearn_models", str(made)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return made


def examples(model: cl.Model, x: Any) -> list[dict[str, Any]]:
    """Rows as a model takes them: a number per feature, or all in one array."""
    if set(model.inputs) == set(NAMES):
        return [dict(zip(NAMES, row, strict=True)) for row in x]
    return [{next(iter(model.inputs)): row} for row in x]


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_answers_as_scikit_learn(name: str, folder: Path) -> None:
    with np.load(folder / f"{name}.npz") as held:
        want = dict(held)
    model = cl.load(folder / f"{name}.mlmodel")
    found = model.predict(examples(model, want["x"]))
    told = [next(v for v in each.values() if not isinstance(v, dict)) for each in found]
    if want["y"].dtype.kind == "f":
        np.testing.assert_allclose(np.ravel(told), want["y"], rtol=1e-9, atol=1e-9)
        return
    assert told == want["y"].tolist()
    if "chances" in want and len(found[0]) > 1:
        chances = [next(list(v.values()) for v in f.values() if isinstance(v, dict)) for f in found]
        scale = TREES if name == "forest_3" else 1
        close = COUPLED.get(name, 1e-6)
        np.testing.assert_allclose(np.array(chances) / scale, want["chances"], rtol=0, atol=close)
