"""The zoo's networks in PyTorch's own functions, with the same weights: the oracle."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name

import coreml_lab as cl


class Twin(torch.nn.Module):
    """A network of the zoo as a module; ``p`` reads a parameter by the name the zoo gave it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = name
        for key, array in cl.zoo.weights(name).items():
            self.register_buffer(key.replace(".", "/"), torch.from_numpy(array.copy()))

    def p(self, name: str) -> Any:
        return self.get_buffer(name.replace(".", "/"))

    def has(self, name: str) -> bool:
        return name.replace(".", "/") in self._buffers

    def conv(self, x: Any, name: str, **how: Any) -> Any:
        bias = self.p(f"{name}.bias") if self.has(f"{name}.bias") else None
        return F.conv2d(x, self.p(f"{name}.weight"), bias, **how)

    def bn(self, x: Any, name: str) -> Any:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.p(f"{name}.{n}") for n in names))

    def linear(self, x: Any, name: str) -> Any:
        return F.linear(x, self.p(f"{name}.weight"), self.p(f"{name}.bias"))

    def ln(self, x: Any, name: str, eps: float) -> Any:
        weight = self.p(f"{name}.weight")
        return F.layer_norm(x, weight.shape, weight, self.p(f"{name}.bias"), eps)

    def forward(self, x: Any) -> Any:
        return getattr(self, self.network)(x)

    def resnet50(self, x: Any) -> Any:
        x = F.relu(self.bn(self.conv(x, "conv1", stride=2, padding=3), "bn1"))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, blocks in enumerate((3, 4, 6, 3), 1):
            for block in range(blocks):
                at, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
                y = F.relu(self.bn(self.conv(x, f"{at}.conv1"), f"{at}.bn1"))
                y = self.conv(y, f"{at}.conv2", stride=stride, padding=1)
                y = self.bn(self.conv(F.relu(self.bn(y, f"{at}.bn2")), f"{at}.conv3"), f"{at}.bn3")
                if not block:
                    x = self.conv(x, f"{at}.downsample.0", stride=stride)
                    x = self.bn(x, f"{at}.downsample.1")
                x = F.relu(x + y)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), "fc")

    def vgg16(self, x: Any) -> Any:
        pools, place = {4, 9, 16, 23, 30}, 0
        while place < 31:
            if place in pools:
                x, place = F.max_pool2d(x, 2), place + 1
            else:
                x, place = F.relu(self.conv(x, f"features.{place}", padding=1)), place + 2
        x = F.adaptive_avg_pool2d(x, 7).flatten(1)
        x = F.relu(self.linear(x, "classifier.0"))
        return self.linear(F.relu(self.linear(x, "classifier.3")), "classifier.6")

    def mobilenet_v2(self, x: Any) -> Any:
        def clipped(x: Any, at: str, **how: Any) -> Any:
            return F.relu6(self.bn(self.conv(x, f"{at}.0", **how), f"{at}.1"))

        x = clipped(x, "features.0", stride=2, padding=1)
        strides = {2: 2, 4: 2, 7: 2, 14: 2}
        for place in range(1, 18):
            at, y, inner = f"features.{place}.conv", x, 0
            if place > 1:
                y, inner = clipped(x, f"{at}.0"), 1
            y = clipped(
                y, f"{at}.{inner}", stride=strides.get(place, 1), padding=1, groups=y.shape[1]
            )
            y = self.bn(self.conv(y, f"{at}.{inner + 1}"), f"{at}.{inner + 2}")
            x = x + y if x.shape == y.shape else y
        x = clipped(x, "features.18")
        return self.linear(x.mean((2, 3)), "classifier.1")

    def digits(self, x: Any) -> Any:
        for name in ("conv1", "conv2"):
            x = F.max_pool2d(F.relu(self.conv(x, name, padding=1)), 2)
        return self.linear(x.flatten(1), "fc")

    def attend(self, heads: int, q: Any, k: Any, v: Any) -> Any:
        parts = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
        return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)

    def vit(self, x: Any) -> Any:
        x = self.conv(x, "patch_embed.proj", stride=16).flatten(2).transpose(1, 2)
        x = torch.cat([self.p("cls_token"), x], 1) + self.p("pos_embed")
        for i in range(12):
            at = f"blocks.{i}"
            y = self.linear(self.ln(x, f"{at}.norm1", 1e-6), f"{at}.attn.qkv")
            x = x + self.linear(self.attend(3, *y.chunk(3, -1)), f"{at}.attn.proj")
            y = F.gelu(self.linear(self.ln(x, f"{at}.norm2", 1e-6), f"{at}.mlp.fc1"))
            x = x + self.linear(y, f"{at}.mlp.fc2")
        return self.linear(self.ln(x, "norm", 1e-6)[:, 0], "head")

    def bert(self, tokens: Any) -> Any:
        words, places, kinds = (
            self.p(f"embeddings.{n}_embeddings.weight") for n in ("word", "position", "token_type")
        )
        x = words[tokens.long()] + places[: tokens.shape[1]] + kinds[0]
        x = self.ln(x, "embeddings.LayerNorm", 1e-12)
        for i in range(6):
            at = f"encoder.layer.{i}"
            qkv = [self.linear(x, f"{at}.attention.self.{n}") for n in ("query", "key", "value")]
            y = self.linear(self.attend(12, *qkv), f"{at}.attention.output.dense")
            x = self.ln(x + y, f"{at}.attention.output.LayerNorm", 1e-12)
            y = self.linear(
                F.gelu(self.linear(x, f"{at}.intermediate.dense")), f"{at}.output.dense"
            )
            x = self.ln(x + y, f"{at}.output.LayerNorm", 1e-12)
        return x
