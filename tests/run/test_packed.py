"""Products that keep their weights packed: as exact as single precision, in every layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter
from coreml_lab.program import mil
from coreml_lab.program.graph import Dim, Graph, Node, TensorType, Value
from coreml_lab.program.mil.tools import ct, mb, quiet
from coreml_lab.program.ops import OPS
from coreml_lab.run.lowering import packed
from coreml_lab.run.lowering.graph import Lowered, lower
from tests.run.test_export import _ran
from tests.support.converting import convert

RANDOM = np.random.default_rng(0)
DIGITS, BLOCKS = {"MatMulInteger"}, {"MatMulNBits"}
KINDS = {"int8": (np.int8, -128, 128), "uint8": (np.uint8, 0, 256)} | {
    "int4": (np.int8, -8, 8),
    "uint4": (np.uint8, 0, 16),
}


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forms are what is tested, not where they begin to be worth while."""
    for name in ("DIGITS_LEAST", "BLOCKS_LEAST", "BLOCKS_ROWS", "PARTS_LEAST"):
        monkeypatch.setattr(packed, name, 1)


ANY_SIZE = pytest.mark.usefixtures("any_size")


def stored(
    kind: str, shape: tuple[int, int], scales: tuple[int, int], *, offset: bool, half: bool = False
) -> Node:
    """A weight as iOS18 programs store it."""
    dtype, low, high = KINDS[kind]
    attrs = {
        "data": RANDOM.integers(low, high, shape).astype(dtype),
        "scale": RANDOM.uniform(0.01, 0.1, scales).astype(np.float16 if half else np.float32),
    }
    if offset:
        attrs["offset"] = RANDOM.integers(low, high, scales).astype(dtype)
    kinds = (TensorType(shape, attrs["scale"].dtype),)
    return Node("constexpr_blockwise_shift_scale", kinds, attrs=attrs, name="w")


def affine(kind: str, shape: tuple[int, int], axis: int | None) -> Node:
    """A weight as iOS16 programs store it."""
    dtype, low, high = KINDS[kind]
    count = () if axis is None else (shape[axis],)
    attrs = {
        "quantized_data": RANDOM.integers(low, high, shape).astype(dtype),
        "scale": RANDOM.uniform(0.01, 0.1, count).astype(np.float32),
        "zero_point": RANDOM.integers(low, high, count).astype(dtype),
        "axis": axis or 0,
    }
    kinds = (TensorType(shape, np.dtype(np.float32)),)
    return Node("constexpr_affine_dequantize", kinds, attrs=attrs, name="w")


def dense(weight: Node) -> Any:
    """What the op's own body makes of it, in double precision."""
    wide = {k: v.astype(np.float64) if k == "scale" else v for k, v in weight.attrs.items()}
    return OPS[weight.op].reference(**wide)


def product(op: str, x: tuple[Any, ...], weight: Node, **attrs: Any) -> Graph:
    """A program of one product."""
    source = Node("input", (TensorType(x, np.dtype(np.float32)),), name="x")
    left = (*x[:-2], x[-1]) if attrs.get("transpose_x") else x[:-1]
    whole = op == "linear" or attrs.get("transpose_y")
    kind = TensorType((*left, weight.type.shape[0 if whole else 1]), np.dtype(np.float32))
    inputs = {"x": Value(source), packed.WEIGHT[op]: Value(weight)}
    return Graph({"y": Value(Node(op, (kind,), inputs, attrs, name="product"))})


def ran(made: Lowered, x: Any, output: str = "y") -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        made.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run([output], {"x": x})[0]


def kinds(made: Lowered) -> set[str]:
    return {n.op_type for n in made.model.graph.node}


def noise(wanted: Any, got: Any) -> float:
    """Signal to noise in decibels.

    Where positive and negative products of a draw cancel, little signal is left beside the noise:
    one in a hundred rows of two parts by 32 falls below 85 (median 94). So tests fix their draws.
    """
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


MATMUL = {"MatMul"}
# A weight, how a few rows are multiplied by it, and how more of them are.
STORED: Mapping[str, tuple[Node, set[str], set[str]]] = {
    "int8 by row": (stored("int8", (48, 80), (48, 1), offset=False), DIGITS, DIGITS),
    "int8 by row, offsets": (stored("int8", (48, 80), (48, 1), offset=True), DIGITS, DIGITS),
    "uint8 by row, offsets": (stored("uint8", (48, 80), (48, 1), offset=True), DIGITS, DIGITS),
    "uint8, none": (stored("uint8", (48, 80), (1, 1), offset=False), DIGITS, DIGITS),
    "int8, one scale": (stored("int8", (48, 80), (1, 1), offset=False), DIGITS, DIGITS),
    "int8 by two rows": (stored("int8", (48, 77), (24, 1), offset=True), DIGITS, DIGITS),
    "int4 by row": (stored("int4", (48, 80), (48, 1), offset=False), BLOCKS, DIGITS),
    "uint4 by row of 77": (stored("uint4", (48, 77), (48, 1), offset=True), DIGITS, DIGITS),
    "int4 by 16": (stored("int4", (48, 80), (48, 5), offset=False), BLOCKS, BLOCKS),
    "int4 by 16, offsets": (stored("int4", (48, 80), (48, 5), offset=True), BLOCKS, BLOCKS),
    "uint4 by 32": (stored("uint4", (48, 96), (48, 3), offset=False), BLOCKS, BLOCKS),
    "uint4 by 32, offsets": (stored("uint4", (48, 96), (48, 3), offset=True), BLOCKS, BLOCKS),
    "int4 by 48": (stored("int4", (48, 96), (48, 2), offset=True), BLOCKS, BLOCKS),
    "int4 by 4 rows of 256": (stored("int4", (48, 512), (12, 2), offset=True), BLOCKS, BLOCKS),
    "int8 by 32": (stored("int8", (48, 96), (48, 3), offset=True), BLOCKS, MATMUL),
    "uint8 by 64": (stored("uint8", (48, 128), (48, 2), offset=False), BLOCKS, MATMUL),
    "int4 by 8": (stored("int4", (48, 96), (48, 12), offset=True), MATMUL, MATMUL),
    "int8, affine by row": (affine("int8", (48, 80), 0), DIGITS, DIGITS),
    "uint8, affine": (affine("uint8", (48, 80), None), DIGITS, DIGITS),
    "uint8, affine by column": (affine("uint8", (48, 80), 1), MATMUL, MATMUL),
}
BIAS = RANDOM.standard_normal(48).astype(np.float32)


@ANY_SIZE
@pytest.mark.parametrize("mode", ["high", "exact"])
@pytest.mark.parametrize(("weight", "few", "more"), STORED.values(), ids=STORED)
@pytest.mark.parametrize(
    "shape", [(1,), (2, 1, 2), (), (2, 3, 1)], ids=["row", "four rows", "vector", "six rows"]
)
def test_linear_computes_what_its_expanded_weights_do(
    weight: Node, few: set[str], more: set[str], shape: tuple[int, ...], mode: str
) -> None:
    numbers = dense(weight)
    x = RANDOM.standard_normal((*shape, numbers.shape[1])).astype(np.float32)
    made = lower(product("linear", x.shape, weight, bias=BIAS), keep=mode)
    assert (few if np.prod(shape) <= packed.PARTS_ROWS else more) <= kinds(made)
    wanted, got = x.astype(np.float64) @ numbers.T + BIAS, ran(made, x)
    assert got.shape == wanted.shape
    assert noise(wanted, got) > (115 if mode == "exact" else 85)


INPUTS = {
    "normal": RANDOM.standard_normal((2, 1024)),
    "heavy tails": RANDOM.standard_t(3, (2, 1024)),
    "one outlier": np.where(np.arange(1024) == 77, 1000, RANDOM.standard_normal((2, 1024))),
    "small": RANDOM.standard_normal((2, 1024)) * 1e-25,
    "large": RANDOM.standard_normal((2, 1024)) * 1e30,
    "fp16's": RANDOM.standard_normal((2, 1024)).astype(np.float16),
}


@ANY_SIZE
@pytest.mark.parametrize("block", [16, 32, 64, 128, 1024])
@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
def test_inputs_of_packed_products_keep_16_bits_or_all(x: Any, kind: str, block: int) -> None:
    weight = stored(kind, (32, 1024), (32, 1024 // block), offset=True)
    x = x.astype(np.float32)
    wanted = x.astype(np.float64) @ dense(weight).T
    for mode, least in {"exact": 115, "high": 85}.items():
        got = ran(lower(product("linear", x.shape, weight), keep=mode), x)
        assert noise(wanted, got.astype(np.float64)) > least, mode


@ANY_SIZE
@pytest.mark.parametrize("mode", ["fast", "high", "exact"])
@pytest.mark.parametrize(
    ("kind", "blocks"), [("int4", 2), ("int8", 2), ("int8", 1)], ids=["int4", "int8", "digits"]
)
def test_what_is_not_a_number_goes_on_as_in_fp32(kind: str, blocks: int, mode: str) -> None:
    weight = stored(kind, (16, 64), (16, blocks), offset=False)
    x = RANDOM.standard_normal((4, 64)).astype(np.float32)
    x[0, 3], x[1, 40], x[2, 5] = np.nan, np.inf, -np.inf
    got = ran(lower(product("linear", x.shape, weight), keep=mode), x)
    with np.errstate(invalid="ignore"):
        wanted = x @ dense(weight).T.astype(np.float32)
    assert np.isnan(got[0]).all()
    assert not np.isfinite(got[1:3]).any()
    infinite = np.isinf(wanted)  # and NaN where an infinity meets a weight of 0
    np.testing.assert_array_equal(got[infinite], wanted[infinite])
    assert noise(wanted[3].astype(np.float64), got[3].astype(np.float64)) > 30


@ANY_SIZE
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", ["high", "exact"])
@pytest.mark.parametrize("form", ["digits", "blocks"])
def test_matmul_takes_either_layout_and_a_transposed_left_side(
    form: str, mode: str, transposed: bool
) -> None:
    kind, blocks = ("int8", 1) if form == "digits" else ("int4", 2)
    shape, scales = ((40, 64), (40, blocks)) if transposed else ((64, 40), (blocks, 40))
    weight = stored(kind, shape, scales, offset=True)
    numbers = dense(weight).T if transposed else dense(weight)
    x = RANDOM.standard_normal((64, 1)).astype(np.float32)
    how = {"transpose_x": True, "transpose_y": transposed}
    made = lower(product("matmul", x.shape, weight, **how), keep=mode)
    assert (DIGITS if form == "digits" else BLOCKS) <= kinds(made)
    assert noise(x.T.astype(np.float64) @ numbers, ran(made, x)) > (115 if mode == "exact" else 85)


@ANY_SIZE
@pytest.mark.parametrize("form", ["digits", "blocks"])
def test_flexible_rows_none_of_them_included(form: str) -> None:
    kind, scales = ("int8", (8, 1)) if form == "digits" else ("int4", (8, 2))
    weight = stored(kind, (8, 32), scales, offset=True)
    made = lower(product("linear", (Dim("n", 0), 2, 32), weight, bias=BIAS[:8]), keep="exact")
    assert (DIGITS if form == "digits" else BLOCKS) <= kinds(made)
    for count in (0, 1, 5):
        x = RANDOM.standard_normal((count, 2, 32)).astype(np.float32)
        got = ran(made, x)
        assert got.shape == (count, 2, 8)
        np.testing.assert_allclose(got, x @ dense(weight).T + BIAS[:8], rtol=1e-4, atol=1e-4)


@ANY_SIZE
def test_digits_keep_rows_apart() -> None:
    weight = stored("int8", (16, 64), (16, 1), offset=False)
    x = RANDOM.standard_normal((4, 64)).astype(np.float32)
    x[0], x[1], x[2, 0] = 0, x[1] * 1e-30, 1e6
    got = ran(lower(product("linear", x.shape, weight), keep="exact"), x)
    assert (got[0] == 0).all()
    for row in (1, 2, 3):
        assert noise(x[row].astype(np.float64) @ dense(weight).T, got[row].astype(np.float64)) > 115


@ANY_SIZE
def test_the_rounding_of_fast_products_is_that_of_int8_numbers() -> None:
    weight = stored("int8", (64, 256), (64, 8), offset=True)
    x = RANDOM.standard_normal((5, 256)).astype(np.float32)
    made = lower(product("linear", x.shape, weight), keep="fast")
    assert kinds(made) >= BLOCKS
    assert 35 < noise(x.astype(np.float64) @ dense(weight).T, ran(made, x)) < 90


@pytest.mark.parametrize(
    ("kind", "scales", "count", "form"),
    [
        ("int8", 1, 1, "digits"),
        ("int8", 1, 0, "digits"),
        ("int8", 1, 9, ""),
        ("int4", 1, 1, "parts"),
        ("int4", 1, 0, "digits"),
        ("int4", 64, 1, "parts"),
        ("int8", 64, 1, "parts"),
        ("int8", 64, 0, ""),
        ("int4", 64, 0, "blocks"),
        ("int4", 64, 16, ""),
        ("int4", 64, 64, "blocks"),
    ],
)
def test_the_form_depends_on_what_is_known_of_the_rows(
    kind: str, scales: int, count: int, form: str
) -> None:
    large = stored(kind, (1024, 2048), (1024, scales), offset=False)
    weight = packed.weight_of(_only(product("linear", (1, 2048), large)))
    assert isinstance(weight, packed.Weight)
    assert packed.form_of(weight, count, "exact") == form


def _only(graph: Graph) -> Node:
    (found,) = (n for n in graph.ops if n.op in packed.WEIGHT)
    return found


def test_small_weights_are_expanded() -> None:
    weight = stored("int8", (64, 64), (64, 1), offset=False)
    made = lower(product("linear", (1, 64), weight), keep="exact")
    assert kinds(made) == {"MatMul", "Identity"}


@ANY_SIZE
def test_a_weight_with_another_reader_is_there_for_both() -> None:
    weight = stored("int8", (48, 80), (48, 1), offset=False)
    graph = product("linear", (1, 80), weight)
    both = Graph({**graph.outputs, "w": Value(weight)}, graph.inputs)
    made = lower(both, keep="exact")
    assert kinds(made) >= DIGITS
    assert "w" in {o.name for o in made.model.graph.output}
    assert packed.plan(graph, "exact").unread == {weight}
    assert packed.plan(both, "exact").unread == frozenset()


def saved(program: Any, folder: Path) -> Path:
    """The program as it is, in a package."""
    with quiet():
        made = convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    made.save(str(folder / "net.mlpackage"))
    return folder / "net.mlpackage"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two large layers as coremltools writes them: int4 by block and int8 by row."""

    @mb.program(input_specs=[mb.TensorSpec((1, 1024))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        first, second = (
            mb.constexpr_blockwise_shift_scale(data=w.attrs["data"], scale=w.attrs["scale"])
            for w in (
                stored("int8", (2048, 1024), (2048, 1), offset=False, half=True),
                stored("int8", (1024, 2048), (1024, 1), offset=False, half=True),
            )
        )
        y = mb.relu(x=mb.linear(x=mb.cast(x=x, dtype="fp16"), weight=first, name="wide"))
        return mb.cast(x=mb.linear(x=y, weight=second, name="narrow"), dtype="fp32", name="y")

    return saved(program, tmp_path_factory.mktemp("packed"))


@ANY_SIZE
def test_products_inside_branches_stay_packed_too(tmp_path: Path) -> None:
    weight = stored("int4", (32, 64), (32, 2), offset=False)

    @mb.program(input_specs=[mb.TensorSpec((1, 64))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        packed_one = mb.constexpr_blockwise_shift_scale(**weight.attrs)
        positive = mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.linear(x=x, weight=packed_one),
            _false_fn=lambda: mb.linear(x=mb.mul(x=x, y=np.float32(-1)), weight=packed_one),
            name="y",
        )

    graph = mil.read(saved(program, tmp_path))
    made = lower(graph, keep="exact")
    assert {"", packed.DOMAIN} == {i.domain for i in made.model.opset_import}
    x = RANDOM.standard_normal((1, 64)).astype(np.float32)
    for sign in (1, -1):
        given = sign * np.abs(x)
        got = ran(made, given, *graph.outputs)
        assert noise(sign * given.astype(np.float64) @ dense(weight).T, got) > 115


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


X = {"x": RANDOM.standard_normal((1, 1024)).astype(np.float32)}


def test_a_loaded_package_is_small_and_its_spans_belong_to_its_layers(package: Any) -> None:
    model = cl.load(package, engine="portable")
    folder = cl.cache().root / f"{model.info.key}-portable-high"
    assert size(folder) < 1.1 * 2 * 2**21
    spans = model.trace(X, runs=1)[0].spans
    assert {s.op for s in spans if s.node in {"wide", "narrow"}} == {"linear"}
    assert {s.node for s in spans} & {"wide", "narrow"} == {"wide", "narrow"}
    with cl.configure(packed="off"):
        wanted = cl.load(package, engine="portable").predict(X)["y"]
    # The expanded weights were rounded to fp16, the packed ones were not.
    assert noise(wanted, model.predict(X)["y"]) > 60


def test_faithful_numerics_expand(package: Any) -> None:
    model = cl.load(package, engine="portable", precision="faithful")
    assert not (cl.cache().root / f"{model.info.key}-portable-faithful-high").exists()
    folder = cl.cache().root / f"{model.info.key}-portable-faithful"
    assert size(folder) > 4 * 2 * 2**21


def test_exported_files_are_plain_onnx_unless_asked_otherwise(package: Any, tmp_path: Any) -> None:
    model = cl.load(package, engine="portable")
    plain = model.export_onnx(tmp_path / "plain.onnx")
    small = model.export_onnx(tmp_path / "small.onnx", packed="exact")
    assert small.stat().st_size < plain.stat().st_size / 3
    assert noise(_ran(plain, X)["y"], _ran(small, X)["y"]) > 60


def test_a_title_says_that_inputs_are_rounded(package: Any) -> None:
    with cl.configure(packed="fast"):
        assert "rounded to int8" in cl.load(package, engine="portable").plan.title
    assert "rounded" not in cl.load(package, engine="portable").plan.title


def test_an_unknown_mode_is_one_error(package: Any) -> None:
    with cl.configure(packed="tight"), pytest.raises(UnknownParameter, match="tight"):
        cl.load(package)
