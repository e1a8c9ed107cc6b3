"""Recurrent layers against PyTorch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreml_lab as cl

pytestmark = pytest.mark.torch
X, H = (
    np.random.default_rng(i).standard_normal(s, np.float32)
    for i, s in enumerate([(4, 2, 3), (2, 5)])
)


def parts(tensor: Any) -> list[Any]:
    """A weight or bias of PyTorch by gates: reset, update, new."""
    return list(np.split(tensor.detach().numpy(), 3))


@pytest.mark.parametrize("device", ["coreml", "cpu"])
def test_a_gru_that_resets_after_is_pytorchs(device: str) -> None:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 5)
    weights = [parts(w) for w in layer.all_weights[0]]
    w_ih, w_hh, b_ih, b_hh = (np.concatenate([r, n, z]) for r, z, n in weights)
    sequence, last = cl.ops.gru(
        cl.tensor(X, device=device),
        cl.tensor(H, device=device),
        weight_ih=w_ih,
        weight_hh=w_hh,
        bias=b_hh,
        input_bias=b_ih,
        reset_after=True,
        output_sequence=True,
    )
    with torch.no_grad():
        wanted, final = layer(torch.from_numpy(X), torch.from_numpy(H)[None])
    np.testing.assert_allclose(sequence.numpy(), wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(last.numpy(), final.numpy()[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_a_plain_layer_is_pytorchs(kind: str) -> None:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.RNN(3, 5, nonlinearity=kind)
    w_ih, w_hh, b_ih, b_hh = (w.detach().numpy() for w in layer.all_weights[0])
    sequence, _ = cl.ops.rnn(
        cl.tensor(X),
        cl.tensor(H),
        weight_ih=w_ih,
        weight_hh=w_hh,
        bias=b_ih + b_hh,
        activation=kind,
        output_sequence=True,
    )
    with torch.no_grad():
        wanted, _ = layer(torch.from_numpy(X), torch.from_numpy(H)[None])
    np.testing.assert_allclose(sequence.numpy(), wanted.numpy(), atol=1e-5)
