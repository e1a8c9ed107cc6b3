"""A recording as the page's tables and tracks want it (pure)."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from coreml_lab.explain.facts import OpFact, facts
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.metrics import Quantity
from coreml_lab.records import OpInfo, OpSpan, Recording, Run
from coreml_lab.run.split import costs
from coreml_lab.widgets.messages import VERSION, Amount, Code, OpRow, Recorded, Roof, Track

# A page lists so many operations, the longest first, and draws so many blocks.
MOST_OPS, MOST_SPANS = 5_000, 50_000
# Traced runs that are told to choose from, as long as they have this many spans together.
MOST_TRACKS, MOST_OF_TRACKS = 20, 2 * MOST_SPANS
# Lines of code that it shows, and how much around and of each.
MOST_CODE, AROUND, MOST_COLUMNS = 500, 2, 160
IN_CELL = re.compile(r"Cell In\[(\d{1,9})\], line (\d{1,9})")

# Node -> where a chip would run it (estimated), and why.
Places = Mapping[str, tuple[str, str]]
Key = tuple[str, str, str, str]


def amount(quantity: Quantity) -> Amount:
    """A quantity without NaN, which JSON does not know."""
    return {
        "value": _finite(quantity.value),
        "unit": quantity.unit,
        "provenance": quantity.provenance.value,
        "low": _finite(quantity.low),
        "high": _finite(quantity.high),
        "note": legible(quantity.note, SENTENCE),
    }


def recorded(
    recording: Recording, index: int, places: Places, chip: str, cells: Sequence[str] = ()
) -> tuple[Recorded, list[bytes]]:
    """Header and buffer for one recording.

    Args:
        index: its number in this dashboard.
        places: where ``chip`` would run each operation; empty where that is not known.
        cells: the notebook's inputs by number, of a recording that was made in this kernel.
    """
    found = facts(recording)
    traced = [run for run in recording.runs if run.instrumented]
    last = traced[-1] if traced else None
    counts = Counter(map(_key, last.spans)) if last else Counter[Key]()
    infos = {op.name: op for op in recording.program.ops}
    ops = sorted((*found.ops, *found.own_work), key=lambda op: -op.time.value)
    kept = ops[:MOST_OPS]
    place = {_key(op): i for i, op in enumerate(kept)}
    spans, length = _spans(last, place)
    tracks = list(_tracks(traced, place))
    header: Recorded = {
        "k": "recorded",
        "v": VERSION,
        "id": index,
        "name": legible(recording.program.name),
        "title": legible(recording.plan.title),
        "package": recording.program.precision,
        "chip": chip,
        "runs": found.runs,
        "traced": found.traced,
        "n": len(spans),
        "length": length,
        "left_out": len(ops) - len(kept) + (max(0, len(last.spans) - len(spans)) if last else 0),
        "tracks": [track for track, _ in tracks],
        "p50": amount(found.latency.p50),
        "p95": amount(found.latency.p95),
        "ops": [_row(op, counts[_key(op)], infos.get(op.node), places) for op in kept],
        "code": list(_code((op.where for op in kept), cells)),
        "roofs": [_roof(*at) for at in dict.fromkeys((op.engine, op.device) for op in kept)],
    }
    all_spans = np.concatenate([rows for _, rows in tracks] or [spans])
    return header, [all_spans.astype("<f8", copy=False).tobytes()]


def _key(span: OpFact | OpSpan) -> Key:
    return span.node, span.op, span.engine, span.device


def _row(op: OpFact, count: int, info: OpInfo | None, places: Places) -> OpRow:
    placed, why = places.get(op.node, ("", ""))
    return {
        "node": legible(op.node),
        "op": legible(op.op),
        "engine": legible(op.engine),
        "device": legible(op.device),
        "time": op.time.value,
        "share": _finite(op.share.value),
        "count": count,
        "bytes": int(op.bytes.value),
        "weights": int(op.weights.value),
        "memory": None if math.isnan(op.memory.value) else int(op.memory.value),
        "flops": _finite(op.flops.value),
        "moved": _finite(op.moved.value),
        "provenance": op.time.provenance.value,
        "where": legible(op.where),
        "shape": " × ".join(map(str, info.shape)) if info else "",
        "dtype": info.dtype if info else "",
        "fused": [legible(name) for name in op.fused],
        "placed": placed,
        "why": legible(why, SENTENCE),
    }


def _code(wheres: Iterable[str], cells: Sequence[str]) -> Iterator[Code]:
    """The lines of notebook cells that made operations, once each, with their neighbours."""
    for where in itertools.islice(dict.fromkeys(filter(None, wheres)), MOST_CODE):
        found = IN_CELL.fullmatch(where)
        number, line = map(int, found.groups()) if found else (0, 0)
        lines = cells[number].splitlines() if 0 < number < len(cells) else []
        if not 0 < line <= len(lines):
            continue
        first = max(1, line - AROUND)
        shown = [legible(text[:MOST_COLUMNS]) for text in lines[first - 1 : line + AROUND]]
        yield {"where": legible(where), "lines": shown, "first": first, "line": line - first}


def _roof(engine: str, device: str) -> Roof:
    thumb = costs.speed(engine, device)
    return {
        "engine": legible(engine), "device": legible(device),
        "flops": thumb.flops, "memory": thumb.memory,
    }  # fmt: skip


def _spans(run: Run | None, place: Mapping[Key, int]) -> tuple[np.ndarray, float]:
    """Rows of place, start and duration, in the run's own seconds; and how long it took."""
    if run is None:
        return np.empty((0, 3)), 0.0
    rows = [
        (place[_key(s)], (s.start_ns - run.start_ns) / 1e9, s.duration_ns / 1e9)
        for s in run.spans[:MOST_SPANS]
        if _key(s) in place
    ]
    return np.array(rows, float).reshape(-1, 3), run.duration_ns / 1e9


def _tracks(traced: Sequence[Run], place: Mapping[Key, int]) -> Iterator[tuple[Track, np.ndarray]]:
    """The traced runs, the last one first, as far as they are told."""
    told = 0
    for run in reversed(traced[-MOST_TRACKS:]):
        rows, length = _spans(run, place)
        told += len(rows)
        if told > max(len(rows), MOST_OF_TRACKS):
            return
        yield {"run": run.index, "n": len(rows), "length": length}, rows


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
