"""check(): models against limits, with every kind of reference; rows, tables, JSON, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import coremltools as ct
import numpy as np
import onnx
import pytest
from onnx import helper

import coreml_lab as cl
from coreml_lab import cli
from coreml_lab.clock import FakeClock
from coreml_lab.errors import InputError, ModelError, UnknownParameter
from coreml_lab.improve import numbers
from coreml_lab.improve.checking import Checking
from coreml_lab.improve.limits import Decision, Limits
from coreml_lab.improve.reference import Saved
from coreml_lab.metrics import Provenance
from tests.program.test_state import accumulator, packaged
from tests.support.packages import identity, save
from tests.support.stateful import state, tensor

W = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32)


def network(x):
    return {"y": cl.ops.tanh(cl.ops.matmul(x, W)), "z": cl.ops.relu(x)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in fp32 and fp16, as ONNX with other names, its inputs and outputs."""
    folder = tmp_path_factory.mktemp("gate")
    for precision in ("fp32", "fp16"):
        model = cl.compile(network, x=cl.spec(4, 16), precision=precision)
        shutil.copytree(model.info.package, folder / f"{precision}.mlpackage")
    exact = cl.load(folder / "fp32.mlpackage")
    proto = onnx.load(exact.export_onnx(folder / "same.onnx"))
    proto.graph.input[0].name = "tokens"
    for node in proto.graph.node:
        node.input[:] = ["tokens" if name == "x" else name for name in node.input]
    for old, new in (("y", "first"), ("z", "second")):
        next(o for o in proto.graph.output if o.name == old).name = new
        for node in proto.graph.node:
            node.output[:] = [new if name == old else name for name in node.output]
    onnx.save(proto, folder / "renamed.onnx")
    np.savez(folder / "in.npz", x=X)
    np.savez(folder / "out.npz", **exact.predict({"x": X}))
    return folder


def rows(gate):
    return {(r.what, r.output): r for model in gate.models for r in model.rows}


@pytest.mark.parametrize("name", ["same.onnx", "renamed.onnx", "fp32.mlpackage", "out.npz"])
def test_every_kind_of_reference_gives_the_same_answer(files: Path, name: str) -> None:
    gate = cl.check(
        files / "fp16.mlpackage", files / "in.npz", reference=files / name, min_snr=60, max_abs=0.1
    )
    found = rows(gate)[("signal to noise", "y")]
    assert gate.passed
    assert 60 < found.value.value < 100
    assert found.value.provenance is Provenance.MEASURED
    assert rows(gate)[("largest difference", "z")].limit == 0.1
    assert name in gate.reference
    assert ("y (first)" in str(gate)) is (name == "renamed.onnx")


def test_faithful_rounding_is_checked_against_the_same_file_without_it(files: Path) -> None:
    half = files / "fp16.mlpackage"
    gate = cl.check(half, reference=half, min_snr=40, precision="faithful")
    assert gate.passed
    assert rows(gate)[("signal to noise", "y")].value.value < 100
    assert cl.check(half, reference=half, min_snr=300).passed


def test_a_limit_that_is_exceeded_fails_and_says_where_the_worst_value_is(files: Path) -> None:
    gate = cl.check(files / "fp16.mlpackage", reference=files / "same.onnx", min_snr=120)
    assert (gate.passed, gate.exit_code) == (False, 1)
    assert "fp16.mlpackage: failed (signal to noise)" in str(gate)
    assert rows(gate)[("signal to noise", "y")].verdict is Decision.FAIL
    assert " instead of " in rows(gate)[("largest difference", "y")].note
    assert "≥ 120 dB" in str(gate)
    # Without inputs they are made up, and the numbers say so.
    assert rows(gate)[("signal to noise", "y")].value.provenance is Provenance.SIMULATED
    assert "seed 0" in str(gate)


def test_a_model_against_itself_is_identical_and_in_time(files: Path) -> None:
    model = cl.load(files / "fp32.mlpackage")
    gate = cl.check(
        model, {"x": X}, reference=model, min_snr=200, max_latency="10s", max_latency_ratio=50
    )
    assert gate.passed
    assert rows(gate)[("signal to noise", "y")].note == "identical"
    assert rows(gate)[("time ÷ reference's", "")].value.low is not None
    assert "<table>" in gate.to_html()


def test_several_models_are_checked_and_a_broken_one_hides_none(files: Path) -> None:
    gate = cl.check(
        [files / "fp32.mlpackage", files / "nothing.mlpackage"],
        reference=files / "same.onnx",
        min_snr=60,
    )
    assert [m.exit_code for m in gate.models] == [0, 2]
    assert gate.exit_code == 2
    assert "2 models: 1 passed, 1 could not be checked" in str(gate)
    assert "there is no model at" in str(gate)


def test_an_exceeded_limit_weighs_more_than_what_could_not_be_checked(files: Path) -> None:
    models = [files / "fp32.mlpackage", files / "nothing.mlpackage"]
    assert cl.check(models, max_size="1B").exit_code == 1


def test_sizes_are_of_the_package_on_disk(files: Path) -> None:
    gate = cl.check(files / "fp16.mlpackage", max_size="1MB")
    size = sum(f.stat().st_size for f in (files / "fp16.mlpackage").rglob("*") if f.is_file())
    assert rows(gate)[("size on disk", "")].value.value == size
    assert gate.passed


def test_the_json_has_units_provenance_and_the_environment(files: Path) -> None:
    gate = cl.check(
        files / "fp16.mlpackage", reference=files / "same.onnx", min_snr=60, max_latency=9
    )
    found = json.loads(gate.to_json())
    assert (found["schema"], found["passed"], found["exit_code"]) == (1, True, 0)
    assert found["environment"]["onnxruntime"]
    by_name = {(r["what"], r["output"]): r for r in found["models"][0]["rows"]}
    row = by_name[("signal to noise", "y")]
    assert (row["value"]["unit"], row["value"]["provenance"]) == ("dB", "simulated")
    assert (row["limit"], row["verdict"]) == (60, "pass")
    assert by_name[("time per inference", "")]["value"]["unit"] == "s"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"min_snr": 60}, UnknownParameter, "none is given"),
        ({"reference": "out.npz", "max_latency_ratio": 1}, UnknownParameter, "take no time"),
        ({"reference": "nix.onnx", "min_snr": 6}, ModelError, "no file"),
        ({"reference": "in.txt", "min_snr": 6}, ModelError, r"\.txt"),
        ({"reference": "broken.onnx", "min_snr": 6}, ModelError, "does not open"),
        ({"reference": "broken.npz", "min_snr": 6}, InputError, "cannot be read"),
        ({"inputs": "broken.npz", "max_latency": 1}, InputError, "cannot be read"),
        ({"max_latency": "fast"}, UnknownParameter, "max_latency='fast'"),
        ({"max_latency": 1, "runs": 0}, UnknownParameter, "runs=0"),
        ({"reference": "same.onnx", "max_abs": 1, "names": "y"}, UnknownParameter, "names='y'"),
        ({"model": [], "max_latency": 1}, UnknownParameter, "no model"),
    ],
)
def test_bad_arguments_are_one_error_each(files: Path, given, error, message) -> None:
    for broken in ("broken.onnx", "broken.npz"):
        (files / broken).write_bytes(b"not that")
    for name in ("reference", "inputs"):
        if name in given:
            given = {**given, name: files / given[name]}
    model = given.pop("model", files / "fp32.mlpackage")
    with pytest.raises(error, match=message) as caught:
        cl.check(model, **given)
    assert caught.value.hint


def test_a_name_that_the_model_does_not_have_is_its_row(files: Path) -> None:
    options = {"reference": files / "renamed.onnx", "max_abs": 1}
    gate = cl.check(files / "fp32.mlpackage", names="why=first", **options)
    assert "has no input or output 'why'; try: one of x, y, z" in str(gate)
    assert cl.check(files / "fp32.mlpackage", names="y=first,x=tokens", **options).passed


def test_inputs_that_do_not_fit_the_model_are_its_row(files: Path) -> None:
    gate = cl.check(files / "fp32.mlpackage", {"x": X[:2]}, max_latency=1)
    assert gate.exit_code == 2
    assert "has shape (2, 16), not (4, 16)" in str(gate)


def test_a_reference_that_cannot_be_mapped_shows_both_sides(files: Path, tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(n, 1, [3]) for n in ("a", "b")]
    out = helper.make_tensor_value_info("c", 1, [3])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", ports, [out])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(made, tmp_path / "add.onnx")
    gate = cl.check(files / "fp32.mlpackage", reference=tmp_path / "add.onnx", min_snr=1)
    assert "add.onnx (a: fp32[3], b: fp32[3])" in str(gate)
    assert "x: fp32[4,16]" in str(gate)


def compared(got, expected, **asked):
    given = {"y": np.asarray(got, np.float32)}, {"y": np.asarray(expected, np.float32)}
    return numbers.compared(*given, {"y": "y"}, Limits(**asked), Provenance.MEASURED)


def test_values_that_are_not_finite_on_one_side_fail_every_limit() -> None:
    snr, apart = compared([1, np.nan, np.inf], [1, 2, np.inf], min_snr=-999, max_abs=9)
    assert (snr.verdict, apart.verdict) == (Decision.FAIL, Decision.FAIL)
    assert snr.note.startswith("1 of 3 values are NaN or infinite on one side, the first at [1]")


def test_values_that_are_not_finite_on_both_sides_are_told_and_pass() -> None:
    snr, apart = compared([1, -np.inf], [1.001, -np.inf], min_snr=50, max_abs=0.1)
    assert (snr.verdict, apart.verdict) == (Decision.PASS, Decision.PASS)
    assert "1 of 2 values are not finite" in snr.note


def test_where_zeros_are_expected_any_difference_is_all_noise() -> None:
    snr, apart = compared([0, 1e-9], [0, 0], min_snr=1, max_abs=1e-6)
    assert (snr.verdict, apart.verdict) == (Decision.FAIL, Decision.PASS)
    assert "all zero" in snr.value.note
    assert compared([0], [0], min_snr=1)[0].verdict is Decision.PASS


def test_the_worst_output_comes_first() -> None:
    one, two = np.ones(3, np.float32), np.ones(3, np.float32) * 1.5
    got, expected, pairs = {"a": one, "b": two}, {"a": one, "c": one}, {"a": "a", "b": "c"}
    found = numbers.compared(got, expected, pairs, Limits(), Provenance.MEASURED)
    assert [row.output for row in found] == ["b", "b", "a", "a"]
    assert [row.against for row in found] == ["c", "c", "", ""]
    assert {row.verdict for row in found} == {Decision.NONE}


def test_without_a_reference_values_that_are_not_finite_are_told() -> None:
    model = cl.compile(lambda x: {"y": cl.ops.log(x, epsilon=0.0)}, x=cl.spec(3))
    gate = cl.check(model, {"x": np.array([0, -1, 1], np.float32)}, max_latency="60s")
    assert "1 NaN and 1 infinite of 3 values" in str(gate)


def test_an_image_reaches_the_reference_as_the_tensor_the_engine_is_fed(tmp_path: Path) -> None:
    kinds = [ct.ImageType("x", shape=(1, 3, 4, 5), color_layout=ct.colorlayout.BGR)]
    model = cl.load(save(tmp_path / "m.mlpackage", identity, kinds, (1, 3, 4, 5)))
    path = model.export_onnx(tmp_path / "m.onnx")
    gate = cl.check(model, reference=path, max_abs=0)
    assert gate.passed
    assert rows(gate)[("signal to noise", "y")].note == "identical"


def test_a_gray_image_gets_pixels_too(tmp_path: Path) -> None:
    kinds = [ct.ImageType("x", shape=(1, 1, 4, 5), color_layout=ct.colorlayout.GRAYSCALE)]
    model = cl.load(save(tmp_path / "m.mlpackage", identity, kinds, (1, 1, 4, 5)))
    expected = {"y": np.zeros((1, 1, 4, 5), np.float32)}
    gate = cl.check(model, reference=expected, max_abs=255)
    assert 100 < rows(gate)[("largest difference", "y")].value.value <= 255


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_states_begin_empty_on_both_sides_and_go_on_while_timed(tmp_path: Path) -> None:
    import torch

    inputs, states = [tensor("x", 3, dtype=np.float16)], [state("total", 3)]
    example = (torch.zeros(3, dtype=torch.float16),)
    path = packaged(accumulator(), example, tmp_path, inputs=inputs, states=states)
    model = cl.load(path)
    other = model.export_onnx(tmp_path / "net.onnx")
    gate = cl.check(path, reference=other, max_abs=1e-3, max_latency_ratio=1000)
    assert gate.passed, str(gate)


class Model:
    """The least a model can be; each inference takes as long as told."""

    def __init__(self, files: Path, clock: FakeClock, milliseconds: float) -> None:
        real = cl.load(files / "fp32.mlpackage")
        self.info, self.plan, self.inputs = real.info, real.plan, real.inputs
        self.clock, self.milliseconds = clock, milliseconds
        self.states = {}

    def predict(self, inputs):
        self.clock.advance(self.milliseconds / 1000)
        return {"y": inputs["x"], "z": inputs["x"]}


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_not_resolved_passes_unless_strict(files: Path, strict: bool) -> None:
    clock = FakeClock()
    model = Model(files, clock, 30)
    turns = iter(range(10_000))
    slow = model.predict

    def predict(inputs):
        model.milliseconds = 150 if next(turns) % 2 else 200
        return slow(inputs)

    model.predict = predict
    asked = Limits(max_latency=0.16)
    checking = Checking(asked, None, {"x": X}, 20, 1e6, 0, strict, clock, lambda _: model)
    gate = checking.gate([model])
    assert rows(gate)[("time per inference", "")].verdict is Decision.OPEN
    assert gate.exit_code == (1 if strict else 0)
    assert "not resolved" in str(gate)
    assert ("Strict" in str(gate)) is strict


def test_saved_outputs_are_no_reference_for_other_shapes(files: Path) -> None:
    clock = FakeClock()
    model = Model(files, clock, 1)
    kept = Saved("kept", {"y": np.zeros((9, 9), np.float32), "z": X})
    checking = Checking(Limits(max_abs=1), kept, {"x": X}, 20, 1, 0, False, clock, lambda _: model)
    assert "kept (y: (9, 9)" in str(checking.gate([model]))


@pytest.mark.models
def test_a_real_model_agrees_with_the_onnx_file_it_was_published_with() -> None:
    onnx_file = cl.models.path("basic-pitch-onnx")
    outputs = {
        f"Identity{'_' * bool(i)}{i or ''}": f"StatefulPartitionedCall:{i}" for i in range(3)
    }
    gate = cl.check(
        cl.models.path("basic-pitch"), reference=onnx_file, names=outputs, min_snr=60, max_abs=0.01
    )
    assert gate.passed, str(gate)


# -- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--reference", "same.onnx", "--min-snr", "60"], 0),
        (["--reference", "same.onnx", "--min-snr", "120"], 1),
        (["--reference", "nix.onnx", "--min-snr", "60"], 2),
        (["--max-latency", "20"], 2),
        ([], 2),
        (["--reference", "out.npz", "--inputs", "in.npz", "--max-abs", "0.5"], 0),
        (["--max-size", "1MB", "--device", "mars"], 2),
    ],
)
def test_the_status_of_the_command_says_what_came_out(
    files: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], status: int
) -> None:
    monkeypatch.chdir(files)
    assert cli.main(["check", "fp16.mlpackage", *options]) == status


def test_an_error_of_the_command_is_told_on_the_other_stream(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    assert cli.main(["check", "fp16.mlpackage", "--max-latency", "20"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("coreml-lab: max_latency='20': not a number with a unit\ntry: ")


def test_a_fault_of_ours_is_not_an_exceeded_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cl, "check", broken, raising=False)
    assert cli.main(["check", "x.mlpackage", "--max-size", "1MB"]) == 2
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_a_terminal_that_has_few_letters_changes_no_status(files: Path) -> None:
    command = [sys.executable, "-m", "coreml_lab.cli", "check", "fp32.mlpackage"]
    environment = {"PYTHONPATH": str(Path(cl.__file__).parents[1]), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--reference", "same.onnx", "--min-snr", "60"],
        cwd=files,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "? 60 dB" in done.stdout


def test_the_command_in_a_process_of_its_own_prints_json_and_fails(files: Path) -> None:
    command = [sys.executable, "-m", "coreml_lab.cli", "check", "fp16.mlpackage", "fp32.mlpackage"]
    options = ["--reference", "same.onnx", "--min-snr", "120", "--json"]
    root = Path(cl.__file__).parents[1]
    done = subprocess.run(
        [*command, *options],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [m["exit_code"] for m in found["models"]] == [1, 0]
