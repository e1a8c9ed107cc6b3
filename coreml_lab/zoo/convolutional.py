"""Networks for images that are made of convolutions."""

from __future__ import annotations

import coreml_lab as cl
from coreml_lab.program.tensors import Tensor
from coreml_lab.zoo.layers import KEPT, Layers, channels

# Of each stage of ResNet-50: width, number of blocks, stride of the first.
RESNET_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
# What a block adds to what it passes on: a fifth, or fifty layers would blow up the scale.
BRANCH = 0.2
# Of each stage of MobileNetV2: expansion, channels, number of blocks, stride of the first.
MOBILENET_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
# Channels of VGG-16's convolutions; 0 halves the image.
VGG_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def resnet50(net: Layers, x: Tensor) -> Tensor:
    """ResNet-50 (He et al., 2015), its stride in the 3x3 convolutions, as torchvision has it."""
    x = cl.ops.relu(net.batch_norm(net.conv(x, "conv1", 64, 7, stride=2, padding=3), "bn1"))
    x = cl.ops.max_pool2d(x, 3, 2, 1)
    for stage, (width, blocks, stride) in enumerate(RESNET_STAGES, 1):
        for block in range(blocks):
            x = _bottleneck(net, x, f"layer{stage}.{block}", width, 1 if block else stride)
    x = cl.ops.flatten(cl.ops.global_avg_pool2d(x))
    return net.linear(x, "fc", 1000)


def _bottleneck(net: Layers, x: Tensor, name: str, width: int, stride: int) -> Tensor:
    y = net.conv(x, f"{name}.conv1", width, 1)
    y = cl.ops.relu(net.batch_norm(y, f"{name}.bn1"))
    y = net.conv(y, f"{name}.conv2", width, 3, stride=stride, padding=1)
    y = cl.ops.relu(net.batch_norm(y, f"{name}.bn2"))
    y = net.conv(y, f"{name}.conv3", 4 * width, 1)
    y = net.batch_norm(y, f"{name}.bn3", BRANCH)
    if channels(x) != 4 * width:
        x = net.conv(x, f"{name}.downsample.0", 4 * width, 1, stride=stride)
        x = net.batch_norm(x, f"{name}.downsample.1")
    added: Tensor = cl.ops.relu(cl.ops.elementwise_add(y, x))
    return added


def vgg16(net: Layers, x: Tensor) -> Tensor:
    """VGG-16 (Simonyan and Zisserman, 2014): 138 million weights, most of them at the end."""
    place = 0
    for width in VGG_PLAN:
        if width:
            x = cl.ops.relu(net.conv(x, f"features.{place}", width, 3, padding=1, bias=True))
        else:
            x = cl.ops.max_pool2d(x, 2)
        place += 2 if width else 1
    x = cl.ops.flatten(cl.ops.adaptive_avg_pool2d(x, 7))
    x = cl.ops.relu(net.linear(x, "classifier.0", 4096, KEPT))
    x = cl.ops.relu(net.linear(x, "classifier.3", 4096, KEPT))
    return net.linear(x, "classifier.6", 1000, KEPT)


def mobilenet_v2(net: Layers, x: Tensor) -> Tensor:
    """MobileNetV2 (Sandler et al., 2018): depthwise convolutions between narrow layers."""
    x = _clipped(net, x, "features.0", 32, 3, stride=2)
    place = 1
    for expansion, width, blocks, stride in MOBILENET_STAGES:
        for block in range(blocks):
            step = 1 if block else stride
            at = f"features.{place}.conv"
            x = _inverted(net, x, at, expansion=expansion, width=width, stride=step)
            place += 1
    x = _clipped(net, x, f"features.{place}", 1280, 1)
    x = cl.ops.flatten(cl.ops.global_avg_pool2d(x))
    return net.linear(x, "classifier.1", 1000)


def _clipped(
    net: Layers,
    x: Tensor,
    name: str,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
) -> Tensor:
    y = net.conv(
        x,
        f"{name}.0",
        width,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
    )
    clipped: Tensor = cl.ops.relu6(net.batch_norm(y, f"{name}.1"))
    return clipped


def _inverted(
    net: Layers, x: Tensor, name: str, *, expansion: int, width: int, stride: int
) -> Tensor:
    wide, y, place = channels(x) * expansion, x, 0
    if expansion > 1:
        y, place = _clipped(net, x, f"{name}.0", wide, 1), 1
    y = _clipped(net, y, f"{name}.{place}", wide, 3, stride=stride, groups=wide)
    y = net.conv(y, f"{name}.{place + 1}", width, 1)
    kept = stride == 1 and channels(x) == width
    y = net.batch_norm(y, f"{name}.{place + 2}", BRANCH if kept else 1.0)
    result: Tensor = cl.ops.elementwise_add(y, x) if kept else y
    return result


def digits(net: Layers, x: Tensor) -> Tensor:
    """Two convolutions and a layer of ten scores: small enough for first steps."""
    for i, width in enumerate((16, 32)):
        x = cl.ops.relu(net.conv(x, f"conv{i + 1}", width, 3, padding=1, bias=True))
        x = cl.ops.max_pool2d(x, 2)
    return net.linear(cl.ops.flatten(x), "fc", 10)
