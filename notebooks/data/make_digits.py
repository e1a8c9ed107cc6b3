"""Train the course's small classifier on real images and keep its weights.

Run from the repository, with PyTorch and scikit-learn: ``python notebooks/data/make_digits.py``
writes ``digits.npz``. The images are the UCI set "Optical Recognition of Handwritten Digits"
(E. Alpaydin, C. Kaynak; CC BY 4.0) as scikit-learn ships it: 1797 of 8 by 8 pixels, 0 to 16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

FILE = Path(__file__).with_name("digits.npz")
TRAINING = 1000
EPOCHS = 60


def network() -> nn.Sequential:
    """Two convolutions and a layer of ten scores: 21 thousand weights."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )


def train(images: torch.Tensor, labels: torch.Tensor) -> nn.Sequential:
    """The network after some passes over the images, each time moved by up to a pixel."""
    net, random = network(), np.random.default_rng(0)
    descent = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(descent, EPOCHS)
    for _ in range(EPOCHS):
        for some in torch.from_numpy(random.permutation(len(images))).split(50):
            moved = torch.roll(images[some], tuple(random.integers(-1, 2, 2)), (2, 3))
            loss = nn.functional.cross_entropy(net(moved), labels[some])
            descent.zero_grad()
            loss.backward()
            descent.step()
        slower.step()
    return net


def main() -> None:
    """Train on the first thousand images, test on the rest, write the weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = load_digits()
    images = torch.tensor(data.images[:, None] / 16, dtype=torch.float32)
    labels = torch.tensor(data.target)
    net = train(images[:TRAINING], labels[:TRAINING])
    with torch.no_grad():
        right = net(images[TRAINING:]).argmax(1) == labels[TRAINING:]
    print(f"{100 * right.double().mean():.1f} % of {len(right)} images that it has not seen")
    weights = [p.detach().numpy().astype(np.float16) for p in net.parameters()]
    names = ("kernel1", "bias1", "kernel2", "bias2", "weight", "bias")
    np.savez_compressed(FILE, allow_pickle=False, **dict(zip(names, weights, strict=True)))


if __name__ == "__main__":
    main()
