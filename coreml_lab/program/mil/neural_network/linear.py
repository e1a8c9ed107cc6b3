"""Products with matrices: inner product, embeddings, matrix multiplication, dot product."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.mil.neural_network import weights
from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import (
    as_float,
    as_int,
    at_least,
    product,
    reshape,
    sizes,
)
from coreml_lab.program.mil.tools import mb

CHANNEL = -3
IMAGE = 3
LENGTHS = np.float32(1e-12)


def _bias(p: Any, length: int) -> dict[str, Array]:
    return {"bias": weights.array(p.bias, [length])} if p.hasBias else {}


@layer("innerProduct", images=True)
def inner_product(p: Any, x: Any) -> Any:
    """A matrix times each vector; of 4 or 5 axes, the last three are one vector."""
    inputs, outputs = int(p.inputChannels), int(p.outputChannels)
    given = {"weight": weights.array(p.weights, [outputs, inputs]), **_bias(p, outputs)}
    if p.int8DynamicQuantize:
        x = _eight_bits(x)
    if x.rank <= IMAGE:
        one = x.rank == 1
        y = mb.linear(x=mb.expand_dims(x=x, axes=[0]) if one else x, **given)
        return mb.squeeze(x=y, axes=[0]) if one else y
    lead = sizes(x)[:CHANNEL]
    y = mb.linear(x=reshape(x, [product(lead), inputs]), **given)
    return reshape(y, [*lead, outputs, 1, 1])


def _eight_bits(x: Any) -> Any:
    """What is left of numbers in 8 bits: multiples of the largest by 1/127."""
    axes = list(range(x.rank))
    largest = mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True)
    step = mb.maximum(x=mb.mul(x=largest, y=np.float32(1 / 127)), y=LENGTHS)
    return mb.mul(x=mb.round(x=mb.real_div(x=x, y=step)), y=step)


@layer("embedding", floats=False, images=True)
def embedding(p: Any, x: Any) -> Any:
    """Columns of a matrix [outputChannels, inputDim], by index; three axes of length 1 behind."""
    at_least(x, IMAGE + 1)
    lead = sizes(x)[:CHANNEL]
    found = _rows(p, int(p.outputChannels), int(p.inputDim), reshape(as_int(x), lead))
    return reshape(found, [*lead, int(p.outputChannels), 1, 1])


@layer("embeddingND", floats=False)
def embedding_nd(p: Any, x: Any) -> Any:
    """Columns of a matrix [embeddingSize, vocabSize], by index; one axis of length 1 behind."""
    at_least(x, len("N1"))
    indices = mb.squeeze(x=as_int(x), axes=[-1])
    return _rows(p, int(p.embeddingSize), int(p.vocabSize), indices)


def _rows(p: Any, outputs: int, entries: int, indices: Any) -> Any:
    table = weights.array(p.weights, [outputs, entries]).T.copy()
    found = mb.gather(x=table, indices=indices, axis=0)
    return mb.add(x=found, y=weights.array(p.bias, [outputs])) if p.hasBias else found


@layer("batchedMatmul", inputs=(1, 2))
def batched_matmul(p: Any, a: Any, b: Any = None) -> Any:
    """A product of matrices in the last two axes, or with one that the layer brings."""
    if b is not None:
        a = mb.expand_dims(x=a, axes=[0]) if a.rank == 1 else a
        b = mb.expand_dims(x=b, axes=[1]) if b.rank == 1 else b
        return mb.matmul(x=a, y=b, transpose_x=bool(p.transposeA), transpose_y=bool(p.transposeB))
    rows, columns = int(p.weightMatrixFirstDimension), int(p.weightMatrixSecondDimension)
    # Column by column, and a scale per column: as rows of the other way round.
    given = {"weight": weights.array(p.weights, [columns, rows]), **_bias(p, columns)}
    a = _eight_bits(a) if p.int8DynamicQuantize else a
    if a.rank == 1:
        return mb.squeeze(x=mb.linear(x=mb.expand_dims(x=a, axes=[0]), **given), axes=[0])
    if a.rank <= IMAGE:
        return mb.linear(x=a, **given)
    lead = sizes(a)[:-1]
    return reshape(mb.linear(x=reshape(a, [product(lead), rows]), **given), [*lead, columns])


@layer("dot", inputs=2, images=True)
def dot(p: Any, a: Any, b: Any) -> Any:
    """The scalar product along the channels, or the cosine of the angle between."""
    at_least(a, IMAGE)
    if a.rank != b.rank:
        raise LayerError(f"its inputs have {a.rank} and {b.rank} axes")
    both = _along_channels(mb.mul(x=as_float(a), y=b))
    if not p.cosineSimilarity:
        return both
    lengths = [mb.sqrt(x=_along_channels(mb.mul(x=x, y=x))) for x in (a, b)]
    return mb.real_div(x=both, y=mb.maximum(x=mb.mul(x=lengths[0], y=lengths[1]), y=LENGTHS))


def _along_channels(x: Any) -> Any:
    return mb.reduce_sum(x=x, axes=[CHANNEL], keep_dims=True)
