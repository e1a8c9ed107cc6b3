"""Linked models: another file is loaded in their place, and no other place is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import ModelError
from coreml_lab.program.mil.tools import proto
from tests.program.classical.predictors import CASES
from tests.support.classical import save

GIVEN = {"a": 1.5, "b": -2.0}


def link(name: str, search: str = "", like: Any = None) -> Any:
    """A model that is linked to another one, with its description."""
    spec = proto.Model_pb2.Model(specificationVersion=4)
    spec.description.CopyFrom((CASES[0].spec if like is None else like).description)
    file = spec.linkedModel.linkedModelFile
    file.linkedModelFileName.defaultValue = name
    file.linkedModelSearchPath.defaultValue = search
    return spec


@pytest.mark.parametrize(
    ("name", "search", "place"),
    [
        ("real.mlmodel", "", "."),
        ("real.mlmodel", ".", "."),
        ("real.mlmodel", "none:parts", "parts"),
        ("real.mlmodelc", "parts", "parts"),
    ],
)
def test_the_linked_model_is_what_is_loaded(
    name: str, search: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    save(CASES[0].spec, tmp_path / place, "real")
    model = cl.load(save(link(name, search), tmp_path, "outer"))
    assert model.predict(GIVEN) == CASES[0].wanted(**GIVEN)
    assert model.name == "real"


def test_a_link_may_end_at_a_program(tmp_path: Path) -> None:
    inner = cl.compile(lambda x: x * 2.0, x=cl.spec(3), name="inner")
    package = Path(inner.info.package)
    package.rename(tmp_path / "inner.mlpackage")
    spec = link("inner.mlmodelc")
    spec.description.ClearField("input")
    spec.description.ClearField("output")
    spec.description.input.add(name="x")
    spec.description.output.add(name=next(iter(inner.outputs)))
    outer = cl.load(save(spec, tmp_path, "outer"))
    found = outer.predict({"x": np.ones(3, np.float32)})
    assert next(iter(found.values())).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "search", "told"),
    [
        ("../real.mlmodel", "", "which is no file name"),
        ("real.mlmodel", "..", "searches outside"),
        ("real.mlmodel", "/", "searches outside"),
        ("real.mlmodel", "link", "searches outside"),
        ("away.mlmodel", "", "leads out of its folder"),
        ("real.mlmodel", "$BUNDLE_MAIN", "in the bundle of an app"),
        ("none.mlmodel", "", "which is not there"),
        ("", "", "which is no file name"),
        ("n" * 300, "p" * 300, "which is not there"),
        ("outer.mlmodel", "", "linked to itself"),
    ],
)
def test_no_link_leads_out_of_its_folder(name: str, search: str, told: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    real = save(CASES[0].spec, tmp_path, "real")
    (inside / "link").symlink_to(tmp_path)
    (inside / "away.mlmodel").symlink_to(real)
    outer = save(link(name, search), inside, "outer")
    with pytest.raises(ModelError, match=told):
        cl.load(outer)


def test_a_link_to_a_model_with_other_features_is_refused(tmp_path: Path) -> None:
    save(CASES[-1].spec, tmp_path, "real")
    with pytest.raises(ModelError, match="other inputs and outputs"):
        cl.load(save(link("real.mlmodel"), tmp_path, "outer"))


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    save(link("b.mlmodel"), tmp_path, "a")
    save(link("a.mlmodel"), tmp_path, "b")
    with pytest.raises(ModelError, match="linked to itself"):
        cl.load(tmp_path / "a.mlmodel")
