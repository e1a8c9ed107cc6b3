"""export_onnx(): the file passes ONNX's checker and runs in plain ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import coreml_lab as cl
from coreml_lab.errors import EngineError
from coreml_lab.program.graph import Dim
from tests.program.test_state import accumulator, packaged
from tests.support.stateful import state, tensor


def _ran(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_of_the_zoo_gives_the_same_numbers_elsewhere(
    tmp_path: Path, precision: str
) -> None:
    model = cl.zoo.digits(precision=precision)
    feeds = cl.zoo.inputs("digits")
    found = _ran(model.export_onnx(tmp_path / "net.onnx"), feeds)
    for name, expected in model.predict(feeds).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_flexible_dimensions_stay_flexible(tmp_path: Path) -> None:
    model = cl.compile(lambda x: {"y": cl.ops.relu(x)}, x=cl.spec(Dim("n", 1, 8), 3), name="net")
    path = model.export_onnx(tmp_path / "net.onnx")
    for size in (1, 5):
        x = np.full((size, 3), -1, np.float32)
        assert _ran(path, {"x": x})["y"].shape == (size, 3)


def test_the_metadata_name_the_program(tmp_path: Path) -> None:
    model = cl.compile(lambda x: {"y": cl.ops.relu(x)}, x=cl.spec(2), name="net")
    props = onnx.load(model.export_onnx(tmp_path / "net.onnx")).metadata_props
    assert {p.key: p.value for p in props}["coreml_lab.program"] == "net"


def test_a_folder_that_does_not_exist_is_one_error(tmp_path: Path) -> None:
    model = cl.compile(lambda x: {"y": cl.ops.relu(x)}, x=cl.spec(2), name="net")
    with pytest.raises(EngineError, match="cannot be written"):
        model.export_onnx(tmp_path / "nowhere" / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_states_become_inputs_and_outputs(tmp_path: Path) -> None:
    import torch

    package = packaged(
        accumulator(),
        (torch.zeros(3, dtype=torch.float16),),
        tmp_path,
        inputs=[tensor("x", 3, dtype=np.float16)],
        states=[state("total", 3), state("bias", 3)],
    )
    model = cl.load(package)
    path = model.export_onnx(tmp_path / "net.onnx")
    notes = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert notes["coreml_lab.state.bias"] == "never written"
    x, held, kept = np.array([1, 2, 3], np.float16), np.zeros(3, np.float16), model.make_state()
    for _ in range(3):
        found = _ran(path, {"x": x, "total": held, "bias": np.zeros(3, np.float16)})
        held = found[notes["coreml_lab.state.total"]]
        for name, expected in model.predict({"x": x}, kept).items():
            np.testing.assert_array_equal(found[name], expected)
