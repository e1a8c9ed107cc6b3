"""What is saved is what was loaded, and changes leave alone what they cannot change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CompileError
from coreml_lab.interop.compiled import compile_model
from tests.improve import nets
from tests.improve.nets import flexible, snr, weights

X = {"x": np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)}


def layer(scale: float, name: str) -> Any:
    weight = weights(16, 64) * np.float32(scale)
    return cl.compile(lambda x: cl.ops.linear(x, weight=weight), x=cl.spec(1, 64), name=name)


def output(model: Any) -> Any:
    (made,) = model.predict(X).values()
    return made


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "both.mlpackage"
    return cl.merge({"a": layer(1, "one"), "b": layer(-3, "other")}, path)


def test_one_function_of_several_is_the_one_that_is_saved(both: Path, tmp_path: Path) -> None:
    for name in "ab":
        model = cl.load(both, function=name)
        saved = cl.load(cl.edit(model).save(tmp_path / f"{name}.mlpackage"))
        np.testing.assert_array_equal(output(saved), output(model))
    assert not np.allclose(output(cl.load(both)), output(cl.load(tmp_path / "b.mlpackage")))


@pytest.mark.parametrize(
    ("action", "arguments"),
    [("int8_weights", {}), ("fixed_shapes", {"shapes": {"x": (1, 64)}}), ("float16", {})],
)
def test_changes_to_several_functions_are_refused_by_name(
    both: Path, action: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(CompileError, match="several functions") as caught:
        cl.edit(cl.load(both, function="b")).apply(action, **arguments)
    assert "cl.merge" in caught.value.hint


def test_a_compiled_model_is_saved_as_a_package(tmp_path: Path) -> None:
    model = layer(1, "one")
    compiled = compile_model(Path(model.info.package))
    try:
        saved = cl.edit(str(compiled)).save(tmp_path / "o.mlpackage")
    finally:
        shutil.rmtree(compiled)
    assert (saved / "Manifest.json").is_file()
    np.testing.assert_array_equal(output(cl.load(saved)), output(model))
    merged = cl.merge({"a": saved}, tmp_path / "m.mlpackage")
    np.testing.assert_array_equal(output(cl.load(merged)), output(model))


def test_merging_what_only_ends_like_a_package_is_one_clear_error(tmp_path: Path) -> None:
    compiled = compile_model(Path(layer(1, "one").info.package))
    shutil.move(compiled, tmp_path / "no.mlpackage")
    with pytest.raises(CompileError, match="cannot be merged"):
        cl.merge({"a": tmp_path / "no.mlpackage"}, tmp_path / "m.mlpackage")
    assert [path.name for path in tmp_path.iterdir()] == ["no.mlpackage"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return nets.classifier(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("actions", [("float16",), ("w8a8",), ("float16", "float32")])
def test_a_classifier_is_changed_as_any_other(classifier: Any, actions: tuple[str, ...]) -> None:
    edit = cl.edit(classifier)
    for action in actions:
        edit.apply(action, data=[X] if action == "w8a8" else ())
    assert edit.model.info.precision == ("fp32" if actions[-1] == "float32" else "fp16")
    want, got = classifier.predict(X), edit.model.predict(X)
    assert got["classLabel"] == want["classLabel"]
    chances = [np.array(list(found["classLabel_probs"].values())) for found in (want, got)]
    assert snr(*chances) > 25


def test_activations_of_a_model_with_states_are_refused_by_name() -> None:
    def network(x: Any, past: Any) -> Any:
        y = cl.ops.add(x, past)
        return {"y": cl.ops.linear(y, weight=weights(64, 64)), "present": cl.ops.relu(y)}

    model = cl.compile(network, x=cl.spec(1, 64), past=cl.spec(1, 64), name="cache")
    edit = cl.edit(model).apply("states", pairs={"past": "present"})
    with pytest.raises(CompileError, match=r"keeps states \(past\)") as caught:
        edit.apply("w8a8", data=[X])
    assert "before states" in caught.value.hint


@pytest.mark.parametrize(("columns", "fused"), [(4, True), (1, False)])
def test_attention_with_a_mask_of_one_column_is_left_as_it_is(columns: int, fused: bool) -> None:
    def attention(q: Any, k: Any, v: Any, mask: Any) -> Any:
        scores = cl.ops.matmul(q, k, transpose_y=True) * np.float32(8**-0.5) + mask
        return cl.ops.matmul(cl.ops.softmax(scores, axis=-1), v)

    shapes = {"q": (1, 4, 8), "k": (1, 4, 8), "v": (1, 4, 8), "mask": (1, 4, columns)}
    model = cl.compile(attention, **{n: cl.spec(*s) for n, s in shapes.items()}, name="attention")
    rng = np.random.default_rng(2)
    given = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    changed = cl.edit(model).apply("fuse_attention").model
    assert fused == any("attention" in op.op for op in changed.info.ops)
    (want,), (got,) = model.predict(given).values(), changed.predict(given).values()
    assert snr(want, got) > 50


@pytest.mark.parametrize("shape", [(100, 8), (0, 8), (5, 9), (5,)])
def test_a_shape_the_model_does_not_take_is_not_fixed(shape: tuple[int, ...]) -> None:
    with pytest.raises(CompileError, match="does not take"):
        cl.edit(flexible()).apply("fixed_shapes", shapes={"x": shape})


def test_one_of_enumerated_shapes_is_fixed_and_no_other() -> None:
    edit = cl.edit(flexible()).apply("enumerated_shapes", shapes={"x": [(1, 8), (4, 8), (9, 8)]})
    edit.apply("enumerated_shapes", shapes={"x": [(4, 8), (1, 8)]})
    with pytest.raises(CompileError, match="does not take") as caught:
        edit.apply("fixed_shapes", shapes={"x": (9, 8)})
    assert caught.value.hint == "one of [[4, 8], [1, 8]]"
    assert edit.apply("fixed_shapes", shapes={"x": (4, 8)}).model.inputs["x"].shape == (4, 8)
