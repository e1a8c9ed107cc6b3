"""Compiled models: programs as text, in the forms Core ML's compiler writes, read and printed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its own documentation's name
from coremltools.libmilstoragepython import _BlobStorageWriter

import coreml_lab as cl
from coreml_lab.errors import CompileError, InputError, ModelError
from coreml_lab.program import mil
from coreml_lab.program.graph import Array, Graph
from coreml_lab.program.mil.parser import parse
from coreml_lab.program.ops import OPS
from tests.support.op_cases import CASES, run_together
from tests.support.packages import assert_same_when_compiled, compiled, save
from tests.support.stateful import build

INFO = (
    '[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-component-MIL", "1.2.3"},'
    ' {"coremlc-version", "1.2.4"}})]'
)
SHAPES = (
    "FlexibleShapeInformation = tuple<tuple<tensor<string, []>, dict<tensor<string, []>,"
    " tensor<int32, [?]>>>, tuple<tensor<string, []>, dict<tensor<string, []>,"
    ' list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"x", [1, 2]}}),'
    ' ("RangeDims", {{"x", [[1, 1], [1, 5]]}})))'
)
# Up to iOS17: every scalar is a tensor, old constexpr ops have everything in their attributes.
OLD = f"""program(1.0)
{INFO}
{{
    func main<ios16>(tensor<fp32, [1, ?]> x) [{SHAPES}] {{
            tensor<int32, []> axis = const()[name = tensor<string, []>("axis"), val = tensor<int32, []>(-1)];
            tensor<bool, []> mixed = const()[name = tensor<string, []>("mixed"), val = tensor<bool, []>(false)];
            tensor<fp32, [1, 2]> two = const()[name = tensor<string, []>("two"), val = tensor<fp32, [1, 2]>([[0x1.8p+1, -0x1p-1]])];
            tensor<fp32, [1, 3]> more = constexpr_affine_dequantize()[axis = tensor<int32, []>(0), name = tensor<string, []>("more"), quantized_data = tensor<uint8, [1, 3]>([[1, 2, 255]]), scale = tensor<fp32, []>(0x1p-1), zero_point = tensor<uint8, []>(1)];
            tensor<fp32, [1, 4]> kept = const()[name = tensor<string, []>("kept"), val = tensor<fp32, [1, 4]>(BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))];
            tensor<fp32, [1, ?]> y = concat(axis = axis, interleave = mixed, values = (x, two, more, kept))[name = tensor<string, []>("op_1")];
        }} -> (y);
}}"""  # noqa: E501 - statements have one line
# From iOS18 on: scalars without brackets, values among the arguments, several functions, states.
NEW = """program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "1.2.4"}})]
{
    func scaled<ios18>(fp16 unused, tensor<fp16, [2]> x) {
            tensor<fp16, [2]> factor = constexpr_blockwise_shift_scale(data = tensor<int4, [2]>([3, -4]), scale = tensor<fp16, [1]>([0x1p-1]))[name = string("factor")];
            tensor<fp16, [2]> y = mul(x = x, y = factor)[name = string("y")];
        } -> (y);
    func total<ios18>(state<tensor<fp16, [2]>> held, tensor<fp16, [2]> x) {
            tensor<fp16, [2]> before = read_state(input = held)[name = string("before")];
            tensor<fp16, [2]> after = add(x = before, y = x)[name = string("after")];
            write_state(data = after, input = held)[name = string("write")];
            tensor<fp16, [2]> now = read_state(input = held)[name = string("now")];
            string to = const()[name = string("to"), val = string("fp32")];
            tensor<fp32, [2]> y = cast(dtype = to, x = now)[name = string("y")];
        } -> (y);
}
"""  # noqa: E501 - statements have one line


def folder(tmp_path: Path, text: str, metadata: str = "") -> Path:
    """A compiled model with that text and four weights."""
    made = tmp_path / "net.mlmodelc"
    (made / "weights").mkdir(parents=True)
    (made / "model.mil").write_text(text, encoding="utf-8")
    if metadata:
        (made / "metadata.json").write_text(metadata, encoding="utf-8")
    writer = _BlobStorageWriter(str(made / "weights" / "weight.bin"))
    assert writer.write_float_data(np.arange(4, dtype=np.float32)) == 64
    return made


@pytest.mark.parametrize("text", [OLD, OLD.replace("ios16", "CoreML6"), " ".join(OLD.split())])
def test_the_text_of_an_older_program_runs(text: str, tmp_path: Path) -> None:
    model = cl.load(folder(tmp_path, text))
    for width in (1, 5):
        x = np.full((1, width), 9, np.float32)
        want = [9] * width + [3, -0.5, 0, 0.5, 127, 0, 1, 2, 3]
        assert model.predict({"x": x})["y"].tolist() == [want]
    with pytest.raises(InputError, match=r"not \(1, 1…5\)"):
        model.predict({"x": np.ones((1, 6), np.float32)})
    assert model.info.inputs[0].default_shape == (1, 2)


def test_the_text_of_a_newer_program_runs(tmp_path: Path) -> None:
    path = folder(tmp_path, NEW.replace("fp16 unused, ", ""))
    x = np.array([2, 4], np.float16)
    assert cl.load(path, function="scaled").predict({"x": x})["y"].tolist() == [3, -8]
    model = cl.load(path, function="total")
    assert model.functions == ("scaled", "total")
    state = model.make_state()
    assert [model.predict({"x": x}, state)["y"].tolist() for _ in range(2)] == [[2, 4], [4, 8]]


def test_metadata_give_the_order_and_the_kinds_of_the_interface(tmp_path: Path) -> None:
    text = """program(1.3) {
        func main<ios18>(tensor<fp32, [1, 3, 2, 2]> image, tensor<fp32, [1]> shift) {
            tensor<fp32, [1, 3, 2, 2]> y = add(x = image, y = shift)[name = string("y")];
        } -> (y);
    }"""
    metadata = """[{"specificationVersion": 9, "inputSchema": [
        {"name": "shift", "type": "MultiArray", "dataType": "Float32", "shape": "[1]",
         "isOptional": "0"},
        {"name": "image", "type": "Image", "colorspace": "BGR", "height": "2", "width": "2",
         "isOptional": "0"}],
        "outputSchema": [{"name": "y", "type": "MultiArray", "shape": "[1, 3, 2, 2]"}]}]"""
    model = cl.load(folder(tmp_path, text, metadata))
    assert [(p.name, p.kind, p.colour) for p in model.info.inputs] == [
        ("shift", "tensor", ""),
        ("image", "image", "BGR"),
    ]
    pixels = np.full((2, 2, 3), (10, 20, 30), np.uint8)
    found = model.predict({"image": pixels, "shift": np.float32([1])})["y"]
    assert found[0, :, 0, 0].tolist() == [31, 21, 11]


def test_a_program_whose_metadata_are_missing_has_arrays(tmp_path: Path) -> None:
    model = cl.load(folder(tmp_path, OLD))
    assert [p.kind for p in (*model.info.inputs, *model.info.outputs)] == ["tensor", "tensor"]


BROKEN = {
    "cut": (OLD[:-200], 9, "(path = …, offset = …) is expected"),
    "cut in a string": (OLD[: OLD.index('"mixed"') + 3], 6, "a string is expected"),
    "no program": ("neural network", 1, "begins with program"),
    "another version": (OLD.replace("program(1.0)", "program(2.0)"), 1, "begins with program"),
    "an unknown opset": (OLD.replace("ios16", "ios99"), 4, "opset"),
    "an unknown type": (OLD.replace("<int32, []> axis", "<int33, []> axis"), 5, "int33"),
    "too few elements": (OLD.replace("[1, 2, 255]", "[1, 2]"), 8, "3 elements are declared, 2"),
    "too large a number": (OLD.replace("255", "256"), 8, "256 is not between 0 and 255"),
    "no number": (OLD.replace("0x1.8p+1", "0x1.zp+1"), 7, "invalid hexadecimal"),
    "no truth value": (OLD.replace("(false)", "(no)"), 6, "neither true nor false"),
    "an unknown name": (OLD.replace("values = (x, two", "values = (x, too"), 10, "too is used but"),
    "a later name": (OLD.replace("(x, two, more", "(x, y, more"), 10, "y is used but"),
    "a name that is twice": (NEW.replace("total<", "scaled<"), 8, "there twice"),
    "a bracket too much": (OLD + "}", 12, "the end is expected"),
    "no size": (OLD.replace("[1, 4]> kept", "[1, -4]> kept"), 9, "'-4' is no size"),
    "nested types": (OLD.replace("tensor<fp32, [1, ?]> x", "list<" * 60 + "x"), 4, "levels"),
    "nested strings": (OLD.replace('("axis")', "(" + "[" * 60 + ")"), 5, "levels"),
    "an open bracket": (OLD.replace("([[0x1.8p+1, -0x1p-1]])", "([[1, 2])"), 7, "never closed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_text_is_one_error_that_names_the_line(name: str, tmp_path: Path) -> None:
    text, line, words = BROKEN[name]
    with pytest.raises(ModelError) as caught:
        cl.load(folder(tmp_path, text))
    assert f"net.mlmodelc: model.mil, line {line}: " in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["@model_path/../../secret.bin", "/etc/hostname", "@model_path/weights/link.bin"]
)
def test_weights_outside_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    path = folder(tmp_path, OLD.replace("@model_path/weights/weight.bin", name))
    (tmp_path / "secret.bin").write_bytes(bytes(256))
    if name.endswith("link.bin"):
        (path / "weights" / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside") as caught:
        cl.load(path)
    assert caught.value.hint == "do not trust this file"


@pytest.mark.parametrize(
    "metadata",
    [
        "[",
        "[]",
        "7",
        '[{"inputSchema": [{"name": "x", "type": "Tensor"}]}]',
        '[{"outputSchema": [{"name": "y", "shape": "[["}]}]',
        '[{"inputSchema": 3}]',
        '[{"specificationVersion": "new"}]',
        '[{"functions": [3]}]',
        '[{"specificationVersion": 99999999999999999999}]',
        "[" * 100_000,
    ],
)
def test_damaged_metadata_are_one_error(metadata: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is damaged") as caught:
        cl.load(folder(tmp_path, OLD, metadata))
    assert caught.value.hint


def test_missing_and_absent_files_are_named(tmp_path: Path) -> None:
    path = folder(tmp_path, OLD)
    (path / "weights" / "weight.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match=r"weight\.bin is a Git LFS pointer"):
        cl.load(path)
    (path / "weights" / "weight.bin").unlink()
    with pytest.raises(ModelError, match=r"weight\.bin are missing"):
        cl.load(path)
    (path / "model.mil").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match=r"model\.mil is a Git LFS pointer"):
        cl.load(path)
    (path / "model.mil").write_bytes(b"program(1.0)\xff")
    with pytest.raises(ModelError, match=r"model\.mil cannot be read"):
        cl.load(path)


def test_a_long_hostile_text_is_refused_without_waiting() -> None:
    begin = OLD[: OLD.index("[[0x1.8p+1")]
    for filler in ("[" * 10**6, "a" * 10**6, " " * 10**6, '"' + "\\" * 10**6, "tensor<" * 10**5):
        start = time.process_time()
        with pytest.raises(ModelError):
            parse(begin + filler, "long")
        assert time.process_time() - start < 10


@pytest.mark.parametrize("family", dict.fromkeys(op.family for op in OPS.values() if not op.opaque))
def test_every_sample_of_every_operation_is_printed_and_read_back(
    family: str, tmp_path: Path
) -> None:
    made = []

    def compare(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Any]:
        package = tmp_path / f"{len(made)}.mlpackage"
        try:
            mil.build(graph, package, precision="fp32")
        except Exception as error:  # what coremltools cannot write is another test's business
            raise CompileError(f"{error}") from error
        made.append(assert_same_when_compiled(package))
        return dict.fromkeys(graph.outputs, feeds)

    cases = [c for c in CASES if c.op.family == family]
    results = run_together(cases, compare, alone=lambda _: False)
    wrong = {k: r for k, r in results.items() if isinstance(r, Exception)}
    assert not [k for k, r in wrong.items() if not isinstance(r, CompileError)]
    assert len(wrong) <= len(cases) / 4


def classifier(target: Any, labels: list[Any]) -> Any:
    def program(x: Any) -> Any:
        return mb.softmax(x=x, name="p")

    def make(path: Path) -> Path:
        inputs = [ct.TensorType("x", shape=(1, 3))]
        given = {"classifier_config": ct.ClassifierConfig(labels), "target": target}
        return save(path / "m.mlpackage", program, inputs, (1, 3), **given)

    return make


def enumerated(path: Path) -> Path:
    size = [ct.converters.mil.mil.get_new_symbol() for _ in range(2)]
    shapes = ct.EnumeratedShapes([[1, 3, 4, 4], [1, 3, 8, 6]], default=[1, 3, 8, 6])
    image = ct.ImageType("x", shape=shapes, color_layout=ct.colorlayout.BGR)
    return save(path / "m.mlpackage", lambda x: mb.relu(x=x, name="y"), [image], (1, 3, *size))


def looping(path: Path) -> Path:
    def program(x: Any, n: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            y = mb.cond(
                pred=mb.greater(x=i, y=1.0),
                _true_fn=lambda: mb.add(x=y, y=x),
                _false_fn=lambda: mb.mul(x=y, y=2.0),
            )
            return mb.add(x=i, y=1.0), y

        before = (mb.mul(x=mb.squeeze(x=n), y=0.0), x)
        return mb.while_loop(_cond=lambda i, _: mb.less(x=i, y=4.0), _body=body, loop_vars=before)[
            1
        ]

    return build(path, program, {"x": (3,), "n": (1,)})


def strings(path: Path) -> Path:
    labels = ['a "quoted" one', "back\\slash", "two\nlines", "schön"]
    return classifier(ct.target.iOS15, labels[:3])(path)


PACKAGES: dict[str, Any] = {
    "a classifier": classifier(ct.target.iOS18, ["cat", "dog", "eel"]),
    "a classifier by number": classifier(ct.target.iOS16, [7, 8, 9]),
    "strings with marks": strings,
    "enumerated image sizes": enumerated,
    "a loop with a branch": looping,
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_the_same_when_it_is_compiled(name: str, tmp_path: Path) -> None:
    assert_same_when_compiled(PACKAGES[name](tmp_path))


def test_labels_may_be_a_constant_of_their_own(tmp_path: Path) -> None:
    text = """program(1.0) [buildInfo = dict<string, string>({{"a", "b"}}), other = string("c")] {
        func main<ios16>(tensor<fp32, [2]> x) {
            list<tensor<string, []>, 2> kinds = const()[val = list<tensor<string, []>, 2>(("cat", "dog"))];
            tensor<string, []> label, dict<tensor<string, []>, tensor<fp64, []>> p = classify(classes = kinds, probabilities = x)[name = tensor<string, []>("c")];
        } -> (label, p);
    }"""  # noqa: E501 - statements have one line
    result = cl.load(folder(tmp_path, text)).predict({"x": np.array([0.25, 0.75], np.float32)})
    assert result == {"label": "dog", "p": {"cat": 0.25, "dog": 0.75}}


def test_a_compiled_classifier_gives_its_label(tmp_path: Path) -> None:
    made = compiled(strings(tmp_path), tmp_path)
    result = cl.load(made).predict({"x": np.array([[0, 9, 0]], np.float32)})
    assert result["classLabel"] == "back\\slash"


def test_a_compiled_model_is_compressed_as_its_package_is(tmp_path: Path) -> None:
    package = cl.zoo.digits().program.package
    made = compiled(package, tmp_path)
    both = []
    for source in (package, made):
        target = tmp_path / f"{source.suffix[1:]}.mlpackage"
        mil.rewrite(source, target, method="int8_weights", arguments={"weight_threshold": 64})
        both.append(mil.read(target))
    assert both[0].key() == both[1].key()
    assert any(n.op.startswith("constexpr") for n in both[0])


@pytest.mark.parametrize("name", ["digits", "mobilenet_v2", "bert"])
def test_a_network_of_the_zoo_is_the_same_when_it_is_compiled(name: str) -> None:
    assert_same_when_compiled(getattr(cl.zoo, name)().program.package)
