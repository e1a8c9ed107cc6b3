"""Tensor: a handle on a value of a graph, computed when it is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from coreml_lab import config
from coreml_lab.errors import GraphError, ShapeError
from coreml_lab.program import exchange
from coreml_lab.program.arrays import taken
from coreml_lab.program.graph import (
    MIL_NAME,
    NUMPY_NAME,
    Array,
    Dim,
    Graph,
    Node,
    Operand,
    TensorType,
    Value,
)
from coreml_lab.program.operators import TensorMethods
from coreml_lab.program.places import caller
from coreml_lab.program.promotion import element_type

# The engines lie above this module, so ``run`` installs what computes: the one inversion.
Evaluate = Callable[[Graph, str], dict[str, Array]]


def _no_engine(graph: Graph, device: str) -> dict[str, Array]:
    raise GraphError(
        f"no engine computes {graph!r} on {device}",
        hint="import coreml_lab.run.compiler, which installs them",
    )


def _full_name(device: str) -> str:
    return device if ":" in device or device == "cpu" else f"{device}:0"


class Keeper(Protocol):
    """Who counts the arrays that tensors hold and give away."""

    def tensor(self, array: Array, *, copied: bool | None) -> None:
        """An array that a tensor holds: a copy, the memory it was given in, or computed (None)."""
        ...

    def taken(self, array: Array, *, copied: bool) -> None:
        """An array that crossed a border."""
        ...


class _Nobody:
    def tensor(self, array: Array, *, copied: bool | None) -> None:
        """Nothing is counted."""

    def taken(self, array: Array, *, copied: bool) -> None:
        """Nothing is counted."""


class _Engines:
    keeper: Keeper = _Nobody()
    evaluate: Evaluate = staticmethod(_no_engine)
    resolve: Callable[[str], str] = staticmethod(_full_name)


def install(
    evaluate: Evaluate, resolve: Callable[[str], str], keeper: Keeper | None = None
) -> None:
    """Set the functions behind ``Tensor.numpy()`` and ``Tensor.to()``, and who counts arrays."""
    _Engines.evaluate = staticmethod(evaluate)
    _Engines.keeper = keeper or _Nobody()
    _Engines.resolve = staticmethod(resolve)


class Tensor(TensorMethods):
    """An n-dimensional value on a device: recorded now, computed on demand, then remembered."""

    # NumPy must leave ``array * tensor`` to us.
    __array_priority__ = 1000
    __array_ufunc__ = None

    def __init__(self, value: Value, device: str) -> None:
        self.value = value
        self.device = device
        self._array: Array | None = value.node.attrs["data"] if value.node.op == "data" else None
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        """Sizes of the dimensions."""
        return self.value.type.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        return self.value.type.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.value.type.rank

    @property
    def is_coreml(self) -> bool:
        """Whether it lives on a Core ML device."""
        return self.device.startswith("coreml")

    def numpy(self) -> Array:
        """Compute, once, and return a NumPy array (read-only: it is shared)."""
        with self._lock:
            if self._array is None:
                array = _Engines.evaluate(Graph({"value": self.value}), self.device)["value"]
                array.flags.writeable = False
                _Engines.keeper.tensor(array, copied=None)
                self._array = array
            return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype, copy=copy)

    def __dlpack__(self, **how: Any) -> Any:
        """Its memory for PyTorch, JAX, CuPy: read-only, or a copy for who knows no such thing."""
        array = self.numpy()
        capsule, copied = exchange.lent(array, **how)
        _Engines.keeper.taken(array, copied=copied)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.numpy().__dlpack_device__()

    def __buffer__(self, flags: int) -> memoryview:
        del flags
        array: Any = self.numpy()
        return memoryview(array)  # a request to write is refused: it is read-only

    def item(self) -> Any:
        """The one number it holds, as a Python scalar."""
        return self.numpy().item()

    def to(self, device: str) -> Tensor:
        """The same value on another device; computed here first when it is not plain data.

        Raises:
            EngineUnavailable: when the device is not here; the message says why.
        """
        device = _Engines.resolve(device)
        return self if device == self.device else _holding(self.numpy(), device, copied=False)

    def to_coreml(self) -> Tensor:
        """The same value on Core ML's device."""
        return self.to("coreml")

    def to_metal(self) -> Tensor:
        """The same value on the first Metal GPU."""
        return self.to("metal")

    def to_cuda(self) -> Tensor:
        """The same value on the first CUDA GPU."""
        return self.to("cuda")

    def to_opencl(self) -> Tensor:
        """The same value on the first OpenCL device."""
        return self.to("opencl")

    def to_cpu(self) -> Tensor:
        """The same value on the CPU."""
        return self.to("cpu")

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("len() of a tensor without dimensions")
        size = self.shape[0]
        if not isinstance(size, int):
            raise ShapeError(
                f"len() of a tensor whose first dimension is flexible: {self.value.type}"
            )
        return size

    def __repr__(self) -> str:
        state = "data" if self._array is not None else f"not computed yet: {self.value.node.op}"
        return f"Tensor({self.value.type}, device={self.device!r}, {state})"


def tensor(
    data: Any, *, device: str | None = None, dtype: Any = None, copy: bool | None = None
) -> Tensor:
    """A tensor holding an array, nested lists or a number (float64 becomes float32).

    Arrays of PyTorch, JAX and CuPy are taken as NumPy's; from a GPU they are fetched. What could
    still be written to is copied, unless ``copy=False``: the tensor then holds the array's own
    memory, and sees what is written there until it is computed.

    Raises:
        ShapeError: for what is not numbers, has more than five dimensions, or does not fit int32.
        GraphError: where ``copy=False`` and the element type must change.
    """
    array, new = taken(data, None if dtype is None else element_type(dtype))
    if new and copy is False:
        raise GraphError(
            f"a tensor of {type(data).__name__} cannot share its memory: it must be copied",
            hint="give a NumPy array, or a PyTorch one on the CPU, of a type that Core ML has",
        )
    copied = new or bool(copy) or (copy is None and not exchange.immutable(array))
    if copied:
        array = array if new else array.copy()
        array.flags.writeable = False
    return _holding(array, _device(device), copied=copied)


def _holding(array: Array, device: str, *, copied: bool) -> Tensor:
    """A tensor of an array that is as it should be: a copy, or the memory it was given in."""
    array = array.view()
    array.flags.writeable = False
    _Engines.keeper.tensor(array, copied=copied)
    node = Node("data", (TensorType(array.shape, array.dtype),), attrs={"data": array})
    return Tensor(Value(node), device)


# Where a function that is being traced will run: it may make tensors out of nothing.
_traced: ContextVar[str] = ContextVar("device of what is traced", default="")


@contextmanager
def traced_on(device: str) -> Iterator[None]:
    """New tensors belong to ``device`` inside of the block."""
    token = _traced.set(device)
    try:
        yield
    finally:
        _traced.reset(token)


def _device(device: str | None) -> str:
    return _Engines.resolve(device or _traced.get() or config.current().device)


def spec(*shape: int | Dim | Sequence[int | Dim], dtype: Any = "fp32") -> TensorType:
    """Shape and element type of an input of ``compile()``; a ``Dim`` makes a dimension flexible.

    The shape is given one by one or as an array has it: ``spec(1, 3)``, ``spec((1, 3))``.
    """
    given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    return TensorType(tuple(given), np.dtype(NUMPY_NAME.get(str(dtype), dtype)))  # type: ignore[arg-type]


def placeholder(name: str, kind: TensorType, device: str = "coreml:0") -> Tensor:
    """A named input of a program that is being written."""
    return Tensor(Value(Node("input", (kind,), name=name)), device)


def apply(
    op: str,
    inputs: Mapping[str, Any],
    attrs: Mapping[str, Any],
    *,
    baked: frozenset[str] = frozenset(),
) -> Any:
    """Record one operation.

    Tensors are values that are fed when the program runs; arrays, lists and numbers are constants
    of the program.

    Raises:
        ShapeError: when MIL's own type inference refuses the operands.
        GraphError: when operands live on different devices.
    """
    from coreml_lab.program import mil  # noqa: PLC0415 - importing coremltools takes seconds; only recording needs it

    found = [
        t
        for v in inputs.values()
        for t in (v if isinstance(v, tuple | list) else (v,))
        if isinstance(t, Tensor)
    ]
    device = _common_device(op, found)
    kinds = dict.fromkeys(inputs, found[0].dtype) if found else {}
    operands: dict[str, Operand] = {
        k: _operand(v, like=kinds.get(k), bake=k in baked) for k, v in inputs.items()
    }
    constants = {k: _constant(v) for k, v in attrs.items()}
    types = mil.infer(op, operands, constants)
    node = Node(op, types, operands, constants, where=caller())
    results = tuple(Tensor(Value(node, i), device) for i in range(len(types)))
    return results if len(results) > 1 else results[0]


def _common_device(op: str, tensors: list[Tensor]) -> str:
    traced = bool(_traced.get())
    # What a tensor holds becomes a constant of a program that is written, which lives anywhere.
    placed = (t for t in tensors if not traced or t.value.node.op != "data")
    devices = sorted({t.device for t in placed})
    if len(devices) > 1:
        raise GraphError(
            f"{op}: operands live on {' and '.join(devices)}",
            hint="what was computed outside of the program becomes a constant of it: y.numpy()"
            if traced
            else f"move one of them: y.to({devices[0]!r})",
        )
    return devices[0] if devices else _device(None)


def _operand(value: Any, *, like: np.dtype[Any] | None, bake: bool) -> Operand:
    if isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value):
        return tuple(
            v for item in value if isinstance(v := _operand(item, like=like, bake=bake), Value)
        )
    if isinstance(value, Tensor):
        return const(value.numpy()) if bake and value.value.node.op == "data" else value.value
    # A bare Python number takes the type of the tensors around it, as in NumPy.
    if like is not None and isinstance(value, int | float) and not isinstance(value, bool):
        return const(_number(value, like))
    return const(_kept(value))


def _number(value: Any, like: np.dtype[Any]) -> Array:
    try:
        wide = isinstance(value, float) and like.kind in "iu"
        return np.asarray(value, np.float32 if wide else like)
    except OverflowError as error:
        raise ShapeError(
            f"{value} does not fit {MIL_NAME[like.name]}, the type of the tensors around it",
            hint="cast them first: x.astype('fp32')",
        ) from error


def _kept(data: Any) -> Array:
    """``data`` for a graph: what is computed later must not see what is written there until then.

    A program that is being written is read at once, and its weights may be large.
    """
    array, new = taken(data)
    if new or _traced.get() or exchange.immutable(array):
        return array
    _Engines.keeper.taken(array, copied=True)
    return array.copy()


def _constant(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, list):
        return list(value)
    return _kept(value) if isinstance(value, np.ndarray) else value


def const(array: Any) -> Value:
    """A constant of the program."""
    array = np.asarray(array)
    return Value(Node("const", (TensorType(array.shape, array.dtype),), attrs={"val": array}))
