"""Every type of classical model against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest

from coreml_lab.program.classical.registry import MODEL_TYPES
from tests.program.classical import forests, memories, predictors, transforming
from tests.support.classical import ModelCase, assert_same, load

# docs/layers.py counts them, too.
CASES: list[ModelCase] = [*predictors.CASES, *forests.CASES, *memories.CASES, *transforming.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_model_gives_what_its_definition_says(case: ModelCase, tmp_path: Path) -> None:
    model = load(case.spec, tmp_path)
    for inputs in case.examples:
        assert_same(model.predict(inputs), case.wanted(**inputs), case.close)


def test_every_declared_type_has_a_case() -> None:
    assert set(MODEL_TYPES) == {case.kind for case in CASES}
