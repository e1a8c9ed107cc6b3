"""One package of several models, several of one: they compute what the originals do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CompileError, LabError, ModelError, UnknownParameter
from coreml_lab.improve.actions import size
from tests.improve.nets import weights

X = {"x": np.random.default_rng(0).random((1, 64)).astype(np.float32)}
BODY = [weights(64, 64) * np.float32(scale) for scale in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]


def network(x: Any, *, sign: float) -> Any:
    y = first = cl.ops.relu(cl.ops.linear(x, weight=BODY[0]))
    for weight in BODY[1:]:
        y = cl.ops.relu(cl.ops.linear(y, weight=weight))
    # What the first part makes is read again in the last one.
    return cl.ops.mul(x=cl.ops.add(x=y, y=first), y=np.float32(sign))


@pytest.fixture(scope="module")
def model() -> Any:
    return cl.compile(lambda x: network(x, sign=1.0), x=cl.spec(1, 64), name="net")


@pytest.fixture(scope="module")
def other() -> Any:
    return cl.compile(lambda x: network(x, sign=-2.0), x=cl.spec(1, 64), name="other")


def output(model: Any) -> Any:
    (made,) = model.predict(X).values()
    return made


def test_functions_of_a_merged_package_share_weights_and_compute_what_each_did(
    model: Any, other: Any, tmp_path: Path
) -> None:
    path = cl.merge({"plus": model, "minus": other.info.package}, tmp_path / "both.mlpackage")
    assert cl.load(path).functions == ("minus", "plus")
    assert np.array_equal(output(cl.load(path, function="plus")), output(model))
    assert np.array_equal(output(cl.load(path, function="minus")), output(other))
    assert np.array_equal(output(cl.load(path)), output(model))
    assert size(path) < 1.1 * size(Path(model.info.package))


def test_a_merged_package_can_be_merged_again_with_an_edit(
    model: Any, other: Any, tmp_path: Path
) -> None:
    both = cl.merge({"a": model, "b": other}, tmp_path / "both.mlpackage")
    small = cl.edit(model).apply("int8_weights")
    three = {"a": cl.load(both, function="b"), "small": small}
    path = cl.merge(three, tmp_path / "again.mlpackage", default="small")
    assert np.array_equal(output(cl.load(path)), output(small.model))
    assert np.array_equal(output(cl.load(path, function="a")), output(other))


@pytest.mark.parametrize("parts", [2, 3])
def test_chunks_run_one_after_the_other_compute_what_the_model_does(
    model: Any, tmp_path: Path, parts: int
) -> None:
    made = cl.chunk(model, tmp_path, parts=parts)
    assert [path.name for path in made] == [f"net_{i + 1}.mlpackage" for i in range(parts)]
    assert sorted(tmp_path.iterdir()) == list(made)
    values: dict[str, Any] = dict(X)
    for path in made:
        part = cl.load(path)
        assert part.info.precision == model.info.precision
        values |= part.predict({port.name: values[port.name] for port in part.info.inputs})
    (name,) = [port.name for port in model.info.outputs]
    # A value that is handed over crosses a border in its own type.
    np.testing.assert_allclose(values[name], output(model), rtol=2e-3, atol=2e-3)
    assert max(map(size, made)) < 0.75 * size(Path(model.info.package))


def test_the_packages_that_are_read_are_not_touched(model: Any, tmp_path: Path) -> None:
    given = model.save(tmp_path / "given.mlpackage")
    files = [path for path in given.rglob("*") if path.is_file()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    cl.merge({"a": given, "b": given}, tmp_path / "both.mlpackage")
    cl.chunk(given, tmp_path)
    found = [path for path in given.rglob("*") if path.is_file()]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found} == before


def test_nothing_is_overwritten(model: Any, tmp_path: Path) -> None:
    (tmp_path / "net_2.mlpackage").mkdir()
    with pytest.raises(LabError, match="exists already"):
        cl.chunk(model, tmp_path)
    with pytest.raises(LabError, match="exists already"):
        cl.merge({"a": model}, tmp_path / "net_2.mlpackage")
    assert [path.name for path in tmp_path.iterdir()] == ["net_2.mlpackage"]


def test_what_cannot_be_done_is_one_clear_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownParameter, match="needs models"):
        cl.merge({}, tmp_path / "m.mlpackage")
    with pytest.raises(UnknownParameter, match="none of the functions"):
        cl.merge({"a": model}, tmp_path / "m.mlpackage", default="b")
    with pytest.raises(UnknownParameter, match="packages end in"):
        cl.merge({"a": model}, tmp_path / "m")
    with pytest.raises(ModelError):
        cl.merge({"a": tmp_path / "none.mlpackage"}, tmp_path / "m.mlpackage")
    with pytest.raises(UnknownParameter, match="parts=1"):
        cl.chunk(model, tmp_path, parts=1)
    plain = cl.compile(cl.ops.relu, x=cl.spec(1, 4), name="plain")
    with pytest.raises(CompileError, match="cannot be cut in two"):
        cl.chunk(plain, tmp_path)
    assert list(tmp_path.iterdir()) == []
