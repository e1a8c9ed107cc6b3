"""WeightParams -> arrays: floats, half floats, and weights of 1 to 8 bits with their scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.program.mil.neural_network.registry import LayerError

BITS = 8
# The bytes of a number in a message have their highest bit set, but for the last.
CONTINUED = 0x7F


def array(params: Any, shape: Sequence[int], *, axis: int = 0) -> Array:
    """Weights in fp32, in that shape.

    Args:
        params: the message.
        shape: their shape; its product is their number.
        axis: along which scales and biases of quantized weights lie.

    Raises:
        LayerError: where there are more or fewer than the shape says, or none.
    """
    shape = tuple(int(n) for n in shape)
    count = math.prod(shape)
    found = _values(params, count)
    if found.size != count:
        raise LayerError(f"it has {found.size} weights where shape {shape} needs {count}")
    values = found.reshape(shape)
    if params.quantization.numberOfBits:
        values = _dequantized(params.quantization, values, axis)
    return np.ascontiguousarray(values, np.float32)


def vector(params: Any, length: int) -> Array:
    """A vector of weights: of ``length`` elements, or one for all of them."""
    single = length > 1 and _values(params, 1).size == 1
    return np.full(length, array(params, [1])[0]) if single else array(params, [length])


def _values(params: Any, count: int) -> Array:
    """The numbers as they are stored; those of fewer than 8 bits unpacked."""
    if params.floatValue:
        return _floats(params)
    if params.float16Value:
        return _buffer(params.float16Value, np.float16)
    if params.int8RawValue:
        return _buffer(params.int8RawValue, np.int8)
    if not params.rawValue:
        return np.zeros(0, np.float32)
    bits = int(params.quantization.numberOfBits)
    if not 1 <= bits <= BITS:
        raise LayerError(f"its weights have {bits} bits; there are 1 to {BITS}")
    raw = np.frombuffer(params.rawValue, np.uint8)
    return raw if bits == BITS else _unpacked(raw, bits, count)


def _floats(params: Any) -> Array:
    """Packed floats, from the message's own bytes: a list of millions of floats takes seconds."""
    data = params.SerializeToString()
    begin = 1
    while data[begin] > CONTINUED:
        begin += 1
    return np.frombuffer(data, np.float32, len(params.floatValue), begin + 1)


def _buffer(data: bytes, dtype: Any) -> Array:
    if len(data) % np.dtype(dtype).itemsize:
        raise LayerError(f"its weights are {len(data)} bytes, which are no {np.dtype(dtype)}")
    return np.frombuffer(data, dtype)


def _unpacked(raw: Array, bits: int, count: int) -> Array:
    """Numbers of ``bits`` bits, which lie without gaps, the highest bit first."""
    needed = -(-count * bits // BITS)
    if raw.size != needed:
        raise LayerError(f"{count} weights of {bits} bits are {needed} bytes, not {raw.size}")
    flat = np.unpackbits(raw, count=count * bits).reshape(count, bits)
    powers = (1 << np.arange(bits)[::-1]).astype(np.uint8)
    return np.asarray((flat * powers).sum(axis=1, dtype=np.uint8))


def _dequantized(quantization: Any, values: Array, axis: int) -> Array:
    """What stored numbers mean: entries of a table, or multiples of a scale."""
    if values.dtype.kind == "f":
        return values
    bits = int(quantization.numberOfBits)
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = np.array(quantization.lookupTableQuantization.floatValue, np.float32)
        if table.size != 1 << bits:
            raise LayerError(f"a table of {bits} bits has {1 << bits} entries, not {table.size}")
        return np.asarray(table[values])
    linear = quantization.linearQuantization
    scale, bias = np.array(linear.scale, np.float32), np.array(linear.bias, np.float32)
    scale = scale if scale.size else np.ones(1, np.float32)
    bias = bias if bias.size else np.zeros(1, np.float32)
    return np.asarray(values * _along(scale, values, axis) + _along(bias, values, axis))


def _along(numbers: Array, values: Array, axis: int) -> Array:
    """One number, or one per channel, so that it fits the weights."""
    if numbers.size == 1 or values.ndim < len("CN"):
        return numbers if numbers.size in {1, values.size} else _wrong(numbers, values.size)
    if numbers.size != values.shape[axis]:
        return _wrong(numbers, values.shape[axis])
    return numbers.reshape([-1 if i == axis else 1 for i in range(values.ndim)])


def _wrong(numbers: Array, channels: int) -> Array:
    raise LayerError(f"{numbers.size} scales or biases do not fit {channels} channels")
