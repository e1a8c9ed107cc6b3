"""What a plan asks of PyTorch on a processor, as a tape of calls: a CUDA graph's like for the CPU.

Between two kernels a plan fetches operands, looks at sizes and element types and converts
parameters: 4 us a step, 1 ms of a ViT's 25. None of that depends on what the tensors hold where a
program's sizes are fixed. So it runs once under PyTorch's own listener, which is told every call
of a function or a method of PyTorch's, and from then on only those calls are made, with the same
arguments: results are the same to the bit. Nothing is taped where a tensor's elements were looked
at from Python, or where sizes follow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np

from coreml_lab.run.steps.step import Plan, StepFailed

# What may be asked about a tensor: it follows from sizes and element types.
ASKED = frozenset((
    "shape", "size", "dim", "ndim", "numel", "nelement", "__len__", "dtype", "itemsize",
    "element_size", "nbytes", "device", "layout", "is_floating_point", "is_complex", "is_cuda",
    "is_meta", "is_mkldnn", "is_quantized", "is_sparse",
))  # fmt: skip
# These may give the tensor itself: then there is nothing to call.
SAME = frozenset((
    "to", "contiguous", "as_tensor", "asarray", "float", "double", "half", "long", "int", "bool",
    "type",
))  # fmt: skip
# The size of their results is decided by what a tensor holds.
COUNTED = frozenset((
    "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "unique_dim",
    "bincount", "repeat_interleave",
))  # fmt: skip


@dataclass(frozen=True)
class Call:
    """``function`` of what lies in ``places``; its results go to ``out``, ``frees`` is let go."""

    function: Callable[..., Any]
    places: tuple[int, ...]
    out: tuple[int, ...]
    several: bool
    frees: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tape:
    """Calls over numbered places.

    Attributes:
        template: constants at their places.
        entries: the places of what a plan is given, by its slots.
        results: the places of what it hands out, by its slots.
    """

    template: list[Any]
    calls: Sequence[Call]
    entries: Mapping[int, int]
    results: Mapping[int, int]

    def run(self, given: Mapping[int, Any]) -> dict[int, Any]:
        """What a plan leaves in the slots of its outputs and new states."""
        places = self.template.copy()
        for slot, place in self.entries.items():
            places[place] = given[slot]
        for call in self.calls:
            made = call.function(*[places[i] for i in call.places])
            if not call.several:
                places[call.out[0]] = made
            else:
                for at, i in enumerate(call.out):
                    places[i] = made[at]
            made = None  # its memory goes with its places
            for i in call.frees:
                places[i] = None
        return {slot: places[i] for slot, i in self.results.items()}


def taped(plan: Plan, given: Mapping[int, Any]) -> Tape | None:
    """The plan as a tape; None where it cannot be one. Runs it three times, and the tape twice."""
    recording = Recording(plan.space.torch)
    tape = recording.of(plan, given)
    if tape is None:
        return None
    other = {slot: _turned(plan.space.torch, tensor) for slot, tensor in given.items()}
    with suppress(Exception):  # whatever one of the calls has to complain of, the plan will tell
        if all(_equal(plan.run(g), tape.run(g), tape.results) for g in (given, other)):
            return tape
    return None


def _turned(torch: Any, tensor: Any) -> Any:
    """Other numbers in about the same range; integers stay: they may be places in something."""
    if not tensor.is_floating_point():
        return tensor if tensor.dtype.itemsize > 1 else tensor.flip(tuple(range(tensor.dim())))
    ramp = torch.linspace(0.01, 0.02, tensor.numel(), dtype=tensor.dtype).reshape(tensor.shape)
    return tensor.flip(tuple(range(tensor.dim()))) * 0.75 + ramp


def _equal(ours: Any, theirs: Any, slots: Mapping[int, int]) -> bool:
    pairs = ((ours[s].numpy(), theirs[s].numpy()) for s in slots)
    return all(a.dtype == b.dtype and _same(a, b) for a, b in pairs)


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


@dataclass
class Recording:
    """Listens to a plan while it runs; ``refused`` says why there can be no tape of it."""

    torch: Any
    refused: str = ""
    _template: list[Any] = field(default_factory=list)
    _calls: list[Call] = field(default_factory=list)
    # Constants by identity: they stay in the template, so no other object gets their number.
    _constants: dict[int, int] = field(default_factory=dict)
    # Where the memory of constants and of what is given lies.
    _foreign: set[int] = field(default_factory=set)

    def of(self, plan: Plan, given: Mapping[int, Any]) -> Tape | None:
        """The tape of one run, or None."""
        # Its own views: what lies on them is known by identity, and not on the caller's tensors.
        own = {slot: tensor.view(tensor.shape) for slot, tensor in given.items()}
        entries = {slot: self._new(tensor) for slot, tensor in own.items()}
        mine = {_memory(self.torch, t) for t in own.values()}
        self._foreign |= mine
        try:
            with _listener(self.torch)(self._heard):
                slots = plan.run(own)
        except StepFailed:
            return None
        wanted = (*plan.outputs.values(), *plan.updates.values())
        if not all(isinstance(slots[slot], self.torch.Tensor) for slot in wanted):
            return None
        results = {slot: self._handed(slots[slot], mine) for slot in wanted}
        if self.refused:
            return None
        kept = {*entries.values(), *results.values(), *self._constants.values()}
        return Tape(self._template, released(self._calls, kept), entries, results)

    def _handed(self, tensor: Any, mine: set[int]) -> int:
        """The place of a result. What runs make anew may be a constant here: callers get a copy."""
        place = self._place(tensor)
        if _memory(self.torch, tensor) not in self._foreign - mine - {-1}:
            return place
        copy = self._new(None)
        self._calls.append(Call(self.torch.clone, (place,), (copy,), several=False))
        return copy

    def _heard(self, function: Any, args: tuple[Any, ...], how: dict[str, Any]) -> Any:
        """Make a call of PyTorch's, and remember it where it makes tensors."""
        made, name = function(*args, **how), _name(function)
        self.refused = self.refused or self._reason(name, args, how)
        if self.refused or name in ASKED:
            return made
        if name in SAME and args and made is args[0]:
            return made
        parts = made if isinstance(made, tuple | list) else (made,)
        if not (name == "__setitem__" or all(isinstance(t, self.torch.Tensor) for t in parts)):
            self.refused = f"{name} gives no tensor"
            return made
        call, places = self._called(function, args, how)
        out = tuple(self._new(t) for t in parts)
        self._calls.append(Call(call, places, out, several=made is parts))
        return made

    def _reason(self, name: str, args: tuple[Any, ...], how: dict[str, Any]) -> str:
        """Why a call cannot be made again without Python between; empty: it can."""
        if name in COUNTED or (name == "where" and len(args) + len(how) == 1):
            return f"{name}: how much it gives depends on what it is given"
        masks = {self.torch.bool, self.torch.uint8}
        chosen = args[1:] if name in {"__getitem__", "index"} else ()
        if any(t.dtype in masks for t in self._tensors(chosen)):
            return f"{name} by a mask"
        if "out" in how or how.get("inplace"):
            return f"{name} into memory that is there"
        if any(self._tensors((s.start, s.stop, s.step)) for s in self._slices(args)):
            return f"{name} of a part whose ends are tensors"
        if _changes(name) and not self._own(args[0]):
            return f"{name} changes what it did not make"
        return ""

    def _slices(self, value: Any) -> list[slice]:
        """Every slice in arguments."""
        if isinstance(value, tuple | list):
            return [s for one in value for s in self._slices(one)]
        return [value] if isinstance(value, slice) else []

    def _own(self, tensor: Any) -> bool:
        """Whether a call on the tape has made it, and its memory."""
        owner, _ = getattr(tensor, "taped", (None, -1))
        return owner is self and _memory(self.torch, tensor) not in self._foreign

    def _called(
        self, function: Any, args: tuple[Any, ...], how: dict[str, Any]
    ) -> tuple[Callable[..., Any], tuple[int, ...]]:
        """A function of plain operands, and the places of these."""
        inside = [a for a in args if not isinstance(a, self.torch.Tensor)]
        if not self._tensors((inside, how)):
            plain = partial(function, **how) if how else function
            return plain, tuple(self._place(a) for a in args)
        tensors = self._tensors((args, how))
        whole = self._put((args, how), {id(t): i for i, t in enumerate(tensors)})

        def nested(*given: Any) -> Any:
            filled, options = _filled(whole, given)
            return function(*filled, **options)

        return nested, tuple(self._place(t) for t in tensors)

    def _tensors(self, value: Any) -> list[Any]:
        """Every tensor in arguments."""
        if isinstance(value, tuple | list | dict):
            parts = value.values() if isinstance(value, dict) else value
            return [t for one in parts for t in self._tensors(one)]
        return [value] if isinstance(value, self.torch.Tensor) else []

    def _put(self, value: Any, order: Mapping[int, int]) -> Any:
        """Arguments with numbers in place of tensors."""
        if isinstance(value, self.torch.Tensor):
            return _Hole(order[id(value)])
        if isinstance(value, dict):
            return {k: self._put(v, order) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return type(value)([self._put(v, order) for v in value])
        return value

    def _new(self, tensor: Any) -> int:
        """A place for what a call has made, or for what comes from outside."""
        self._template.append(None)
        if tensor is not None:
            tensor.taped = (self, len(self._template) - 1)
        return len(self._template) - 1

    def _place(self, value: Any) -> int:
        """Where a value lies; what no call has made is a constant."""
        owner, place = getattr(value, "taped", (None, -1))
        if owner is self:
            return int(place)
        found = self._constants.get(id(value))
        if found is None:
            self._constants[id(value)] = found = len(self._template)
            self._template.append(value)
            if isinstance(value, self.torch.Tensor):
                self._foreign.add(_memory(self.torch, value))
        return found


@dataclass(frozen=True)
class _Hole:
    """The place of a tensor in nested arguments."""

    at: int


def _filled(value: Any, given: Sequence[Any]) -> Any:
    if isinstance(value, _Hole):
        return given[value.at]
    if isinstance(value, dict):
        return {k: _filled(v, given) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)([_filled(v, given) for v in value])
    return value


@cache
def _listener(torch: Any) -> Any:
    """The class of those that PyTorch tells each call; one: a class is not freed without gc."""

    class Listening(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __init__(self, heard: Callable[..., Any]) -> None:
            super().__init__()
            self.heard = heard

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return self.heard(function, args, kwargs or {})

    return Listening


def _name(function: Any) -> str:
    """What it is called; for what reads an attribute, the attribute's name."""
    name = str(getattr(function, "__name__", function))
    return str(function.__self__.__name__) if name == "__get__" else name


def _changes(name: str) -> bool:
    """Whether a function of that name writes to its first operand."""
    operator = name.startswith("__i") and name != "__invert__"
    return operator or name == "__setitem__" or (name.endswith("_") and not name.startswith("__"))


def _memory(torch: Any, tensor: Any) -> int:
    """Where its elements lie; -1: nowhere that another tensor could see, as oneDNN's weights."""
    opaque = tensor.layout is not torch.strided or not tensor.numel()
    return -1 if opaque else int(tensor.untyped_storage().data_ptr())


def released(calls: Sequence[Call], kept: set[int]) -> list[Call]:
    """The calls with what each is the last to read or to make."""
    made, seen = list[Call](), set(kept)
    for call in reversed(calls):
        touched = dict.fromkeys((*call.places, *call.out))
        made.append(replace(call, frees=tuple(i for i in touched if i not in seen)))
        seen.update(touched)
    return made[::-1]
