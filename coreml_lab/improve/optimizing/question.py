"""What a search was about: verdicts on disk are of use to the same question only."""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from coreml_lab.measure.recorder import environment
from coreml_lab.program.graph import Array
from coreml_lab.run import compiler

# What of a metric is looked at: what it calls, what that calls, and so on.
DEEP = 4
PLAIN = (str, bytes, int, float, bool, type(None))


def question(
    model: Any,
    data: Sequence[Mapping[str, Array]],
    goal: str,
    tolerance: float,
    metric: Callable[[Any], float] | None,
) -> str:
    """The same for searches whose verdicts are of use to one another.

    They rest on the model and how it is loaded, the data, the goal, the tolerance, the metric, the
    machine and the versions of what runs there. Pairs and seconds are left out: more of them
    decide what was open, and change nothing of what was decided.
    """
    plan, options = model.plan, getattr(model, "options", None)
    digest = hashlib.sha256(f"{model.info.key} {model.info.function}".encode())
    here = {e.name: found.version for e in compiler.engines() if (found := e.available()).available}
    around = json.dumps({**environment(), **here})
    for part in (plan.engine, plan.device, repr(options), around):
        digest.update(part.encode() + b"\0")
    for each in data:
        for name, array in sorted(each.items()):
            digest.update(name.encode() + b"\0" + _said(array, DEEP))
    digest.update(b"" if metric is None else _said(metric, DEEP))
    return f"{digest.hexdigest()[:32]} {goal} {tolerance!r}"


def _said(value: Any, deep: int) -> bytes:
    """What a value is, in bytes; of what cannot be told by its content, the kind."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    if isinstance(value, PLAIN):
        return repr(value).encode()
    if deep and isinstance(value, types.FunctionType):
        return _function(value, deep - 1)
    inside = _inside(value) if deep else None
    if inside is not None:
        return _all(inside, deep - 1)
    kind = type(value)
    name = getattr(value, "__qualname__", kind.__qualname__)
    said = f"{getattr(value, '__module__', kind.__module__)}.{name}".encode()
    # A metric that is an object: its class' code, and what it holds.
    called = getattr(kind, "__call__", None) if deep == DEEP else None  # noqa: B004 - what, not if
    if isinstance(called, types.FunctionType):
        said += _said(called, deep - 1) + _said(getattr(value, "__dict__", {}), deep - 1)
    return said


def _inside(value: Any) -> Iterable[Any] | None:
    """What a collection holds, or what a method or a partial function is of."""
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    return value if isinstance(value, list | tuple) else None


def _all(values: Iterable[Any], deep: int) -> bytes:
    parts = [_said(each, deep) for each in values]
    return b"".join(f"{len(part)}:".encode() + part for part in parts)


def _function(function: types.FunctionType, deep: int) -> bytes:
    """Its name and code, and what they refer to: defaults, what is closed over, globals."""
    code = function.__code__
    cells = [_held(cell) for cell in function.__closure__ or ()]
    named = [function.__globals__[n] for n in _names(code) if n in function.__globals__]
    name = f"{function.__module__}.{function.__qualname__}"
    refers = (name, function.__defaults__, function.__kwdefaults__, cells, named)
    return _code(code) + _all(refers, deep)


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _code(code: types.CodeType) -> bytes:
    consts = [_code(c) if isinstance(c, types.CodeType) else repr(c).encode() for c in _fixed(code)]
    return b"\0".join([code.co_code, " ".join(code.co_names).encode(), *consts])


def _fixed(code: types.CodeType) -> Iterable[Any]:
    """Constants; those of a set in an order of their own, which differs from process to process."""
    for const in code.co_consts:
        yield sorted(map(repr, const)) if isinstance(const, frozenset) else const


def _names(code: types.CodeType) -> tuple[str, ...]:
    """Names of globals that it and the functions inside it use."""
    inside = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return (*code.co_names, *(name for each in inside for name in _names(each)))
