"""What can be written with tensors: operators, indices and methods; each records MIL operations."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from coreml_lab.errors import ShapeError
from coreml_lab.program.promotion import (
    as_type,
    binary,
    element_type,
    logical,
    matmul,
    op,
    sugar,
)

if TYPE_CHECKING:
    from coreml_lab.program.tensors import Tensor

Axes = int | Sequence[int] | None


class TensorMethods:
    """Operators and methods of a tensor."""

    if TYPE_CHECKING:
        shape: Any
        dtype: Any
        ndim: Any

        item: Any

        def __len__(self) -> int: ...

    # -- operators

    def __add__(self, other: Any) -> Tensor:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return binary("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return binary("sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return binary("sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return binary("mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return binary("mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return binary("real_div", self, other, real=True)

    def __rtruediv__(self, other: Any) -> Tensor:
        return binary("real_div", other, self, real=True)

    def __floordiv__(self, other: Any) -> Tensor:
        return binary("floor_div", self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return binary("floor_div", other, self)

    def __mod__(self, other: Any) -> Tensor:
        return binary("mod", self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return binary("mod", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return binary("pow", self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return binary("pow", other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return binary("equal", self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return binary("not_equal", self, other)

    def __lt__(self, other: Any) -> Tensor:
        return binary("less", self, other)

    def __le__(self, other: Any) -> Tensor:
        return binary("less_equal", self, other)

    def __gt__(self, other: Any) -> Tensor:
        return binary("greater", self, other)

    def __ge__(self, other: Any) -> Tensor:
        return binary("greater_equal", self, other)

    # A tensor is the same thing only as itself, whatever it holds.
    __hash__ = object.__hash__

    def __and__(self, other: Any) -> Tensor:
        return logical("logical_and", self, other)

    def __rand__(self, other: Any) -> Tensor:
        return logical("logical_and", other, self)

    def __or__(self, other: Any) -> Tensor:
        return logical("logical_or", self, other)

    def __ror__(self, other: Any) -> Tensor:
        return logical("logical_or", other, self)

    def __xor__(self, other: Any) -> Tensor:
        return logical("logical_xor", self, other)

    def __rxor__(self, other: Any) -> Tensor:
        return logical("logical_xor", other, self)

    def __invert__(self) -> Tensor:
        return op("logical_not", self)

    def __neg__(self) -> Tensor:
        return binary("mul", self, -1)

    def __pos__(self) -> Tensor:
        return op("identity", self)

    def __abs__(self) -> Tensor:
        return self.abs()

    def __getitem__(self, index: Any) -> Tensor:
        from coreml_lab.program.indexing import take  # noqa: PLC0415 - it is written with operators

        return take(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if not all(n == 1 for n in self.shape):
            raise ShapeError(
                f"the truth value of a tensor of shape {self.shape} is ambiguous",
                hint="reduce it to one value first, as in bool((x > 0).astype(int).max())",
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    # -- element by element

    def abs(self) -> Tensor:
        """Distance from zero."""
        return op("abs", self)

    def exp(self) -> Tensor:
        """E to the power of each element."""
        return op("exp", self)

    def log(self) -> Tensor:
        """Natural logarithm."""
        return op("log", self, epsilon=0.0)

    def sqrt(self) -> Tensor:
        """Square root."""
        return op("sqrt", self)

    def square(self) -> Tensor:
        """Each element times itself."""
        return op("square", self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        """Elements held between ``low`` and ``high``."""
        if low is not None and high is not None and low < high and self.dtype.kind == "f":
            return op("clip", self, alpha=float(low), beta=float(high))
        raised: Any = self if low is None else binary("maximum", self, low)
        return raised if high is None else binary("minimum", raised, high)

    def relu(self) -> Tensor:
        """Each element where it is positive, else zero."""
        return op("relu", self)

    def sigmoid(self) -> Tensor:
        """``1 / (1 + exp(-x))``."""
        return op("sigmoid", self)

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return op("tanh", self)

    def gelu(self, mode: str = "EXACT") -> Tensor:
        """Gaussian error linear unit; ``mode`` as in ``cl.ops.gelu``."""
        return op("gelu", self, mode=mode)

    def silu(self) -> Tensor:
        """``x * sigmoid(x)``."""
        return op("silu", self)

    def softmax(self, axis: int = -1) -> Tensor:
        """Positive numbers that sum to one along ``axis``."""
        return op("softmax", self, axis=axis)

    def astype(self, dtype: Any) -> Tensor:
        """The same numbers as another element type, such as ``"fp16"``, ``np.int32``, ``bool``."""
        return as_type(self, element_type(dtype))

    # -- over dimensions

    def sum(self, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
        """The sum over one axis, several, or all."""
        return sugar("sum", self, axes, keep_dims=keep_dims)

    def mean(self, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
        """The mean over one axis, several, or all."""
        return sugar("mean", self, axes, keep_dims=keep_dims)

    def max(self, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
        """The largest element over one axis, several, or all."""
        return sugar("max", self, axes, keep_dims=keep_dims)

    def min(self, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
        """The smallest element over one axis, several, or all."""
        return sugar("min", self, axes, keep_dims=keep_dims)

    def prod(self, axes: Axes = None, *, keep_dims: bool = False) -> Tensor:
        """The product over one axis, several, or all."""
        return sugar("prod", self, axes, keep_dims=keep_dims)

    def var(self, axes: Axes = None, *, keep_dims: bool = False, ddof: int = 0) -> Tensor:
        """The variance over one axis, several, or all."""
        return sugar("var", self, axes, keep_dims=keep_dims, ddof=ddof)

    def std(self, axes: Axes = None, *, keep_dims: bool = False, ddof: int = 0) -> Tensor:
        """The standard deviation over one axis, several, or all."""
        return sugar("std", self, axes, keep_dims=keep_dims, ddof=ddof)

    def argmax(self, axis: int | None = None, *, keep_dims: bool = False) -> Tensor:
        """Index of the largest element, along ``axis`` or of all."""
        return self._arg("reduce_argmax", axis, keep_dims)

    def argmin(self, axis: int | None = None, *, keep_dims: bool = False) -> Tensor:
        """Index of the smallest element, along ``axis`` or of all."""
        return self._arg("reduce_argmin", axis, keep_dims)

    def _arg(self, name: str, axis: int | None, keep_dims: bool) -> Tensor:
        if axis is not None:
            return op(name, self, axis=axis, keep_dims=keep_dims)
        found = op(name, self.reshape(-1), axis=0)
        return op("reshape", found, [1] * self.ndim) if keep_dims else found

    # -- shape

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in another shape; one size may be -1: what is left."""
        return op("reshape", self, _sizes(shape))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """The dimensions in another order; without one, reversed."""
        perm = _sizes(axes) or list(range(self.ndim))[::-1]
        return op("transpose", self, perm=perm)

    @property
    def T(self) -> Tensor:  # noqa: N802 - its name in NumPy
        """The dimensions reversed."""
        return self.transpose()

    def squeeze(self, axes: Axes = None) -> Tensor:
        """Without the given dimensions of size 1, or without all of them."""
        given = {} if axes is None else {"axes": _sizes((axes,))}
        return op("squeeze", self, **given)

    def expand_dims(self, axes: int | Sequence[int]) -> Tensor:
        """With new dimensions of size 1 at the places ``axes`` of the result."""
        return op("expand_dims", self, axes=_sizes((axes,)))

    def matmul(self, other: Any) -> Tensor:
        """The matrix product, as ``self @ other``."""
        return matmul(self, other)


def _sizes(given: tuple[Any, ...]) -> list[int]:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    flat = given[0] if len(given) == 1 and isinstance(given[0], Sequence) else given
    return [operator.index(n) for n in flat]
