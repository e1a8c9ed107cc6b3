"""diff(): where two models, or one on two devices, begin to disagree, operation by operation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_lab.errors import LabError
from coreml_lab.explain.agreement import Agreement, agree
from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.shown import Shown
from coreml_lab.program.graph import Array, Value
from coreml_lab.program.naming import common
from coreml_lab.program.program import Program
from coreml_lab.run.compiler import load
from coreml_lab.run.devices import KINDS
from coreml_lab.run.model import Model

MIN_SNR = 60.0
WORST = 10


@dataclass(frozen=True)
class OpDiff:
    """One result of one operation in both models."""

    node: str
    op: str
    agreement: Agreement

    @property
    def snr(self) -> float:
        """Signal to noise in dB; lower where only one side is finite, infinite where identical."""
        if self.agreement.identical:
            return math.inf
        value = self.agreement.snr.value
        return -math.inf if self.agreement.note or math.isnan(value) else value


@dataclass(frozen=True, repr=False)
class Diff(Shown):
    """Every compared operation in order of execution."""

    title: str
    ops: tuple[OpDiff, ...]
    total: int
    min_snr: float

    @property
    def first(self) -> OpDiff | None:
        """The first operation below ``min_snr``."""
        return next((op for op in self.ops if op.snr < self.min_snr), None)

    @property
    def worst(self) -> OpDiff | None:
        """The operation that is furthest apart; none where all are identical."""
        found = min(self.ops, key=lambda op: op.snr)
        return None if found.agreement.identical else found

    @property
    def page(self) -> Page:
        """What the renderers draw."""
        first, worst = self.first, self.worst
        told = f"they part at {first.node} ({first.op})" if first else "no operation disagrees"
        named = [("first", first)] if first else []
        named += [("worst", worst)] if worst else []
        furthest = sorted(self.ops, key=lambda op: op.snr)[:WORST]
        columns = ("operation", "type", "signal to noise", "largest difference", "last places", "")
        return Page(
            f"{self.title}: {told}",
            (
                Table("Disagreement", ("", *columns), tuple((n, *_row(op)) for n, op in named)),
                Table("Furthest apart", columns, tuple(_row(op) for op in furthest)),
            ),
            (
                (
                    f"{len(self.ops)} of the first model's {self.total} results are compared, "
                    f"matched by name and shape; they disagree below {self.min_snr:g} dB."
                ),
                "They have their declared types; each is kept, so that nothing is fused.",
            ),
        )


def diff(
    a: Model | str | Path,
    b: Model | str | Path,
    inputs: Mapping[str, Any],
    *,
    min_snr: float = MIN_SNR,
) -> Diff:
    """Compare two models operation by operation.

    Args:
        a: a model, or its file.
        b: another version of it, or the name of another device.
        inputs: what both are fed.
        min_snr: signal to noise, in dB, below which two results disagree.

    Raises:
        LabError: where no operation of the one is found in the other, or a model has states.
        ModelError: for a file that holds no Core ML program.
    """
    a = load(a) if isinstance(a, str | Path) else a
    other = _other(a, b)
    left, right = results(a, inputs), results(other, inputs)
    ops = []
    for key, (value, array) in left.items():
        if key not in right or right[key][1].shape != array.shape:
            continue
        (found,) = agree({"": array}, {"": right[key][1]})
        ops.append(OpDiff(value.node.name, value.node.op, found))
    if not ops:
        raise LabError(
            f"{a.name} and {other.name} have no operation in common",
            hint="compare two versions of one model",
        )
    return Diff(
        f"{a.name} against {other.name} ({other.plan.title})", tuple(ops), len(left), min_snr
    )


def _other(a: Model, b: Model | str | Path) -> Model:
    """The second model: of a device's name, the first one there; any other text is a file."""
    if isinstance(b, str) and b.partition(":")[0] in KINDS:
        return a.to(b)
    return load(b) if isinstance(b, str | Path) else b


def results(model: Model, inputs: Mapping[str, Any]) -> dict[str, tuple[Value, Array]]:
    """What every operation gives, by a name that does not depend on the precision."""
    if model.states:
        raise LabError(
            f"{model.name} has states: its operations cannot be compared",
            hint="compare its outputs: model.predict(inputs, state=model.make_state())",
        )
    graph = model.program.graph
    values = [Value(node, i) for node in graph.ops for i in range(len(node.types))]
    names = {f"result {i}": value for i, value in enumerate(values)}
    # The key is that of another program: an engine keeps what it makes of it under that key.
    info = dataclasses.replace(model.info, key=f"{model.info.key}-results")
    program = Program(info, model.program.package, dataclasses.replace(graph, outputs=names))
    loaded = model.engine.load(program, model.plan.device, model.options)
    found = loaded.run(model.feeds(inputs))
    return {_key(v): (v, found[name]) for name, v in names.items()}


def _key(value: Value) -> str:
    return f"{value.node.op} {common(value.node.name)} {value.index}"


def _row(found: OpDiff) -> tuple[Cell, ...]:
    told = found.agreement
    note = "identical" if told.identical else told.note
    return (found.node, found.op, told.snr, told.largest, told.ulp, note)
