"""PyTorch -> coremltools -> package -> cl.load, against PyTorch itself, network by network."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.converting import convert
from tests.support.packages import assert_same_when_compiled

HAS_TORCH = importlib.util.find_spec("torch") is not None
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

if HAS_TORCH:
    from tests.support.torch_nets import NETS
else:
    NETS = {"(no PyTorch)": None}

# The newest opset in full precision, and the oldest that has fp16 borders; the rest is swept.
QUICK = [("iOS18", "fp32"), ("iOS16", "fp16")]
ALL = [(f"iOS{n}", precision) for n in (15, 16, 17, 18) for precision in ("fp32", "fp16")]
KINDS = [
    pytest.param(*kind, id="-".join(kind), marks=[] if kind in QUICK else pytest.mark.sweep)
    for kind in ALL
]
# What MIL has only from some opset on.
SINCE = {"pixel_unshuffle": "iOS16"}
# Relative to the largest value: fp16 has a last place of 1e-3.
TOLERANCE = {"fp32": 2e-5, "fp16": 2e-2}


def converted(name: str, target: str, precision: str, folder: Path) -> tuple[Path, Any, Any]:
    """The network as a package, its inputs, and what PyTorch computes."""
    import torch

    from coreml_lab.program.mil.tools import ct, quiet
    from tests.support.torch_nets import inputs

    make, shapes = NETS[name]
    torch.manual_seed(0)
    module, data = make().eval(), inputs(shapes)
    with torch.no_grad(), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        wanted = module(*data).numpy()
        model = convert(
            torch.jit.trace(module, data),
            inputs=[
                ct.TensorType(f"in{i}", d.shape, np.int32 if d.dtype == torch.int32 else None)
                for i, d in enumerate(data)
            ],
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision[{"fp32": "FLOAT32", "fp16": "FLOAT16"}[precision]],
            skip_model_load=True,
        )
        model.save(str(folder / "net.mlpackage"))
    return folder / "net.mlpackage", {f"in{i}": d.numpy() for i, d in enumerate(data)}, wanted


@pytest.mark.parametrize(("target", "precision"), KINDS)
@pytest.mark.parametrize("name", NETS)
def test_a_converted_network_computes_what_pytorch_does(
    name: str, target: str, precision: str, tmp_path: Path
) -> None:
    if target < SINCE.get(name, ""):
        pytest.skip(f"MIL has {name} from {SINCE[name]} on")
    package, feeds, wanted = converted(name, target, precision, tmp_path)
    model = cl.load(assert_same_when_compiled(package))
    for arm in (model, model.to("cpu")):
        (got,) = arm.predict(feeds).values()
        assert got.shape == wanted.shape
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE[precision] * scale)
