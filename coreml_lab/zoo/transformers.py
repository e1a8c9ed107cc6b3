"""Networks that are made of attention."""

from __future__ import annotations

import math

import numpy as np

import coreml_lab as cl
from coreml_lab.program.tensors import Tensor
from coreml_lab.zoo.layers import KEPT, Layers

VIT_WIDTH, VIT_HEADS, VIT_BLOCKS, PATCH = 192, 3, 12, 16
BERT_WIDTH, BERT_HEADS, BERT_LAYERS, VOCABULARY, POSITIONS = 384, 12, 6, 30522, 512
VIT_EPSILON, BERT_EPSILON = 1e-6, 1e-12
HIDDEN = 4


def vit(net: Layers, x: Tensor) -> Tensor:
    """A vision transformer (Dosovitskiy et al., 2020) of the size called Tiny, in patches of 16."""
    x = net.conv(x, "patch_embed.proj", VIT_WIDTH, PATCH, stride=PATCH, bias=True)
    x = cl.ops.transpose(cl.ops.flatten(x, 2), perm=[0, 2, 1])
    token = net.normal("cls_token", (1, 1, VIT_WIDTH), 0.5)
    batch = int(x.shape[0])  # type: ignore[arg-type]  # the zoo's sizes are all known
    x = cl.ops.concat([np.repeat(token, batch, 0), x], axis=1)
    count = int(x.shape[1])  # type: ignore[arg-type]  # the same
    x = cl.ops.elementwise_add(x, net.normal("pos_embed", (1, count, VIT_WIDTH), 0.5))
    for i in range(VIT_BLOCKS):
        x = _vit_block(net, x, f"blocks.{i}")
    x = net.layer_norm(x, "norm", VIT_EPSILON)
    first = cl.ops.slice_by_index(
        x, [0, 0, 0], [batch, 1, VIT_WIDTH], squeeze_mask=[False, True, False]
    )
    return net.linear(first, "head", 1000)


def _vit_block(net: Layers, x: Tensor, name: str) -> Tensor:
    y = net.layer_norm(x, f"{name}.norm1", VIT_EPSILON)
    qkv = cl.ops.split(net.linear(y, f"{name}.attn.qkv", 3 * VIT_WIDTH), num_splits=3, axis=-1)
    x = cl.ops.elementwise_add(
        x, net.linear(_attention(VIT_HEADS, *qkv), f"{name}.attn.proj", VIT_WIDTH)
    )
    y = net.layer_norm(x, f"{name}.norm2", VIT_EPSILON)
    added: Tensor = cl.ops.elementwise_add(x, _mlp(net, y, f"{name}.mlp.fc1", f"{name}.mlp.fc2"))
    return added


def _mlp(net: Layers, x: Tensor, first: str, second: str) -> Tensor:
    width = int(x.shape[-1])  # type: ignore[arg-type]  # the zoo's sizes are all known
    return net.linear(cl.ops.gelu(net.linear(x, first, HIDDEN * width)), second, width, KEPT)


def _attention(heads: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each position looks at all others: ``softmax(q k / sqrt(size)) v``, per head."""
    batch, count, width = query.shape
    size = int(width) // heads  # type: ignore[arg-type]  # the zoo's sizes are all known

    def split(x: Tensor) -> Tensor:
        parts = cl.ops.reshape(x, [batch, count, heads, size])
        return cl.ops.transpose(parts, perm=[0, 2, 1, 3])  # type: ignore[no-any-return]

    scaled = cl.ops.elementwise_mul(split(query), np.float32(1 / math.sqrt(size)))
    scores = cl.ops.softmax(cl.ops.batch_matmul(scaled, split(key), transpose_y=True), axis=-1)
    mixed = cl.ops.transpose(cl.ops.batch_matmul(scores, split(value)), perm=[0, 2, 1, 3])
    joined: Tensor = cl.ops.reshape(mixed, [batch, count, width])
    return joined


def bert(net: Layers, tokens: Tensor) -> Tensor:
    """An encoder like BERT (Devlin et al., 2018), of MiniLM's size: one vector per token."""
    count = int(tokens.shape[1])  # type: ignore[arg-type]  # the zoo's sizes are all known
    words = net.normal("embeddings.word_embeddings.weight", (VOCABULARY, BERT_WIDTH), 1.0)
    places = net.normal("embeddings.position_embeddings.weight", (POSITIONS, BERT_WIDTH), 0.5)
    kinds = net.normal("embeddings.token_type_embeddings.weight", (2, BERT_WIDTH), 0.5)
    x = cl.ops.gather(words, tokens, axis=0)
    x = cl.ops.elementwise_add(x, (places[:count] + kinds[:1])[None])
    x = net.layer_norm(x, "embeddings.LayerNorm", BERT_EPSILON)
    for i in range(BERT_LAYERS):
        x = _bert_layer(net, x, f"encoder.layer.{i}")
    return x


def _bert_layer(net: Layers, x: Tensor, name: str) -> Tensor:
    qkv = [
        net.linear(x, f"{name}.attention.self.{n}", BERT_WIDTH) for n in ("query", "key", "value")
    ]
    y = net.linear(_attention(BERT_HEADS, *qkv), f"{name}.attention.output.dense", BERT_WIDTH)
    x = net.layer_norm(
        cl.ops.elementwise_add(y, x), f"{name}.attention.output.LayerNorm", BERT_EPSILON
    )
    y = _mlp(net, x, f"{name}.intermediate.dense", f"{name}.output.dense")
    return net.layer_norm(cl.ops.elementwise_add(y, x), f"{name}.output.LayerNorm", BERT_EPSILON)
