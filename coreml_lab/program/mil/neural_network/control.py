"""Branches and loops, which MIL has, and the ways to leave a loop, which it has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreml_lab.program.mil.neural_network.network import (
    Names,
    Network,
    Values,
    certain,
    leaves,
    read,
    reads,
    round_reads,
    written,
)
from coreml_lab.program.mil.neural_network.registry import LayerError, layer
from coreml_lab.program.mil.neural_network.values import (
    TRUE,
    Blob,
    as_float,
    as_int,
    is_bool,
    scalar,
    unknown,
)
from coreml_lab.program.mil.tools import is_symbolic, mb

# The value that says that a loop was left; no name in a file can be this one.
BROKEN = "\0broken"


def _truth(x: Any) -> Any:
    """Whether a value of one element is not 0."""
    x = scalar(x)
    return x if is_bool(x) else mb.greater(x=mb.abs(x=as_float(x)), y=np.float32(TRUE))


def _fresh(blob: Blob) -> Any:
    """A value as blocks hand it on: a number, as a variable of its own."""
    return unknown(blob.whole if is_bool(blob.whole) else as_float(blob.whole))


@layer("copy", nested=True)
def copy(_net: Network, each: Any, values: Values, _later: Names, _rest: Any) -> bool:
    """Another name for a value; the only layer that may make a name anew."""
    if len(each.input) != 1 or len(each.output) != 1:
        raise LayerError("it has one input and one output")
    values[each.output[0]] = read(values, each.input[0])
    return False


@layer("loopBreak", nested=True)
def loop_break(_net: Network, _each: Any, values: Values, _later: Names, _rest: Any) -> bool:
    """The loop ends here."""
    values[BROKEN] = Blob(mb.const(val=np.bool_(True)))
    return True


@layer("loopContinue", nested=True)
def loop_continue(_net: Network, _each: Any, _values: Values, _later: Names, _rest: Any) -> bool:
    """The round ends here."""
    return True


@layer("branch", nested=True)
def branch(net: Network, each: Any, values: Values, later: Names, rest: Sequence[Any]) -> bool:
    """One of two networks. Where one of them may leave the loop, what follows moves into both."""
    p = each.branch
    leaving = leaves([each])
    later = later | reads(rest) | ({BROKEN} if leaving else frozenset())
    rest = rest if leaving else []
    paths = [[*p.ifBranch.layers, *rest], [*p.elseBranch.layers, *rest]]
    names = _changed(paths, values, later)
    if not names:
        return leaving

    def path(layers: Sequence[Any]) -> tuple[Any, ...]:
        inner = dict(values)
        net.run(layers, inner, later)
        return tuple(_fresh(read(inner, name)) for name in names)

    given = mb.cond(
        pred=_truth(read(values, each.input[0]).whole),
        _true_fn=lambda: path(paths[0]),
        _false_fn=lambda: path(paths[1]),
    )
    results = given if isinstance(given, tuple | list) else (given,)
    values |= {name: Blob(var) for name, var in zip(names, results, strict=True)}
    return leaving


def _changed(paths: Sequence[Any], values: Values, later: Names) -> list[str]:
    """The names a branch gives a value: those that exist before, or that both ways make."""
    made = [name for path in paths for name in written(path)]
    both = certain(paths[0]) & certain(paths[1])
    every = dict.fromkeys([*made, *([BROKEN] if BROKEN in later else [])])
    return [name for name in every if name in later and (name in values or name in both)]


@layer("loop", nested=True)
def loop(net: Network, each: Any, values: Values, later: Names, rest: Sequence[Any]) -> bool:
    """Rounds of a network, as many as asked for and while its condition holds."""
    Loop(net, each, values, later | reads(rest)).write()
    return False


class Loop:
    """One loop; the condition is decided before it and at the end of each round."""

    def __init__(self, net: Network, each: Any, values: Values, later: Names) -> None:
        p = each.loop
        self.net, self.values = net, values
        self.body, self.condition = list(p.bodyNetwork.layers), list(p.conditionNetwork.layers)
        self.variable = p.conditionVar
        self.limit = self._limit(each, p)
        self.later = later | round_reads(p) | reads(self.condition) | {self.variable}
        self.carried = later | round_reads(p)

    def _limit(self, each: Any, p: Any) -> Any:
        """How many rounds there are at most: a variable, a number, or None for no limit."""
        if each.input:
            return as_int(scalar(read(self.values, each.input[0]).whole))
        if p.maxLoopIterations or not self.variable:
            return np.int32(p.maxLoopIterations)
        return None

    def write(self) -> None:
        """Write it, and put what it makes into ``values``."""
        if self.variable:
            self.net.run(self.condition, self.values, self.later)
        self._prepare()
        made = dict.fromkeys([*written(self.body), *written(self.condition)])
        names = [n for n in made if n in self.carried and n in self.values]
        start = [_fresh(self.values[n]) for n in names]
        going = self._truth(self.values) if self.variable else mb.const(val=np.bool_(True))
        results = mb.while_loop(
            _cond=lambda *v: self._goes_on(v[-2], v[-1]),
            _body=lambda *v: self._round(names, v),
            loop_vars=(*start, unknown(going), unknown(mb.const(val=np.int32(0)))),
        )
        self.values |= {n: Blob(v) for n, v in zip(names, results, strict=False)}

    def _truth(self, values: Values) -> Any:
        return _truth(read(values, self.variable).whole)

    def _prepare(self) -> None:
        """Zeros for what is first made in a round and read behind the loop or by a later round.

        Their shapes are found by writing a round here, of which nothing is used.
        """
        first = [n for n in written(self.body) if n in self.carried and n not in self.values]
        if not first:
            return
        inner = {**self.values, BROKEN: Blob(mb.const(val=np.bool_(False)))}
        self.net.run(self.body, inner, self.later)
        for name in first:
            shape = inner[name].whole.shape if name in inner else None
            if shape is None or any(is_symbolic(d) for d in shape):
                continue
            zeros = np.zeros([int(d) for d in shape], np.float32)
            self.values[name] = Blob(mb.const(val=zeros))

    def _goes_on(self, going: Any, count: Any) -> Any:
        if self.limit is None:
            return mb.identity(x=going)
        return mb.logical_and(x=going, y=mb.less(x=count, y=self.limit))

    def _round(self, names: list[str], given: tuple[Any, ...]) -> tuple[Any, ...]:
        carried = {n: Blob(v) for n, v in zip(names, given, strict=False)}
        self.net.known(carried.values())
        inner = {**self.values, **carried}
        inner[BROKEN] = Blob(mb.const(val=np.bool_(False)))
        self.net.run(self.body, inner, self.later)
        stopped = inner[BROKEN].var
        if self.variable:
            self.net.run(self.condition, inner, self.later)
        going = self._truth(inner) if self.variable else given[-2]
        going = mb.logical_and(x=going, y=mb.logical_not(x=stopped))
        results = [_fresh(inner[n]) for n in names]
        return (*results, going, mb.add(x=given[-1], y=np.int32(1)))
