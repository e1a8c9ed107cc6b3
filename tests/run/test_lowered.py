"""The lowered form of a program: weights beside the model, checked while they are in use."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import coreml_lab as cl
from coreml_lab.program import mil, program
from coreml_lab.program.graph import Array
from coreml_lab.run import export
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.engine import package_version
from coreml_lab.run.lowering import model as onnx_model
from coreml_lab.run.lowering.lowered import MODEL
from coreml_lab.run.lowering.model import Constant

WEIGHT = np.arange(128 * 64, dtype=np.float32).reshape(128, 64) / 1000


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A matrix product with a weight that is big enough to lie beside the model."""
    model = cl.compile(lambda x: {"y": cl.ops.matmul(x, WEIGHT)}, x=cl.spec(2, 128), name="net")
    found = tmp_path / "net.mlpackage"
    Path(model.info.package).rename(found)
    return found


def predicted(package: Path) -> Array:
    model = cl.load(package, engine="portable")
    return np.asarray(model.predict({"x": np.ones((2, 128), np.float32)})["y"])


def weights_of(package: Path) -> Path:
    key = cl.load(package, engine="portable").info.key
    return cl.cache().root / f"{key}-portable" / (MODEL + onnx_model.BESIDE)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.array(1.5, np.float32),
        np.zeros((2, 0, 3), np.float32),
        np.array([True, False, True]),
    ],
    ids=["widened", "transposed", "scalar", "empty", "flags"],
)
@pytest.mark.parametrize("chunk", [1, 4, 1 << 20])
def test_a_constant_has_the_same_bytes_inside_and_beside(
    array: Array, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "CHUNK", chunk)
    kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
    constant = Constant(array, kind)
    assert b"".join(constant.chunks()) == constant.inside("c").raw_data
    assert constant.nbytes == len(constant.inside("c").raw_data)


def test_the_cached_model_does_not_hold_its_weights(package: Path) -> None:
    data = weights_of(package)
    assert data.read_bytes() == WEIGHT.tobytes()
    assert (data.parent / MODEL).stat().st_size < 4096


def test_damaged_weights_are_noticed_and_made_again(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, data = predicted(package), weights_of(package)
    # So that the weights count among the files that are checked while they are in use.
    monkeypatch.setattr("coreml_lab.program.cache.SHORT", 10_000)
    damaged = bytearray(data.read_bytes())
    damaged[5] ^= 0xFF
    data.write_bytes(damaged)
    np.testing.assert_array_equal(predicted(package), expected)
    assert data.read_bytes() == WEIGHT.tobytes()


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_damaged_model_is_never_opened(
    package: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, model = predicted(package), weights_of(package).with_name(MODEL)
    opened: list[bytes] = []
    real: Any = onnxruntime.InferenceSession

    def session(path: str, *args: Any, **given: Any) -> Any:
        opened.append(Path(path).read_bytes())
        return real(path, *args, **given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    model.write_bytes(content)
    np.testing.assert_array_equal(predicted(package), expected)
    assert len(opened) == 1
    assert content not in opened


def test_a_second_load_reads_no_program(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, hits = predicted(package), ACTIVITY.cache_hits
    monkeypatch.setattr(mil, "read", lambda *_: pytest.fail("the package was read again"))
    np.testing.assert_array_equal(predicted(package), expected)
    assert ACTIVITY.cache_hits == hits + 1


def test_big_programs_are_let_go_and_read_again_when_asked_for(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "KEPT", 0)
    model = cl.load(package, engine="portable")
    assert "graph" not in vars(model.program)
    assert [n.op for n in model.program.graph.ops] == ["matmul"]
    assert "graph" in vars(model.program)


def test_weights_beyond_the_limit_of_one_file_are_exported_beside_it(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LARGEST", 0)
    target = cl.load(package).export_onnx(tmp_path / "out.onnx")
    assert {f.name for f in tmp_path.iterdir()} == {package.name, "out.onnx", "out.onnx.data"}
    onnx.checker.check_model(str(target), full_check=True)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((2, 128), np.float32)})
    np.testing.assert_allclose(found, predicted(package), rtol=1e-6)


def test_a_warm_cache_needs_neither_coremltools_nor_what_lowering_needs(package: Path) -> None:
    predicted(package)
    code = (
        "import sys, coreml_lab as cl; cl.load(sys.argv[1], engine='portable');"
        "print(set(sys.argv[2:]) & set(sys.modules))"
    )
    needless = ["coremltools", "onnx", "torch", "coreml_lab.program.ops", "importlib.metadata"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(package), *needless],
        env={**os.environ, "PYTHONPATH": str(Path(cl.__file__).parents[1])},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["numpy", "coremltools", "onnxruntime", "absent_package"])
def test_a_version_is_told_by_the_name_of_what_is_installed(name: str) -> None:
    installed = importlib.util.find_spec(name) is not None
    assert package_version(name) == (importlib.metadata.version(name) if installed else "")
