"""PyTorch as lowerings see it: its functions, bound to one device and to one reading of fp16."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np

from coreml_lab.program.graph import Array

# Constants that lowerings make (grids, places) are kept on the device up to this many bytes each,
# and up to this many of them: what a CUDA graph was captured with must never be freed.
KEPT_BYTES = 1 << 20
KEPT = 20_000
# Element types that PyTorch's kernels lack or that MIL's small integers are widened to.
WIDE = {
    "float64": "float32",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}


class Space:
    """The namespace ``t`` of a torch lowering: the torch module, save for what depends on a device.

    Attributes:
        native: fp16 values are fp16 tensors here; otherwise they are held as fp32.
        outside: per check of indices on a device, the op, how many elements there are to choose
            from, and the least and the greatest index.
        asked: per check of indices that are an input, the op, its name and how many elements; the
            host has those numbers, and looks at them while the device computes.
        node: the op that is being run, on a device.
    """

    def __init__(self, torch: Any, device: str = "cpu", *, native: bool = False) -> None:
        self.torch = torch
        self.device = torch.device(device)
        self.native = native
        self.channels_last = False
        self.outside: list[tuple[Any, int, Any, Any]] = []
        self.asked: list[tuple[Any, str, int]] = []
        self.node: Any = None
        self._kept: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.torch, name)
        self.__dict__[name] = value  # asked once
        return value

    def kind(self, dtype: Any) -> Any:
        """The torch element type in which values of a NumPy one are held."""
        name = np.dtype(dtype).name
        if name == "float16" and not self.native:
            return self.torch.float32
        return getattr(self.torch, WIDE.get(name, name))

    def settle(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            self.torch.mps.synchronize()

    # -- making tensors ------------------------------------------------------------------------

    def as_tensor(self, data: Any, dtype: Any = None, device: Any = None) -> Any:  # noqa: ARG002 - there is one device
        """A tensor here; an array's is made once and kept."""
        tensor = data if isinstance(data, self.torch.Tensor) else self.placed(np.asarray(data))
        return tensor if dtype is None else tensor.to(dtype)

    asarray = as_tensor

    def tensor(self, data: Any, dtype: Any = None, device: Any = None) -> Any:
        """A tensor of Python numbers."""
        return self.as_tensor(np.asarray(data), dtype, device)

    def from_numpy(self, array: Array) -> Any:
        """A tensor here; it is never written to, so that equal ones may be one."""
        return self.placed(array)

    def arange(self, *bounds: Any, **options: Any) -> Any:
        """Numbers in order, made on the device."""
        options["device"] = self.device
        return self.torch.arange(*bounds, **options)

    def full(self, size: Any, value: Any, dtype: Any = None) -> Any:
        """One number everywhere, made on the device."""
        return self.torch.full(size, value, dtype=dtype, device=self.device)

    def placed(self, array: Array) -> Any:
        """An array on the device: small ones are kept, and made only once."""
        if array.dtype == np.float64:
            array = array.astype(np.float32)  # Metal has no double precision, and MIL neither
        if self.device.type == "cpu" or array.nbytes > KEPT_BYTES:
            return self.moved(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        kept = self._kept.get(key)
        if kept is None:
            kept = self.moved(array)
            if len(self._kept) < KEPT:
                self._kept[key] = kept
        return kept

    def moved(self, array: Array) -> Any:
        """An array on the device, in its own element type; not copied where it is there already."""
        array = np.asarray(array, order="C")
        # PyTorch has no read-only tensors and warns of them: it gets its own.
        array = array if array.flags.writeable else array.copy(order="C")
        return self.torch.from_numpy(array).to(self.device)

    def held(self, array: Array) -> Any:
        """A constant of the program on the device: not copied where its memory could be written to.

        Nobody writes to it: lowerings do not, and results are copies of it.
        """
        seen = np.asarray(array, order="C").view()
        with suppress(ValueError):  # memory that is read-only itself: a file's, for instance
            seen.flags.writeable = True
        return self.moved(seen)

    def known(self, array: Array) -> Any:
        """A tensor that remembers what it holds, so that nobody needs to ask its device."""
        array = np.asarray(array)
        name = "float32" if array.dtype == np.float16 and not self.native else array.dtype.name
        wide = array.astype(WIDE.get(name, name), copy=False)
        tensor = self.placed(wide)
        tensor.known = wide
        return tensor

    def border(self, dtype: Any) -> Any:
        """The element type of tensors where they come in and go out; NumPy narrows the integers."""
        return self.torch.float16 if np.dtype(dtype) == np.float16 else self.kind(dtype)

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """Zeros at the border."""
        return self.torch.zeros(shape, dtype=self.border(dtype), device=self.device)

    def entered(self, array: Array) -> Any:
        """An array at the border."""
        wide = WIDE.get(array.dtype.name)
        return self.moved(array if wide is None else array.astype(wide))

    def looking(self, function: Any, *operands: Any, **how: Any) -> Any:
        """Call a function that looks at what tensors hold; for who tapes calls it is one of them.

        The first operand is a tensor. It is PyTorch's own protocol for functions of others.
        """
        overrides, first = self.torch.overrides, operands[:1]
        if overrides.has_torch_function(first):
            return overrides.handle_torch_function(function, first, *operands, **how)
        return function(*operands, **how)

    # -- reading tensors -----------------------------------------------------------------------

    def within(self, at: Any, size: int) -> Any:
        """Indices into ``size`` elements as int64 that are not negative.

        One that is out of range is an error: at once on the CPU; on a device, where such an access
        would end the process' use of it, after the run.

        Raises:
            IndexError: on the CPU, or where the indices are known.
        """
        known, entered = getattr(at, "known", None), getattr(at, "entered", None)
        at = self.as_tensor(at).long()
        if at.numel() == 0:
            return at
        if known is not None:
            return _within(at, size, known)
        if self.device.type == "cpu":
            return self.looking(_within, at, size)
        if entered is not None:
            self.asked.append((self.node, entered, size))
        elif self.device.type == "cuda":
            self.outside.append((self.node, size, *self.torch.aminmax(at)))
        else:
            bad = ((at < -size) | (at >= size)).any().long()
            self.outside.append((self.node, 1, bad, bad))
        return at.remainder(max(1, size))


def _within(at: Any, size: int, known: Any = None) -> Any:
    """Indices into ``size`` elements that are not negative; ``known``: what they are."""
    held = at.numpy() if known is None else known
    low, high = int(held.min()), int(held.max())
    if low < -size or high >= size:
        raise IndexError(f"index {low if low < -size else high} is outside of {size}")
    return at if low >= 0 else at.remainder(size)


class _Exact:
    """Who holds the switches now, and what they were before the first of them came."""

    lock = threading.Lock()
    holders = 0
    before: list[tuple[Any, str, Any]] = []  # noqa: RUF012 - the one list


def uncast(torch: Any, kind: str) -> AbstractContextManager[Any]:
    """Without ``torch.autocast``, where a caller is in it: it is no setting of a program's."""
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    off: AbstractContextManager[Any] = torch.autocast(kind, enabled=False)
    return off


@contextmanager
def exact(torch: Any) -> Iterator[None]:
    """Single precision that is single precision (no TF32, no autocast), by cuDNN's fastest kernel.

    These are switches of the whole process: they are set while kernels are queued or captured. Two
    programs may do so at once, in threads of their own: the last one puts back what was before.
    """
    with _Exact.lock:
        if not _Exact.holders:
            wanted = _switches(torch)
            _Exact.before = [(owner, name, getattr(owner, name)) for owner, name, _ in wanted]
            _set(wanted)
        _Exact.holders += 1
    try:
        with uncast(torch, "cuda"), uncast(torch, "mps"), uncast(torch, "cpu"):
            yield
    finally:
        with _Exact.lock:
            _Exact.holders -= 1
            if not _Exact.holders:
                _set(_Exact.before)


def _set(switches: Sequence[tuple[Any, str, Any]]) -> None:
    for owner, name, value in switches:
        setattr(owner, name, value)


def _switches(torch: Any) -> list[tuple[Any, str, Any]]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    fastest = (cudnn, "benchmark", True)
    conv = getattr(cudnn, "conv", None)
    if hasattr(conv, "fp32_precision") and hasattr(matmul, "fp32_precision"):
        # PyTorch refuses to read the older switches once somebody used these.
        return [
            fastest,
            (conv, "fp32_precision", "ieee"),
            (matmul, "fp32_precision", "ieee"),
        ]
    return [fastest, (cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
