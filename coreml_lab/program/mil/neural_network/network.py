"""A classic network -> operations of MIL, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from coreml_lab.errors import ModelError
from coreml_lab.program.mil.neural_network.registry import LAYERS, Layer, LayerError
from coreml_lab.program.mil.neural_network.values import Blob, as_float
from coreml_lab.program.mil.tools import mb

NETWORKS = {"branch": ("ifBranch", "elseBranch"), "loop": ("conditionNetwork", "bodyNetwork")}
LEAVING = frozenset({"loopBreak", "loopContinue"})
Names = frozenset[str]
Values = dict[str, Blob]


class Network:
    """Writes layers into the block that is open; ``file`` is named in messages."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._named: set[int] = set()

    def run(self, layers: Sequence[Any], values: Values, later: Names) -> None:
        """Write ``layers``; what they make is added to ``values``.

        Args:
            layers: in their order.
            values: by name, what there is.
            later: names that are read behind these layers.

        Raises:
            ModelError: naming the layer, its type and what is wrong.
        """
        for i, each in enumerate(layers):
            kind = each.WhichOneof("layer") or ""
            if kind not in LAYERS:
                raise self._refusal(each, kind, LayerError("there is no such layer type"))
            try:
                if self._layer(LAYERS[kind], each, values, later, layers[i + 1 :]):
                    return
            except ModelError:
                raise
            except Exception as error:  # coremltools raises bare Exceptions of every kind
                raise self._refusal(each, kind, error) from error

    def _layer(
        self, declared: Layer, each: Any, values: Values, later: Names, rest: Sequence[Any]
    ) -> bool:
        """Write one layer; whether it took care of the rest."""
        if declared.nested:
            return bool(declared.body(self, each, values, later, rest))
        self._plain(declared, each, values)
        return False

    def _refusal(self, each: Any, kind: str, error: Exception) -> ModelError:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "convert the model again"
        if kind == "custom":
            hint = "custom layers need the app that brings their code"
        return ModelError(f"{self.file}: layer {each.name!r} ({kind}): {told}", hint=hint)

    def _plain(self, declared: Layer, each: Any, values: Values) -> None:
        if not declared.low <= len(each.input) <= declared.high:
            raise LayerError(f"it has {len(each.input)} inputs")
        given = [read(values, name) for name in each.input]
        hidden = declared.images and bool(given) and all(b.hidden for b in given)
        xs = [b.var if hidden else b.whole for b in given]
        if declared.floats:
            xs = [as_float(x) for x in xs]
        made = declared.body(getattr(each, declared.kind), *xs)
        results = made if isinstance(made, tuple | list) else (made,)
        if len(each.output) > len(results):
            raise LayerError(f"it has {len(each.output)} outputs, there are {len(results)}")
        for name, result in zip(each.output, results, strict=False):
            values[name] = Blob(self._bear(result, name), hidden)

    def _bear(self, result: Any, name: str) -> Any:
        """Give a fresh variable the name that the network has for it."""
        var = mb.const(val=np.asarray(result)) if isinstance(result, np.ndarray) else result
        if var.op is not None and id(var) not in self._named:
            self._named.add(id(var))
            var.name = name
            if len(var.op.outputs) == 1:
                var.op.name = name
        return var

    def known(self, values: Iterable[Blob]) -> None:
        """Leave the names of these variables as they are."""
        self._named.update(id(b.var) for b in values)


def read(values: Values, name: str) -> Blob:
    """The value of that name.

    Raises:
        LayerError: where nothing has made it.
    """
    if name not in values:
        raise LayerError(f"it reads {name!r}, which nothing before it makes")
    return values[name]


def nested(each: Any) -> list[Any]:
    """The networks inside a layer."""
    kind = each.WhichOneof("layer")
    own = getattr(each, kind) if kind in NETWORKS else None
    return [getattr(own, name).layers for name in NETWORKS.get(kind, ())]


def written(layers: Iterable[Any]) -> list[str]:
    """Names that layers make, those inside of them included, in order."""
    found: dict[str, None] = {}
    for each in layers:
        found |= dict.fromkeys(each.output)
        for inner in nested(each):
            found |= dict.fromkeys(written(inner))
    return list(found)


def reads(layers: Iterable[Any]) -> Names:
    """Names that layers read, those inside of them included."""
    found: set[str] = set()
    for each in layers:
        found |= set(each.input)
        for inner in nested(each):
            found |= reads(inner)
        if each.WhichOneof("layer") == "loop":
            found.add(each.loop.conditionVar)
    return frozenset(found)


def leaves(layers: Iterable[Any]) -> bool:
    """Whether layers may leave the loop that they stand in; loops inside are their own affair."""
    return any(
        each.WhichOneof("layer") in LEAVING
        or (each.WhichOneof("layer") == "branch" and any(map(leaves, nested(each))))
        for each in layers
    )


def certain(layers: Iterable[Any]) -> Names:
    """Names that layers make whatever way is taken through them."""
    found: set[str] = set()
    for each in layers:
        if each.WhichOneof("layer") == "branch":
            first, second = map(certain, nested(each))
            found |= first & second
        elif each.WhichOneof("layer") != "loop":
            found |= set(each.output)
        if leaves([each]):
            break
    return frozenset(found)


def early(layers: Iterable[Any]) -> Names:
    """Names that layers read before they make them."""
    made: set[str] = set()
    found: set[str] = set()
    for each in layers:
        if each.WhichOneof("layer") == "loop":
            found |= (round_reads(each.loop) | set(each.input)) - made
            continue
        found |= set(each.input) - made
        for inner in nested(each):
            found |= early(inner) - made
        made |= certain([each])
    return frozenset(found)


def round_reads(p: Any) -> Names:
    """Names that a round of a loop, with its condition behind it, reads before it makes them."""
    body, condition = p.bodyNetwork.layers, p.conditionNetwork.layers
    made = certain(body)
    asked = (early(condition) | ({p.conditionVar} - certain(condition))) - made
    return (early(body) | asked | early(condition)) - {""}
