"""Small PyTorch networks that between them reach every family of operations, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its customary name


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def image(*shape: int) -> Any:
    """Standard normals."""
    return torch.randn(*shape)


def attention(x: Any) -> Any:
    """Self-attention of four heads, written out."""
    q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in x.chunk(3, -1))
    weights = torch.softmax(q @ k.transpose(-1, -2) / 2, -1)
    return (weights @ v).transpose(1, 2).flatten(2)


def batch_norm(layer: Any) -> Any:
    """A batch normalization with statistics that are not 0 and 1."""
    nn.init.normal_(layer.running_mean, 0, 0.3)
    nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return layer


class Residual(nn.Module):
    """Two convolutions around which the input is carried."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Any) -> Any:
        return F.relu(x + self.second(F.relu(self.first(x))))


class First(nn.Module):
    """The first result of a layer that has several."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


X4 = (1, 4, 8, 10)
X3 = (2, 5, 12)
MAP = torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.2]]])
Net = tuple[Callable[[], nn.Module], tuple[Any, ...]]

# Name -> (what makes the module, the shapes of its inputs); a shape that begins with "i" is of
# integers.
NETS: dict[str, Net] = {
    # activations
    "relu": (nn.ReLU, (X4,)),
    "relu6": (nn.ReLU6, (X4,)),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), (X4,)),
    "elu": (lambda: nn.ELU(0.7), (X4,)),
    "prelu": (lambda: nn.PReLU(4, 0.3), (X4,)),
    "gelu": (nn.GELU, (X3,)),
    "gelu_tanh": (lambda: nn.GELU("tanh"), (X3,)),
    "silu": (nn.SiLU, (X4,)),
    "sigmoid": (nn.Sigmoid, (X4,)),
    "tanh": (nn.Tanh, (X4,)),
    "softplus": (nn.Softplus, (X4,)),
    "softsign": (nn.Softsign, (X4,)),
    "hardsigmoid": (nn.Hardsigmoid, (X4,)),
    "hardswish": (nn.Hardswish, (X4,)),
    "softmax": (lambda: nn.Softmax(1), (X4,)),
    "log_softmax": (lambda: nn.LogSoftmax(-1), (X3,)),
    "mish": (lambda: Fn(F.mish), (X4,)),
    # linear
    "linear": (lambda: nn.Linear(12, 7), (X3,)),
    "linear_without_bias": (lambda: nn.Linear(12, 7, bias=False), (X3,)),
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 3)), (X3,)),
    "matmul": (lambda: Fn(torch.matmul), ((2, 3, 4), (2, 4, 5))),
    "einsum": (lambda: Fn(lambda a, b: torch.einsum("bij,bjk->bik", a, b)), ((2, 3, 4), (2, 4, 5))),
    "bilinear_form": (
        lambda: Fn(lambda a, b: (a @ b.transpose(1, 2)).sum(1)),
        ((2, 3, 4), (2, 5, 4)),
    ),
    # convolutions
    "conv1d": (lambda: nn.Conv1d(5, 6, 3, padding=1), (X3,)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3), (X4,)),
    "conv2d_stride": (lambda: nn.Conv2d(4, 6, 3, 2, 1), (X4,)),
    "conv2d_dilated": (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2), (X4,)),
    "conv2d_groups": (lambda: nn.Conv2d(4, 8, 3, groups=2), (X4,)),
    "conv2d_depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (X4,)),
    "conv2d_same": (lambda: nn.Conv2d(4, 6, 4, padding="same"), (X4,)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), ((1, 2, 4, 5, 6),)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(5, 3, 4, 2), (X3,)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1), (X4,)),
    "conv_transpose2d_groups": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (X4,)),
    # pooling
    "max_pool2d": (lambda: nn.MaxPool2d(2), (X4,)),
    "max_pool2d_padded": (lambda: nn.MaxPool2d(3, 2, 1), (X4,)),
    "max_pool2d_ceil": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), (X4,)),
    "avg_pool2d": (lambda: nn.AvgPool2d(2), (X4,)),
    "avg_pool2d_exclude": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (X4,)),
    "avg_pool1d": (lambda: nn.AvgPool1d(3), (X3,)),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d(1), (X4,)),
    # normalization
    "batch_norm2d": (lambda: batch_norm(nn.BatchNorm2d(4)), (X4,)),
    "conv_bn_relu": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), batch_norm(nn.BatchNorm2d(6)), nn.ReLU()),
        (X4,),
    ),
    "layer_norm": (lambda: nn.LayerNorm(12), (X3,)),
    "layer_norm_two_axes": (lambda: nn.LayerNorm((5, 12)), (X3,)),
    "instance_norm2d": (lambda: nn.InstanceNorm2d(4, affine=True), (X4,)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (X4,)),
    "local_response_norm": (lambda: nn.LocalResponseNorm(3), (X4,)),
    "l2_normalize": (lambda: Fn(lambda x: F.normalize(x, dim=1)), (X4,)),
    # arithmetic and comparison
    "arithmetic": (lambda: Fn(lambda a, b: (a + b) * (a - b) / (b.abs() + 1)), (X3, X3)),
    "broadcast": (lambda: Fn(lambda a, b: a * b + b), (X3, (5, 1))),
    "powers": (lambda: Fn(lambda x: x.abs().sqrt() + x**2 + x.abs().pow(1.5)), (X3,)),
    "exp_log": (lambda: Fn(lambda x: torch.log(torch.exp(x) + 1)), (X3,)),
    "trigonometry": (lambda: Fn(lambda x: torch.sin(x) + torch.cos(x) * torch.atan(x)), (X3,)),
    "rounding": (lambda: Fn(lambda x: torch.floor(x * 3) + torch.ceil(x)), (X3,)),
    "clamp": (lambda: Fn(lambda x: x.clamp(-0.5, 0.7)), (X3,)),
    "where": (lambda: Fn(lambda x: torch.where(x > 0, x, x * 0.1)), (X3,)),
    "erf": (lambda: Fn(torch.erf), (X3,)),
    "minimum_maximum": (
        lambda: Fn(lambda a, b: torch.minimum(a, b) * torch.maximum(a, b)),
        (X3, X3),
    ),
    # reductions
    "mean": (lambda: Fn(lambda x: x.mean((2, 3))), (X4,)),
    "sum_keep": (lambda: Fn(lambda x: x.sum(1, keepdim=True)), (X4,)),
    "amax": (lambda: Fn(lambda x: x.amax(-1)), (X4,)),
    "variance": (lambda: Fn(lambda x: x.var(-1, unbiased=False)), (X3,)),
    "norm": (lambda: Fn(lambda x: torch.norm(x, dim=1)), (X4,)),
    "logsumexp": (lambda: Fn(lambda x: torch.logsumexp(x, 1)), (X3,)),
    "argmax": (lambda: Fn(lambda x: x.argmax(1)), (X3,)),
    # shapes
    "reshape_permute": (lambda: Fn(lambda x: x.reshape(1, 4, 80).permute(0, 2, 1)), (X4,)),
    "concat": (lambda: Fn(lambda a, b: torch.cat([a, b, a], 1)), (X4, X4)),
    "stack": (lambda: Fn(lambda a, b: torch.stack([a, b], 1)), (X3, X3)),
    "split": (lambda: Fn(lambda x: torch.split(x, [1, 4], 1)[1] * 2), (X3,)),
    "slice": (lambda: Fn(lambda x: x[:, 1:, ::2]), (X3,)),
    "select": (lambda: Fn(lambda x: x[:, -1]), (X3,)),
    "flip": (lambda: Fn(lambda x: torch.flip(x, [1])), (X3,)),
    "pad_constant": (lambda: Fn(lambda x: F.pad(x, (1, 2, 0, 1), value=0.5)), (X4,)),
    "pad_reflect": (lambda: nn.ReflectionPad2d(2), (X4,)),
    "pad_replicate": (lambda: nn.ReplicationPad2d(1), (X4,)),
    "tile": (lambda: Fn(lambda x: x.repeat(1, 2, 1)), (X3,)),
    "squeeze": (lambda: Fn(lambda x: x.unsqueeze(1).squeeze(0)), (X4,)),
    "pixel_shuffle": (lambda: nn.PixelShuffle(2), (X4,)),
    "pixel_unshuffle": (lambda: nn.PixelUnshuffle(2), (X4,)),
    "cumsum": (lambda: Fn(lambda x: torch.cumsum(x, 1)), (X3,)),
    # gathering
    "embedding": (lambda: nn.Embedding(11, 6), (("i", 2, 7),)),
    "topk": (lambda: Fn(lambda x: torch.topk(x, 3, 1)[0]), (X3,)),
    "sort": (lambda: Fn(lambda x: torch.sort(x, 1)[0]), (X3,)),
    # recurrent
    "lstm": (lambda: First(nn.LSTM(12, 6, batch_first=True)), (X3,)),
    "lstm_bidirectional": (lambda: First(nn.LSTM(12, 6, bidirectional=True)), (X3,)),
    "lstm_two_layers": (lambda: First(nn.LSTM(12, 6, 2)), (X3,)),
    "gru": (lambda: First(nn.GRU(12, 6)), (X3,)),
    # whole blocks
    "scaled_dot_product_attention": (
        lambda: Fn(F.scaled_dot_product_attention),
        ((1, 2, 3, 8), (1, 2, 5, 8), (1, 2, 5, 8)),
    ),
    "attention": (lambda: nn.Sequential(nn.Linear(12, 48), Fn(attention)), (X3,)),
    "residual": (Residual, (X4,)),
    "transformer_mlp": (
        lambda: nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 12)),
        (X3,),
    ),
    # resizing and resampling
    "upsample_twice": (lambda: nn.Upsample(scale_factor=2), (X4,)),
    "upsample_by_half": (lambda: nn.Upsample(scale_factor=1.5), (X4,)),
    "upsample_bilinear_by_half": (
        lambda: nn.Upsample(scale_factor=(1.5, 1.3), mode="bilinear", recompute_scale_factor=True),
        (X4,),
    ),
    "upsample_to_multiples": (lambda: nn.Upsample(size=(24, 20)), (X4,)),
    "upsample_bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (X4,)),
    "upsample_aligned": (
        lambda: nn.Upsample(size=(13, 7), mode="bilinear", align_corners=True),
        (X4,),
    ),
    "interpolate_half_pixels": (
        lambda: Fn(lambda x: F.interpolate(x, size=(13, 7), mode="bilinear")),
        (X4,),
    ),
    "interpolate_line": (lambda: Fn(lambda x: F.interpolate(x, size=30, mode="linear")), (X3,)),
    "interpolate_line_nearest": (lambda: Fn(lambda x: F.interpolate(x, scale_factor=2)), (X3,)),
    "grid_sample": (
        lambda: Fn(lambda x, g: F.grid_sample(x, g, align_corners=False)),
        (X4, (1, 5, 6, 2)),
    ),
    "grid_sample_border": (
        lambda: Fn(lambda x, g: F.grid_sample(x, g, padding_mode="border", align_corners=True)),
        (X4, (1, 5, 6, 2)),
    ),
    "grid_sample_reflection": (
        lambda: Fn(
            lambda x, g: F.grid_sample(x, g, padding_mode="reflection", align_corners=False)
        ),
        (X4, (1, 5, 6, 2)),
    ),
    # With a fixed map: coremltools' front end cannot read one that is an input.
    "affine_grid": (
        lambda: Fn(
            lambda x: F.grid_sample(
                x,
                F.affine_grid(MAP, [1, 4, 5, 6], align_corners=True),
                align_corners=True,
            )
        ),
        (X4,),
    ),
}


def inputs(shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Reproducible inputs of those shapes."""
    torch.manual_seed(1)
    return tuple(
        torch.randint(0, 11, s[1:], dtype=torch.int32) if s[0] == "i" else torch.randn(*s)
        for s in shapes
    )
