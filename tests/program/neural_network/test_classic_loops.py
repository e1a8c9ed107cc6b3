"""PyTorch -> coremltools' classic networks -> cl.load, against PyTorch, network by network."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.converting import convert

HAS_TORCH = importlib.util.find_spec("torch") is not None
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

if HAS_TORCH:
    from tests.support.torch_nets import NETS
else:
    NETS = {"(no PyTorch)": None}

# What coremltools does not write as a classic network.
REFUSED = dict.fromkeys(
    ("pixel_unshuffle", "grid_sample", "grid_sample_border", "grid_sample_reflection"),
    "classic networks have no such layer",
) | {
    "affine_grid": "classic networks have no such layer",
    "upsample_by_half": "coremltools writes another interpolation in its place",
}
# Converting and loading all of them takes minutes: those of families that differ most from ML
# Programs are always run, the rest is swept.
QUICK = frozenset(
    [
        "conv_transpose2d_groups",
        "conv_bn_relu",
        "max_pool2d_ceil",
        "lstm_bidirectional",
        "gru",
        "attention",
        "embedding",
    ]
)
ROWS = [
    pytest.param(name, marks=[] if name in QUICK or not HAS_TORCH else pytest.mark.sweep)
    for name in NETS
    if name not in REFUSED
]


def converted(name: str, folder: Path) -> tuple[Path, Any, Any]:
    """The network as a classic model, its inputs, and what PyTorch computes."""
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
            convert_to="neuralnetwork",
            skip_model_load=True,
        )
        model.save(str(folder / "net.mlmodel"))
    return folder / "net.mlmodel", {f"in{i}": d.numpy() for i, d in enumerate(data)}, wanted


@pytest.mark.parametrize("name", ROWS)
def test_a_classic_network_computes_what_pytorch_does(name: str, tmp_path: Path) -> None:
    file, feeds, wanted = converted(name, tmp_path)
    model = cl.load(file)
    # A classic network computes with real numbers only, indices included.
    feeds = {k: v.astype(model.inputs[k].dtype) for k, v in feeds.items()}
    (got,) = model.predict(feeds).values()
    assert got.shape == (wanted.shape or (1,))
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * scale)


def test_a_converted_classifier_of_images_says_what_pytorch_does(tmp_path: Path) -> None:
    import torch

    from coreml_lab.program.mil.tools import ct, quiet

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    )
    module = torch.nn.Sequential(module, torch.nn.Flatten(), torch.nn.Softmax(1)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    scale, bias = 1 / 64, [0.5, -0.25, 0.125]
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None] * np.float32(scale))
    x = x + torch.tensor(bias).reshape(1, 3, 1, 1)
    with torch.no_grad(), quiet():
        wanted = module(x)[0].numpy()
        image = ct.ImageType("image", x.shape, scale=scale, bias=bias)
        model = convert(
            torch.jit.trace(module, x),
            inputs=[image],
            classifier_config=ct.ClassifierConfig(["a", "b", "c", "d"]),
            convert_to="neuralnetwork",
            skip_model_load=True,
        )
        model.save(str(tmp_path / "net.mlmodel"))
    made = cl.load(tmp_path / "net.mlmodel").predict({"image": pixels})
    assert made["classLabel"] == "abcd"[int(wanted.argmax())]
    (chances,) = (value for name, value in made.items() if name != "classLabel")
    assert list(chances) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(list(chances.values()), wanted, rtol=1e-4)
