"""compile() and load(): the cache, the precisions, and files that are not what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import (
    CacheError,
    EngineUnavailable,
    GraphError,
    InputError,
    LabError,
    ModelError,
    NumericalError,
    UnknownParameter,
)
from coreml_lab.run.activity import ACTIVITY

RNG = np.random.default_rng(7)
WEIGHT = RNG.standard_normal((4, 64), np.float32)
X = RNG.standard_normal((2, 64), np.float32)


def network(x: Any) -> Any:
    return {"y": cl.ops.relu(cl.ops.linear(x, weight=WEIGHT, bias=np.zeros(4, np.float32)))}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of our own making, outside the cache."""
    model = cl.compile(network, x=cl.spec(2, 64))
    target = tmp_path_factory.mktemp("package") / "net.mlpackage"
    shutil.copytree(model.program.package, target)
    return target


@pytest.fixture
def broken(package: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(package, tmp_path / "broken.mlpackage"))


def weights(package: Path) -> Path:
    return next(package.rglob("weight.bin"))


def spec_file(package: Path) -> Path:
    return next(package.rglob("*.mlmodel"))


def test_a_shape_is_given_one_by_one_or_as_an_array_has_it() -> None:
    batch = cl.Dim("n", 1, 8)
    for one, other in (((), ((),)), ((2, 3), ((2, 3),)), ((batch, 3), ([batch, 3],))):
        assert cl.spec(*one) == cl.spec(*other)
    assert cl.spec(4).shape == (4,)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
def test_a_compiled_function_computes_what_numpy_does(precision: str, tolerance: float) -> None:
    model = cl.compile(network, x=cl.spec(2, 64), precision=precision)
    assert model.info.precision == precision
    wanted = np.maximum(X @ WEIGHT.T, 0)
    np.testing.assert_allclose(model.predict({"x": X})["y"], wanted, rtol=tolerance, atol=tolerance)


def test_core_mls_own_passes_run_first() -> None:
    fused = cl.compile(lambda x: cl.ops.mul(x, cl.ops.sigmoid(x)), x=cl.spec(2, 3))
    assert [op.op for op in fused.info.ops] == ["silu"]


def test_the_second_compile_is_a_cache_hit(cache_dir: Path) -> None:
    before = ACTIVITY.cache_misses
    cl.compile(network, x=cl.spec(2, 64))
    assert ACTIVITY.cache_misses == before + 1
    hits = ACTIVITY.cache_hits
    again = cl.compile(network, x=cl.spec(2, 64))
    assert (ACTIVITY.cache_misses, ACTIVITY.cache_hits) == (before + 1, hits + 1)
    np.testing.assert_allclose(again.predict({"x": X})["y"], np.maximum(X @ WEIGHT.T, 0), atol=1e-4)
    assert {e.key.removesuffix("-portable") for e in cl.cache().entries()} == {again.info.key}


def test_tensors_compile_once_whatever_their_data(cache_dir: Path) -> None:
    def value(seed: int) -> Any:
        data = np.random.default_rng(seed).standard_normal((3, 5), np.float32)
        return cl.ops.tanh(cl.tensor(data)).numpy(), np.tanh(data)

    np.testing.assert_allclose(*value(0), atol=1e-6)
    before = ACTIVITY.cache_misses
    np.testing.assert_allclose(*value(1), atol=1e-6)
    assert ACTIVITY.cache_misses == before


def test_a_warm_cache_loads_without_coremltools_or_onnx(package: Path, cache_dir: Path) -> None:
    wanted = cl.load(package).predict({"x": X})["y"]
    code = f"""
import sys, numpy as np, coreml_lab as cl
cl.configure(cache_dir={str(cache_dir)!r})
y = cl.load({str(package)!r}).predict({{"x": np.load(sys.argv[1])}})["y"]
assert not {{"coremltools", "onnx", "torch"}} & set(sys.modules), sorted(sys.modules)
np.save(sys.argv[2], y)
"""
    np.save(cache_dir / "x.npy", X)
    arguments = [str(cache_dir / "x.npy"), str(cache_dir / "y.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=60)
    np.testing.assert_array_equal(np.load(cache_dir / "y.npy"), wanted)


def test_load_gives_the_package_its_own_name_and_interface(package: Path) -> None:
    model = cl.load(package)
    assert model.name == "net"
    assert (model.inputs["x"].shape, model.outputs["y"].shape) == ((2, 64), (2, 4))
    assert model.info.size_bytes > WEIGHT.nbytes


def refused(path: Path, kind: type[LabError] = ModelError) -> str:
    """The one error that ``load`` gives; nothing may be left in the cache."""
    before = {e.key for e in cl.cache().entries()}
    with pytest.raises(kind) as caught:
        cl.load(path)
    assert caught.value.hint
    assert path.name in caught.value.message
    assert {e.key for e in cl.cache().entries()} == before
    assert not list(cl.cache().root.glob(".part-*"))
    return str(caught.value)


def test_a_model_is_saved_whole_and_overwrites_nothing(tmp_path: Path) -> None:
    model, x = cl.compile(network, x=cl.spec(2, 64)), np.ones((2, 64), np.float32)
    path = model.save(tmp_path / "new" / "net.mlpackage")
    assert [p.name for p in path.parent.iterdir()] == ["net.mlpackage"]
    (wanted,), (found,) = model.predict({"x": x}).values(), cl.load(path).predict({"x": x}).values()
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ModelError, match="exists already"):
        model.save(path)
    with pytest.raises(InputError, match=r"a file of the kind \.mlpackage") as caught:
        model.save(tmp_path / "net.onnx")
    assert caught.value.hint == "model.save('net.mlpackage')"


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no model" in refused(tmp_path / "no.mlpackage")


def test_a_folder_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "f.mlpackage").mkdir()
    assert "Manifest.json" in refused(tmp_path / "f.mlpackage")


def test_a_broken_manifest(broken: Path) -> None:
    (broken / "Manifest.json").write_text("{")
    assert "broken" in refused(broken)


def test_a_manifest_that_points_outside_the_package(broken: Path) -> None:
    manifest = json.loads((broken / "Manifest.json").read_text())
    for item in manifest["itemInfoEntries"].values():
        item["path"] = "../../../../etc/passwd"
    (broken / "Manifest.json").write_text(json.dumps(manifest))
    assert "outside the package" in refused(broken)


def test_a_missing_specification(broken: Path) -> None:
    spec_file(broken).unlink()
    assert "missing" in refused(broken)


@pytest.mark.parametrize("kept", [0, 1, 100, 400])
def test_a_truncated_specification(broken: Path, kept: int) -> None:
    spec_file(broken).write_bytes(spec_file(broken).read_bytes()[:kept])
    refused(broken)


def test_random_bytes_instead_of_a_specification(broken: Path) -> None:
    spec_file(broken).write_bytes(RNG.bytes(4096))
    refused(broken)


@pytest.mark.parametrize("kept", [0, 10, 64, 200])
def test_truncated_weights(broken: Path, kept: int) -> None:
    weights(broken).write_bytes(weights(broken).read_bytes()[:kept])
    refused(broken)


def test_missing_weights(broken: Path) -> None:
    shutil.rmtree(weights(broken).parent)
    refused(broken)


@pytest.mark.parametrize("part", [weights, spec_file])
def test_a_git_lfs_pointer(broken: Path, part: Any) -> None:
    part(broken).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS pointer" in refused(broken)


def test_weights_that_hold_nan_name_the_op(broken: Path) -> None:
    data = bytearray(weights(broken).read_bytes())
    place = data.find(WEIGHT.tobytes()[:16])
    data[place : place + 4] = np.float32(np.nan).tobytes()
    weights(broken).write_bytes(data)
    before = cl.cache().entries()
    with pytest.raises(NumericalError, match="weight holds 1 NaN of 256 values") as caught:
        cl.load(broken)
    assert "linear" in caught.value.message
    assert cl.cache().entries() == before


def test_nan_weights_are_refused_when_compiling_too() -> None:
    bad = np.full((4, 3), np.nan, np.float32)
    with pytest.raises(NumericalError, match="NaN"):
        cl.compile(lambda x: cl.ops.linear(x, weight=bad), x=cl.spec(1, 3))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: cl.compile(network, z=cl.spec(2, 64)), UnknownParameter, "cannot be called"),
        (lambda: cl.compile(lambda x: 3, x=cl.spec(1)), GraphError, "not a tensor"),
        (lambda: cl.compile(lambda: {"a b": cl.tensor([1.0])}), GraphError, "not an identifier"),
        (lambda: cl.compile(lambda: cl.tensor([1.0])), GraphError, "nothing depends"),
        (lambda: cl.compile(network, x=cl.spec(2, 64), precision="fp8"), UnknownParameter, "fp8"),
        (lambda: cl.compile(network, x=cl.spec(2, 64), engine="none"), EngineUnavailable, "none"),
    ],
)
def test_wrong_calls_are_one_error_each(call: Any, kind: type[LabError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        call()
    assert caught.value.hint


def test_a_read_only_cache_folder_says_where_and_what_to_try(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cl.configure(cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(CacheError, match="cannot write to the compile cache folder") as caught:
        cl.compile(cl.ops.exp, x=cl.spec(7))
    assert "cache_dir" in caught.value.hint
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_doctor_names_every_device_and_engine_with_a_reason() -> None:
    text = str(cl.doctor())
    for name in ("cpu", "coreml:0", "metal:0", "cuda:0", "opencl:0", "portable", "reference"):
        assert name in text
    assert all(d.available or d.reason for d in cl.devices())


def test_what_a_traced_function_makes_out_of_nothing_is_on_its_device() -> None:
    model = cl.compile(
        lambda x: x + cl.ops.fill([3], value=2.0), x=cl.spec(3), device="cpu", engine="reference"
    )
    (got,) = model.predict({"x": np.ones(3, np.float32)}).values()
    np.testing.assert_array_equal(got, [3, 3, 3])


def test_a_batch_norm_without_scale_and_shift_is_folded_into_its_convolution() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    mean, variance = np.float32([0.1, 0.2, 0.3, 0.4]), np.float32([1, 2, 3, 4])

    def network(x: Any) -> Any:
        return cl.ops.batch_norm(cl.ops.conv(x, weight=weight), mean=mean, variance=variance)

    model = cl.compile(network, x=cl.spec(1, 3, 6, 6))
    assert [op.op for op in model.info.ops] == ["conv"]
    x = np.random.default_rng(1).standard_normal((1, 3, 6, 6)).astype(np.float32)
    bare = cl.compile(lambda x: cl.ops.conv(x, weight=weight), x=cl.spec(1, 3, 6, 6))
    want = bare.predict({"x": x})["output"] - mean.reshape(1, 4, 1, 1)
    want = want / np.sqrt(variance.reshape(1, 4, 1, 1) + 1e-5)
    np.testing.assert_allclose(model.predict({"x": x})["output"], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        pytest.param("pytorch", "cpu", marks=pytest.mark.torch),
        ("reference", "cpu"),
        ("portable", "coreml:0"),
    ],
)
def test_an_engine_that_is_named_runs_on_a_device_of_its_own(name: str, device: str) -> None:
    model = cl.compile(cl.ops.relu, x=cl.spec(3), engine=name)
    assert model.device == device
    (found,) = model.predict({"x": np.array([-1, 0, 2], np.float32)}).values()
    assert found.tolist() == [0, 0, 2]
    with cl.configure(engine=name):
        assert cl.load(model.program.package).device == device
