"""Convert the course's classifier, written for 12-bit scans, from PyTorch to Core ML.

Run from the repository, with PyTorch: ``python notebooks/data/make_reader.py`` reads the weights
in ``digits.npz``, and writes ``reader.mlpackage`` and, in ``reader.npz``, what PyTorch makes of
the images.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = Path(__file__).parent
BRIGHTEST = 4095
TRAINING = 1000


class Reader(nn.Module):
    """The classifier behind a layer that makes bright and dark scans alike."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of ten digits for scans [n, 1, 8, 8] from 0 to 4095."""
        w, f = self.weights, nn.functional
        x = 0.5 * x * torch.rsqrt((x * x).mean((1, 2, 3), keepdim=True) + 1e-6)
        x = f.max_pool2d(f.relu(f.conv2d(x, w["kernel1"], w["bias1"], padding=1)), 2)
        x = f.max_pool2d(f.relu(f.conv2d(x, w["kernel2"], w["bias2"], padding=1)), 2)
        return f.linear(x.flatten(1), w["weight"], w["bias"])


def trained() -> tuple[Reader, torch.Tensor]:
    """The network with the weights of ``digits.npz``, and the images as scans."""
    data = np.load(HERE / "digits.npz")
    net = Reader({name: torch.tensor(data[name].astype(np.float32)) for name in data}).eval()
    images = load_digits().images[TRAINING:, None].astype(np.float32)
    return net, torch.tensor(images * np.float32(BRIGHTEST / 16))


def convert(target: Path) -> None:
    """Trace the network and write it as an ML Program that computes in fp32."""
    net, scans = trained()
    model = ct.convert(
        torch.jit.trace(net, scans),
        inputs=[ct.TensorType("scans", scans.shape)],
        outputs=[ct.TensorType("scores")],
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
    )
    model.save(str(target))


def main() -> None:
    """Convert it into this folder, and keep PyTorch's own scores."""
    shutil.rmtree(HERE / "reader.mlpackage", ignore_errors=True)
    convert(HERE / "reader.mlpackage")
    net, scans = trained()
    with torch.no_grad():
        np.savez_compressed(HERE / "reader.npz", scores=net(scans).numpy())


if __name__ == "__main__":
    main()
