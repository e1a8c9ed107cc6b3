"""What is behind ``Tensor.numpy()``: tensors are computed when somebody looks at them."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable

from coreml_lab import config
from coreml_lab.program import tracing
from coreml_lab.program.graph import Array, Graph, Value
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.model import Model

KEPT = 256
# Settings that a model is not made with, or that are given besides: any other makes it anew.
ASIDE = frozenset({"device", "deadline", "interval", "cache_limit", "models_dir", "core_watts"})


class Eager:
    """Models of the graphs that were computed last, so that equal code compiles once."""

    def __init__(self, make: Callable[[Graph, str, str], Model]) -> None:
        """Take what makes a model of a graph, for a device and a precision."""
        self._make = make
        self.models: OrderedDict[tuple[str, str, str], Model] = OrderedDict()
        # What stands for settings in the keys is made once for as long as they are in force.
        self._made_with: tuple[config.Config | None, str] = (None, "")
        self._lock = threading.Lock()
        # Two tensors that share a random operation may be looked at in two threads at once.
        self._draws = threading.RLock()

    def evaluate(self, graph: Graph, device: str) -> dict[str, Array]:
        """The outputs of a graph: held data is fed, so equal code compiles once.

        A random operation without a seed is drawn once: whatever is computed from it, now or
        later, sees the same numbers.
        """
        if not tracing.draws(graph):
            return self._evaluate(graph, device)
        with self._draws:
            # Another thread may have drawn in the meantime.
            names = {f"drawn_{i}": node for i, node in enumerate(tracing.draws(graph))}
            more = {name: Value(node) for name, node in names.items()}
            results = self._evaluate(Graph({**graph.outputs, **more}), device)
            tracing.keep({node: results.pop(name) for name, node in names.items()})
        return results

    def _evaluate(self, graph: Graph, device: str) -> dict[str, Array]:
        program, feeds = tracing.bind(graph)
        if not program.ops:
            return {
                k: feeds[v.node.name] if v.node.op == "input" else v.node.attrs["val"]
                for k, v in program.outputs.items()
            }
        settings = config.current()
        key = (program.key(), device, self._settled(settings))
        with self._lock:
            # Equal code may stand in another place, which the error of a debugged run names.
            model = None if settings.debug else self.models.get(key)
        if model is None:
            model = self._make(program, device, settings.precision)
        else:
            ACTIVITY.cache_hits += 1
        with self._lock:
            self.models[key] = model
            self.models.move_to_end(key)
            while len(self.models) > KEPT:
                self.models.popitem(last=False)
        return model.predict(feeds)

    def _settled(self, settings: config.Config) -> str:
        """The settings that a model is made with."""
        known, made = self._made_with
        if known is not settings:
            names = (f.name for f in dataclasses.fields(settings) if f.name not in ASIDE)
            made = repr([getattr(settings, name) for name in names])  # a text knows its hash
            self._made_with = (settings, made)
        return made
