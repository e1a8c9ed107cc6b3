"""The rows of ``bench_cuda`` as tables, for a terminal and for ``docs/speed.md``.

python -m tests.benchmarks.cuda_table bench_cuda.json [those of further calls]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
LIMIT = 1.05
SHARED = "| network | batch | | ours, ms |"
HEAD = (
    f"{SHARED} best of the others, ms | which | ours / best [95 %] | pairs |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
COMPILED = (
    f"{SHARED} torch.compile, ms | ours / its [95 %] | pairs |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def number(value: float | None) -> str:
    """A ratio, or a dash where there were too few pairs for an interval."""
    return "-" if value is None else f"{value:.3f}"


def measured(rows: Sequence[Row]) -> list[Row]:
    """The rows that compare."""
    return [r for r in rows if r["part"] in {"networks", "compile"} and "best" in r]


def terminal(rows: Sequence[Row]) -> str:
    """One line per network."""
    lines = [f"{'network':<14}{'batch':>5} {'':<5}{'ours ms':>9}{'best ms':>9}  ratio"]
    for row in measured(rows):
        r = row["against"][row["best"]]
        lines.append(
            f"{row['name']:<14}{row['batch']:>5} {row['precision']:<5}{r['ours_ms']:>9.3f}"
            f"{r['theirs_ms']:>9.3f}  {r['ratio']:.3f} [{number(r['low'])}, {number(r['high'])}] "
            f"of {row['best']}: {'met' if row['met'] else f'above {LIMIT}'}"
        )
    return "\n".join(lines)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    """Networks against the best of the others."""
    yield from HEAD
    for row in rows:
        yield _line(row, row["against"][row["best"]], row["best"])


def _compiled(rows: Iterable[Row]) -> Iterator[str]:
    """Networks against torch.compile."""
    yield from ("", *COMPILED)
    for row in rows:
        way = next(way for way in row["against"] if way.startswith("torch.compile"))
        yield _line(row, row["against"][way])


def _line(row: Row, r: Row, *which: str) -> str:
    ratio = f"{r['ratio']:.3f} [{number(r['low'])}, {number(r['high'])}]"
    mine, other = (f"{r[k]:.3f}" for k in ("ours_ms", "theirs_ms"))
    cells = (row["name"], row["batch"], row["precision"], mine, other, *which, ratio, r["pairs"])
    return f"| {' | '.join(map(str, cells))} |"


def markdown(found: Mapping[str, Any]) -> str:
    """The page's tables: networks, torch.compile, scheduler, accuracy."""
    rows: Sequence[Row] = found["rows"]
    lines = [f"{found['gpu']}, PyTorch {found['torch']}, NumPy {found['numpy']}.", ""]
    order = sorted(measured(rows), key=lambda r: (r["name"], r["precision"], r["batch"]))
    lines += _table(r for r in order if r["part"] == "networks")
    compiled = [r for r in order if r["part"] == "compile"]
    lines += _compiled(compiled) if compiled else ()
    missing = {f"{way}: {why}" for r in measured(rows) for way, why in r["unavailable"].items()}
    missing |= {
        f"torch.compile, {r['mode']}, {r['name']}: {r['unavailable']}"
        for r in rows
        if r["part"] == "compile" and isinstance(r.get("unavailable"), str)
    }
    lines += ["", *(f"Unavailable: {why[:200]}." for why in sorted(missing)), ""]
    for r in rows:
        if r["part"] == "scheduler" and "throughput" in r:
            lines.append(
                f"Scheduler, {r['name']} {r['precision']}, 32 callers: "
                f"{r['throughput']:.2f} [{r['low']:.2f}, {r['high']:.2f}] times the throughput of "
                f"one caller after another ({1e3 / r['one_ms']:.0f} inferences/s), p99 "
                f"{r['p99']:.2f} of the {r['budget_ms']:.0f} ms that were allowed, "
                f"{r['pairs']} pairs."
            )
    apart = [(r["name"], r["apart"]) for r in rows if r["part"] == "accuracy" and "apart" in r]
    if apart:
        told = ", ".join(f"{name} {value:.0e}" for name, value in apart)
        lines += ["", f"fp32 against the portable engine, relative to the largest result: {told}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    calls = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    print(markdown({**calls[0], "rows": [row for call in calls for row in call["rows"]]}), end="")
