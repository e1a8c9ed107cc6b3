"""Actions on copies of a model's file: each against the model as it was, composed, taken back."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import (
    CompileError,
    EngineUnavailable,
    InputError,
    LabError,
    UnknownParameter,
)
from coreml_lab.improve.actions import KINDS, named, size
from coreml_lab.program.mil.rewriting.methods import METHODS
from coreml_lab.records import Action
from tests.improve.nets import flexible, mixed, snr

X = {"x": np.random.default_rng(0).random((1, 4, 8, 8)).astype(np.float32)}
# Action, its arguments, and how close in dB results must stay.
CASES: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("int8_weights", {"weight_threshold": 64}, 35),
    ("quantize_weights", {"dtype": "uint4", "mode": "linear", "weight_threshold": 64}, 12),
    (
        "quantize_weights",
        {"dtype": "int4", "granularity": "per_block", "block_size": 4, "weight_threshold": 64},
        12,
    ),
    ("palettize_weights", {"nbits": 6, "mode": "uniform", "weight_threshold": 64}, 20),
    ("prune_weights", {"target_sparsity": 0.25, "weight_threshold": 64}, 10),
    ("prune_weights", {"threshold": 0.01, "weight_threshold": 64}, 25),
    ("prune_weights", {"n_m_ratio": (1, 4), "weight_threshold": 64}, 8),
    ("float16", {}, 55),
    ("float32", {}, 300),
    ("linear_to_conv", {}, 120),
    ("clean", {}, 120),
    ("w8a8", {"weight_threshold": 64}, 20),
)


@pytest.fixture(scope="module")
def model() -> Any:
    return mixed()


def output(model: Any, inputs: Any = X) -> Any:
    (made,) = model.predict(inputs).values()
    return made


def test_the_table_names_every_change_there_is() -> None:
    assert set(KINDS) == {*METHODS, "w8a8"}


@pytest.mark.parametrize(("action", "arguments", "close"), CASES, ids=str)
def test_an_action_writes_an_ordinary_package_that_computes_nearly_the_same(
    model: Any, action: str, arguments: dict[str, Any], close: float
) -> None:
    edit = cl.edit(model).apply(action, data=X, **arguments)
    changed = edit.model
    assert snr(output(model), output(changed)) > close
    assert changed.info.ops != model.info.ops or action in {"clean", "float32"}
    if "size" in KINDS[action].serves and action != "clean":
        assert size(edit.package) < size(Path(model.info.package))


@pytest.mark.parametrize(
    "call",
    [cl.edit, lambda x: cl.optimize(x, cl.zoo.digits()), lambda x: cl.tune(x, cl.zoo.digits(), {})],
)
def test_inputs_in_the_models_place_are_one_clear_error(call: Any) -> None:
    with pytest.raises(InputError, match="not a dict") as caught:
        call({"x": np.ones(3)})
    assert "the model comes first" in caught.value.hint


def test_a_model_of_words_has_int8_products_and_its_table_stays_packed() -> None:
    rng = np.random.default_rng(0)
    words, weight = (rng.standard_normal(n).astype(np.float32) for n in ((3000, 96), (96, 96)))
    kind = cl.spec(1, 8, dtype="int32")
    model = cl.compile(
        lambda x: cl.ops.linear(cl.ops.gather(words, x, axis=0), weight=weight),
        name="words",
        x=kind,
    )
    x = {"x": np.array([[0, 1, 2, 2999, -1, 5, 7, 7]], np.int32)}
    changed = cl.edit(model).apply("w8a8", data=x).model
    assert snr(output(model, x), output(changed, x)) > 25
    changed.export_onnx(place := Path(changed.info.package).parent / "words.onnx", packed="high")
    assert place.stat().st_size < words.nbytes / 3


def test_half_of_many_fp16_weights_are_dropped_however_many_there_are() -> None:
    weight = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    model = cl.compile(lambda x: x @ weight, name="wide", x=cl.spec(1, 300), precision="fp16")
    edit = cl.edit(model).apply("prune_weights", target_sparsity=0.5)
    assert size(edit.package) < 0.65 * size(Path(model.info.package))
    x = {"x": np.ones((1, 300), np.float32)}
    assert snr(output(model, x), output(edit.model, x)) > 5


def test_fp16_and_back_leaves_the_rounding_of_the_weights_alone(model: Any) -> None:
    edit = cl.edit(model).apply("float16")
    assert edit.model.info.precision == "fp16"
    whole = edit.apply("float32").model
    assert whole.info.precision == "fp32"
    assert [op.op for op in whole.info.ops] == [op.op for op in model.info.ops]
    assert 55 < snr(output(model), output(whole)) < 120


def test_compressed_weights_come_back_whole_with_their_rounding(model: Any) -> None:
    edit = cl.edit(model).apply("int8_weights", weight_threshold=64)
    small = output(edit.model)
    whole = edit.apply("decompress_weights").model
    assert not [op for op in whole.info.ops if op.op.startswith("constexpr_")]
    assert snr(small, output(whole)) > 110


def test_operations_that_are_omited_stay_as_they_are(model: Any) -> None:
    conv = next(op.name for op in model.info.ops if op.op == "conv")
    half = cl.edit(model).apply("float16", skip=[conv]).model
    assert {op.name: op.dtype for op in half.info.ops}[conv] == "fp32"
    assert half.info.precision == "fp16"
    small = cl.edit(model).apply("int8_weights", weight_threshold=64)
    some = cl.edit(model).apply("quantize_weights", weight_threshold=64, skip=[conv])
    stored = [sum(op.op.startswith("constexpr_") for op in e.model.info.ops) for e in (small, some)]
    assert stored[1] == stored[0] - 1


def test_each_layer_may_have_its_own_bits(model: Any) -> None:
    conv = next(op.name for op in model.info.ops if op.op == "conv")
    edit = cl.edit(model).apply(
        "palettize_weights",
        nbits=8,
        mode="uniform",
        weight_threshold=64,
        by_name={conv: {"nbits": 1}},
    )
    worse = snr(output(model), output(edit.model))
    edit.undo().apply("palettize_weights", nbits=8, mode="uniform", weight_threshold=64)
    assert worse < 15 < snr(output(model), output(edit.model))


def test_actions_follow_each_other_and_are_taken_back_one_by_one(
    model: Any, tmp_path: Path
) -> None:
    original = Path(model.info.package)
    times = {p: p.stat().st_mtime_ns for p in (original, *original.rglob("*"))}
    before = {p: p.read_bytes() for p in Path(model.info.package).rglob("*") if p.is_file()}
    edit = cl.edit(model).apply("float16").apply("int8_weights", weight_threshold=64)
    assert times == {p: p.stat().st_mtime_ns for p in (original, *original.rglob("*"))}
    assert [step.action.name for step in edit.steps] == ["float16", "int8_weights"]
    saved = edit.save(tmp_path / "small.mlpackage")
    assert "Compute in fp16" in edit.save(tmp_path / "steps.md").read_text(encoding="utf-8")
    assert snr(output(edit.model), output(cl.load(saved))) > 200
    assert "Compute in fp16" in str(edit)
    assert "2 changes" in repr(edit)
    edit.undo()
    assert edit.model.info.precision == "fp16"
    edit.undo()
    assert edit.package == Path(model.info.package)
    with pytest.raises(LabError, match="nothing to take back"):
        edit.undo()
    assert before == {p: p.read_bytes() for p in Path(model.info.package).rglob("*") if p.is_file()}


def test_what_coremltools_leaves_as_it_is_stands_on_the_page(model: Any) -> None:
    how = {"dtype": "int4", "granularity": "per_block", "block_size": 32, "weight_threshold": 64}
    edit = cl.edit(model).apply("quantize_weights", **how)
    assert "not divisible by block size 32" in str(edit)


def test_a_suggested_action_is_taken_as_it_is(model: Any) -> None:
    edit = cl.edit(model).apply(Action("int8_weights", {"weight_threshold": 64}))
    assert edit.steps[0].action.arguments == {"weight_threshold": 64}


def test_files_go_with_the_last_who_needs_them(model: Any) -> None:
    edit = cl.edit(model).apply("float16")
    changed, folder = edit.model, edit.file
    del edit
    assert folder.exists()
    output(changed)
    del changed
    gc.collect()
    assert not folder.exists()


def test_nothing_is_overwritten_and_nothing_left_half(model: Any, tmp_path: Path) -> None:
    edit = cl.edit(model).apply("float16")
    edit.save(tmp_path / "net.mlpackage")
    with pytest.raises(LabError, match="exists already"):
        edit.save(tmp_path / "net.mlpackage")
    assert [p.name for p in tmp_path.iterdir()] == ["net.mlpackage"]


def test_a_full_disk_leaves_the_edit_as_it_was(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = cl.edit(model).apply("float16")
    before = edit.package

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coremltools.models.MLModel.save", full)
    with pytest.raises(CompileError, match="No space left"):
        edit.apply("int8_weights", weight_threshold=64)
    assert edit.package == before
    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OSError, match="No space left"):
        edit.save(tmp_path / "net.mlpackage")
    assert not list(tmp_path.iterdir())


BAD: tuple[tuple[str, dict[str, Any], type[LabError], str], ...] = (
    ("int8", {}, UnknownParameter, "no action 'int8'"),
    ("float16", {"omit": 1}, UnknownParameter, "no parameter 'omit'"),
    ("float16", {"skip": ["nothing"]}, UnknownParameter, "called 'nothing'"),
    ("prune_weights", {}, UnknownParameter, "takes one of"),
    ("palettize_weights", {"nbits": 7}, CompileError, "nbits"),
    ("w8a8", {}, InputError, "needs samples"),
    ("fixed_shapes", {"shapes": {"z": (1, 2)}}, UnknownParameter, "no input 'z'"),
    ("enumerated_shapes", {"shapes": {"x": [(1, 4, 8, 8)]}}, CompileError, "one shape"),
    ("image_input", {"name": "x", "colour": "CMYK"}, UnknownParameter, "colour"),
    ("image_input", {"name": "x"}, CompileError, "no picture"),
)


@pytest.mark.parametrize(("action", "arguments", "kind", "said"), BAD, ids=str)
def test_what_does_not_fit_is_one_clear_error(
    model: Any, action: str, arguments: dict[str, Any], kind: type[LabError], said: str
) -> None:
    edit = cl.edit(model)
    with pytest.raises(kind, match=said) as caught:
        edit.apply(action, **arguments)
    assert not edit.steps
    assert caught.value.hint


def test_samples_that_do_not_fit_are_one_clear_error(model: Any) -> None:
    with pytest.raises(CompileError, match="cannot be quantized"):
        cl.edit(model).apply("w8a8", data={"y": X["x"]}, weight_threshold=64)


def test_flexible_inputs_get_one_shape_or_a_few() -> None:
    model = flexible()
    given = {"x": np.random.default_rng(1).random((3, 8)).astype(np.float32)}
    fixed = cl.edit(model).apply("fixed_shapes", shapes={"x": (3, 8)}).model
    assert fixed.inputs["x"].shape == (3, 8)
    assert fixed.info.precision == model.info.precision
    assert snr(output(model, given), output(fixed, given)) > 200
    few = cl.edit(model).apply("enumerated_shapes", shapes={"x": [(3, 8), (5, 8)]}).model
    assert few.info.inputs[0].enumerated == ((3, 8), (5, 8))
    assert snr(output(model, given), output(few, given)) > 200
    with pytest.raises(InputError):
        few.predict({"x": np.zeros((4, 8), np.float32)})
    with pytest.raises(CompileError, match="does not take"):
        cl.edit(model).apply("enumerated_shapes", shapes={"x": [(99, 8)]})


def test_a_model_takes_pictures_where_it_took_tensors() -> None:
    model = mixed(channels=3)
    picture = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    mean, scale = np.float32([0.4, 0.5, 0.6]), 1 / 255
    tensor = picture.transpose(2, 0, 1)[None].astype(np.float32) * np.float32(scale)
    tensor = tensor - mean.reshape(1, 3, 1, 1)
    taken = cl.edit(model).apply("image_input", name="x", scale=scale, bias=-mean).model
    assert taken.info.inputs[0].kind == "image"
    assert snr(output(model, {"x": tensor}), output(taken, {"x": picture})) > 100


def test_a_package_of_a_chain_outlives_it_and_the_model_keeps_its_name(model: Any) -> None:
    package = cl.edit(model).apply("float16").package
    gc.collect()
    assert cl.load(package).name == model.name == package.stem


def test_names_of_strangers_name_files_only_as_far_as_files_allow() -> None:
    assert named("../a/b\n c") == "_a_b_ c"
    assert named("../..") == "_"


def test_kmeans_without_scikit_learn_says_what_is_missing(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineUnavailable, match="scikit-learn"):
        cl.edit(model).apply("palettize_weights", nbits=2, weight_threshold=64)
