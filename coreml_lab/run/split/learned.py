"""Costs that recordings have shown, kept in the compile cache of this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from pathlib import Path
from statistics import median

from coreml_lab.metrics import Provenance
from coreml_lab.program.cache import Cache
from coreml_lab.records import Recording
from coreml_lab.run.devices import cpu_name
from coreml_lab.run.engine import Options
from coreml_lab.run.split.costs import Cost, Costs, observed, worst

FILE = "costs.json"
# The form of the keys: what was learned under another one is not read.
FORM = 2
# Recordings whose medians are kept for each kind of operation; a cost is the median of them.
KEPT = 9
# Kinds of operations that are remembered; those learned first go first.
MOST = 20_000
Rows = dict[str, list[tuple[float, str]]]


def costs(cache: Cache) -> Costs:
    """What is known of this machine."""
    return Costs(
        {
            key: Cost(median(s for s, _ in found), worst(Provenance(how) for _, how in found))
            for key, found in _rows(cache).items()
        }
    )


def learn(cache: Cache, recording: Recording) -> int:
    """Keep what a recording shows; returns how many kinds of operations it told something of.

    Raises:
        CacheError: where the cache folder cannot be written.
    """
    model, _ = recording.live or (None, None)
    seen = observed(recording, how(getattr(model, "options", Options())))
    if not seen:
        return 0
    rows = _rows(cache)
    for key, cost in seen.items():
        rows[key] = [*rows.pop(key, []), (cost.seconds, cost.provenance.value)][-KEPT:]
    text = json.dumps(dict(list(rows.items())[-MOST:]))
    found = cache.find(_machine())
    if found is not None:
        found.remove()  # an entry is whole or not there: it is made anew
    cache.put(_machine(), lambda folder: _write(folder, text), title="costs of operations here")
    return len(seen)


def how(options: Options) -> str:
    """The options that change what operations take, in words; "" where all are as usual."""
    told = {
        f"{options.threads} threads": options.threads,
        "faithful": options.faithful,
        "debug": options.debug,
        f"packed {options.packed}": options.packed != Options().packed,
    }
    return ", ".join(name for name, holds in told.items() if holds)


def _write(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text, encoding="utf-8")


def _rows(cache: Cache) -> Rows:
    folder = cache.get(_machine())
    if folder is None:
        return {}
    with contextlib.suppress(OSError):  # another process is making it anew
        rows: Rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return rows
    return {}


def _machine() -> str:
    """The entry of this machine: its processor and system."""
    told = f"{FORM}|{cpu_name()}|{platform.system()}|{platform.machine()}"
    return f"costs-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
